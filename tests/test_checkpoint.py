"""Checkpoints: what is kept, what is exact, and what a later start finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax import mesh
from mixer_jax.checkpoint import Checkpoints
from mixer_jax.config import ConfigError
from mixer_jax.state import TrainState

TOP1, LOSS = "eval/test/top1", "eval/test/loss"


def state_at(step):
    rng = np.random.default_rng(step)
    params = {"Dense_0": {"kernel": rng.normal(size=(8, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}}
    state = TrainState(step=np.int32(step), params=params, opt_state=(np.int32(step), {"mu": params}))
    return jax.device_put(state, mesh.replicated(mesh.create()))


def save(checkpoints, step, **metrics):
    checkpoints.save(state_at(step), run={"config": {}, "core_days": 0.0}, metrics=metrics)
    checkpoints.wait()


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best=None)
    assert checkpoints.latest_step() is None
    for step in (10, 20, 30, 40):
        save(checkpoints, step)
    assert checkpoints.steps() == [30, 40]
    assert checkpoints.latest_step() == 40
    assert checkpoints.best_step() is None


@pytest.mark.parametrize(("best", "values"), [(TOP1, [0.2, 0.9, 0.4, 0.3, 0.5]), (LOSS, [3.0, 1.0, 2.0, 2.5, 2.1])])
def test_the_best_is_kept_beside_the_newest_also_by_a_later_start(tmp_path, best, values):
    for step, value in enumerate(values, start=1):
        checkpoints = Checkpoints(tmp_path, keep=2, best=best)  # each save by a new process's manager
        save(checkpoints, step, **{best: value})
        checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep=2, best=best)
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best_step() == 2


def test_a_checkpoint_that_was_not_evaluated_is_never_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=TOP1)
    save(checkpoints, 1)
    assert checkpoints.best_step() is None
    save(checkpoints, 2, **{TOP1: 0.1})
    save(checkpoints, 3)
    save(checkpoints, 4)
    assert checkpoints.steps() == [2, 4]
    assert checkpoints.best_step() == 2


def test_state_comes_back_bit_for_bit_with_its_shardings_and_run(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=None)
    state = state_at(7)
    checkpoints.save(state, run={"config": {"a": [1, None]}, "core_days": 0.25}, metrics={})
    checkpoints.wait()
    restored = Checkpoints(tmp_path, keep=1, best=None).restore_state(7, abstract(state))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert [x.sharding for x in jax.tree.leaves(restored)] == [x.sharding for x in jax.tree.leaves(state)]
    assert checkpoints.restore_run(7) == {"config": {"a": [1, None]}, "core_days": 0.25}


DEVICES = jax.device_count()
MESHES = [(DEVICES, 1), (DEVICES // 2, 2), (2, DEVICES // 2), (1, DEVICES), (1, 1)]


def large_state(data, fsdp):
    """Random numbers on a mesh, some of them cut along `fsdp`."""
    noise = np.random.default_rng(0)
    params = {"kernel": noise.normal(size=(64, 256)), "small": noise.normal(size=(64, 8)), "bias": noise.normal(size=9)}
    params = {name: value.astype(np.float32) for name, value in params.items()}
    state = TrainState(step=np.int32(3), params=params, opt_state={"mu": params["kernel"] + 1})
    device_mesh = mesh.create(jax.devices()[: data * fsdp], fsdp=fsdp)
    return jax.device_put(state, mesh.state_sharding(device_mesh, state))


@pytest.mark.skipif(DEVICES < 4, reason="needs several devices")
@pytest.mark.parametrize("saved", MESHES)
def test_a_state_comes_back_bit_for_bit_on_any_mesh(tmp_path, saved):
    checkpoints = Checkpoints(tmp_path, keep=1, best=None)
    checkpoints.save(large_state(*saved), run={}, metrics={})
    checkpoints.wait()
    for data, fsdp in MESHES:
        expected = large_state(data, fsdp)
        restored = checkpoints.restore_state(3, abstract(expected))
        jax.tree.map(np.testing.assert_array_equal, restored, expected)
        assert [x.sharding for x in jax.tree.leaves(restored)] == [x.sharding for x in jax.tree.leaves(expected)]
        assert restored.params["kernel"].addressable_shards[0].data.shape == (64, 256 // fsdp)


def test_a_state_that_is_donated_while_it_is_being_saved_is_saved_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=None)
    state = TrainState(step=jnp.int32(1), params={"kernel": jnp.ones((512, 512))}, opt_state=())
    expected = jax.device_get(state)
    target = abstract(state)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 5, s), donate_argnums=0)
    checkpoints.save(state, run={}, metrics={})
    for _ in range(20):
        state = overwrite(state)
    checkpoints.wait()
    jax.tree.map(np.testing.assert_array_equal, checkpoints.restore_state(1, target), expected)


def test_what_a_kill_left_of_an_unfinished_save_is_ignored_and_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3, best=None)
    save(checkpoints, 1)
    checkpoints.close()
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    (unfinished / "state").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, keep=3, best=None)
    assert checkpoints.latest_step() == 1
    save(checkpoints, 2)
    assert checkpoints.steps() == [1, 2]
    assert not unfinished.exists()


def test_keeping_nothing_is_refused_by_key(tmp_path):
    with pytest.raises(ConfigError, match="config.checkpoint.keep=0"):
        Checkpoints(tmp_path, keep=0, best=None)


@pytest.mark.parametrize("damage", ["state", "run", "everything"])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, keep=3, best=None)
    save(checkpoints, 1)
    save(checkpoints, 2)
    for path in (tmp_path / "2").rglob("*"):
        if path.is_file() and (damage == "everything" or damage in path.parts):
            path.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path, keep=3, best=None)
    with pytest.raises(ConfigError, match=r"2 cannot be read \(.*remove that folder to resume from step 1"):
        (checkpoints.restore_run(2), checkpoints.restore_state(2, abstract(state_at(2))))
