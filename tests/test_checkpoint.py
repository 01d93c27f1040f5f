"""Checkpoints: what is kept, what is exact, what a later start finds, and what is made of damaged ones."""

import contextlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax.errors import ConfigError, RunError
from mixer_jax.runtime import mesh
from mixer_jax.steps.state import TrainState, fingerprint, fingerprint_of_arrays
from mixer_jax.workdir.checkpoints import Checkpoints
from mixer_jax.workdir.saved import read_params

TOP1, LOSS = "eval/test/top1", "eval/test/loss"


def state_at(step):
    rng = np.random.default_rng(step)
    params = {"Dense_0": {"kernel": rng.normal(size=(8, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}}
    state = TrainState(step=np.int32(step), params=params, opt_state=(np.int32(step), {"mu": params}))
    return jax.device_put(state, mesh.replicated(mesh.create_mesh()))


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
MESHES = sorted({(DEVICES, 1), (DEVICES // 2, 2), (2, DEVICES // 2), (1, DEVICES), (1, 1)})


def large_state(data, fsdp):
    """Random numbers on a mesh, some of them cut along `fsdp`."""
    noise = np.random.default_rng(0)
    params = {"kernel": noise.normal(size=(64, 256)), "small": noise.normal(size=(64, 8)), "bias": noise.normal(size=9)}
    params = {name: value.astype(np.float32) for name, value in params.items()}
    state = TrainState(step=np.int32(3), params=params, opt_state={"mu": params["kernel"] + 1})
    device_mesh = mesh.create_mesh(jax.devices()[: data * fsdp], fsdp=fsdp)
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


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    # Each of four devices writes a quarter; where one ends, compressed data has bits that mean nothing.
    content[len(content) * 3 // 8] ^= 4
    path.write_bytes(content)


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


# Kind of damage, and the file or folder of the checkpoint that it meets.
DAMAGES = {
    "an array cut short": lambda folder: truncate(largest(folder / "state")),
    "an array garbled": lambda folder: garble(largest(folder / "state")),
    "a bit of an array": lambda folder: flip_a_bit(largest(folder / "state")),
    "an array deleted": lambda folder: largest(folder / "state").unlink(),
    "the tree of the state cut short": lambda folder: truncate(folder / "state" / "_METADATA"),
    "the index garbled": lambda folder: garble(folder / "state" / "manifest.ocdbt"),
    "the run emptied": lambda folder: next((folder / "run").glob("metadata")).write_bytes(b""),
    "the state deleted": lambda folder: shutil.rmtree(folder / "state"),
    "everything emptied": lambda folder: [path.write_bytes(b"") for path in folder.rglob("*") if path.is_file()],
}


def large_state_at(step):
    # Of an array that is too large to lie in Orbax's index, and so outside of the checksums of that.
    noise = np.random.default_rng(step).normal(size=(400, 100)).astype(np.float32)
    return state_at(step).replace(params={"kernel": jax.device_put(noise, mesh.replicated(mesh.create_mesh()))})


def damaged(directory, steps, damage):
    checkpoints = Checkpoints(directory, keep=9, best=None)
    for step in (1, 2, 3):
        checkpoints.save(large_state_at(step), run={"of": step}, metrics={})
    checkpoints.close()
    for step in steps:
        damage(directory / str(step))
    return Checkpoints(directory, keep=9, best=None)


def accept(run):
    assert set(run) == {"of"}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(tmp_path, caplog, damage):
    checkpoints = damaged(tmp_path, [3], damage)
    with caplog.at_level("WARNING", logger="mixer_jax"):
        state, run = checkpoints.restore_newest(abstract(large_state_at(2)), check=accept)
    jax.tree.map(np.testing.assert_array_equal, state, large_state_at(2))
    assert run == {"of": 2}
    (message,) = [record.message for record in caplog.records if record.name == "mixer_jax"]
    reason = r"(cannot be read \(\w+: .+\)|is damaged: its arrays .*)"
    assert re.match(f"{tmp_path}/3 {reason}; it is now 3.damaged", message)
    checkpoints.save(large_state_at(3), run={"of": 3}, metrics={})  # what was damaged is not in the way
    checkpoints.wait()
    state, run = Checkpoints(tmp_path, keep=9, best=None).restore_newest(abstract(large_state_at(3)), check=accept)
    jax.tree.map(np.testing.assert_array_equal, state, large_state_at(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3", "3.damaged"]


def test_the_same_step_can_be_damaged_twice(tmp_path):
    for _ in range(2):
        checkpoints = damaged(tmp_path, [3], DAMAGES["the state deleted"])
        checkpoints.restore_newest(abstract(large_state_at(2)), check=accept)
        shutil.rmtree(tmp_path / "1")
        shutil.rmtree(tmp_path / "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.damaged", "3.damaged-2"]


def test_where_all_checkpoints_are_damaged_they_stay_where_they_are(tmp_path):
    checkpoints = damaged(tmp_path, [1, 2, 3], DAMAGES["an array garbled"])
    with pytest.raises(ConfigError, match="no checkpoint in .* can be read: .*/3 .*/2 .*/1 .*left where they are"):
        checkpoints.restore_newest(abstract(large_state_at(1)), check=accept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]


def test_a_directory_without_checkpoints_has_no_newest_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=None)
    assert checkpoints.restore_newest(abstract(state_at(1)), check=accept) == (None, None)


def test_another_runs_checkpoint_is_not_taken_for_a_damaged_one(tmp_path):
    checkpoints = damaged(tmp_path, [], None)

    def refuse(run):
        raise ConfigError(f"run {run['of']}")

    with pytest.raises(ConfigError, match="run 3"):
        checkpoints.restore_newest(abstract(state_at(1)), check=refuse)


def test_an_evaluation_that_cannot_be_read_costs_no_checkpoint(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=9, best=TOP1)
    for step, value in ((1, 0.1), (2, 0.5), (3, 0.3)):
        save(checkpoints, step, **{TOP1: value})
    checkpoints.close()
    truncate(tmp_path / "2" / "metrics" / "metrics")
    with caplog.at_level("WARNING", logger="mixer_jax"):
        checkpoints = Checkpoints(tmp_path, keep=9, best=TOP1)
    assert "2/metrics/metrics cannot be read" in caplog.text
    assert checkpoints.steps() == [1, 2, 3]
    assert checkpoints.best_step() == 3


def test_reading_alone_leaves_what_another_process_is_saving(tmp_path):
    save(Checkpoints(tmp_path, keep=3, best=None), 1)
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    checkpoints = Checkpoints(tmp_path, keep=1, best=None, read_only=True)
    assert checkpoints.steps() == [1]
    checkpoints.restore_state(1, abstract(state_at(1)))
    assert unfinished.exists()


def test_a_fingerprint_tells_any_bit_and_any_place():
    state = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.zeros((), np.int32)}
    original = int(fingerprint(state))
    assert original == int(fingerprint(jax.device_put(state, jax.devices()[-1])))
    changed = []
    for name, place, bit in [("a", 0, 0), ("a", 0, 31), ("a", 23, 0), ("a", 5, 17), ("b", 0, 31), ("b", 0, 0)]:
        bits = state[name].copy()
        bits.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
        changed.append({**state, name: bits})
    changed.append({**state, "a": state["a"][::-1]})
    changed.append({**state, "a": state["a"].swapaxes(1, 2).reshape(2, 3, 4)})
    for other in changed:
        assert int(fingerprint(other)) != original


def test_the_fingerprint_of_arrays_is_that_of_the_device():
    rng = np.random.default_rng(0)
    tree = {
        "a": {"kernel": rng.normal(size=(3, 5, 7)).astype(np.float32), "bias": np.zeros(0, np.float32)},
        "b": rng.normal(size=(33, 9)).astype(jnp.bfloat16),
        "c": rng.integers(0, 255, (4, 4), np.uint8),
        "d": np.int32(-5),
        "e": np.asfortranarray(rng.normal(size=(6, 4)).astype(np.float32)),
    }
    assert fingerprint_of_arrays(tree) == int(fingerprint(tree))
    params = large_state(1, 1).params
    assert fingerprint_of_arrays(jax.device_get(params)) == int(fingerprint(params))
    if DEVICES >= 4:
        assert fingerprint_of_arrays(jax.device_get(params)) == int(fingerprint(large_state(2, DEVICES // 2).params))


def check_until_it_fails(checkpoints):
    while True:
        checkpoints.check()


def test_a_full_disk_is_named_and_leaves_the_older_checkpoints_whole(tmp_path, file_size_limit):
    checkpoints = Checkpoints(tmp_path, keep=9, best=None)
    checkpoints.save(large_state_at(1), run={}, metrics={})
    checkpoints.wait()
    state = large_state_at(2)
    with file_size_limit(20_000):
        checkpoints.save(state, run={}, metrics={})  # goes on in the background
        with pytest.raises(RunError, match=f"{tmp_path}: a checkpoint cannot be written .*File too large"):
            check_until_it_fails(checkpoints)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep=9, best=None)
    assert checkpoints.steps() == [1]
    restored = checkpoints.restore_state(1, abstract(state))
    jax.tree.map(np.testing.assert_array_equal, restored, large_state_at(1))
    checkpoints.save(state, run={}, metrics={})  # there is room again
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize(("folder", "step"), [("", 10), ("checkpoints/9", 9), ("checkpoints/10", 10)])
def test_parameters_are_read_of_the_newest_or_one_checkpoint_and_nothing_is_touched(folder, step, tmp_path):
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=2, best=None)) as checkpoints:
        save(checkpoints, 9)
        save(checkpoints, 10)
    unfinished = tmp_path / "checkpoints" / "11.orbax-checkpoint-tmp"  # what a run that goes on is saving
    unfinished.mkdir()
    files = sorted(tmp_path.rglob("*"))
    params = read_params(tmp_path / folder)
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {np.ndarray}
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(state_at(step).params))
    assert sorted(tmp_path.rglob("*")) == files


def test_parameters_of_no_or_a_damaged_checkpoint_are_refused_by_folder(tmp_path):
    with pytest.raises(ConfigError, match="holds no checkpoint; expected a work directory or its checkpoints/<step>"):
        read_params(tmp_path)
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=2, best=None)) as checkpoints:
        save(checkpoints, 1)
    for path in (tmp_path / "checkpoints" / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(ConfigError, match="checkpoints/1 cannot be read"):
        read_params(tmp_path)


def saved_large(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=2, best=None)) as checkpoints:
        checkpoints.save(large_state_at(1), run={"config": {}}, metrics={})
    return tmp_path / "checkpoints" / "1"


def test_no_changed_bit_of_a_file_gives_other_parameters(tmp_path):
    folder = saved_large(tmp_path)
    expected = jax.device_get(large_state_at(1).params)
    rng = np.random.default_rng(0)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    refused = 0
    for path in [*files, *[largest(folder / "state")] * 10]:
        whole = path.read_bytes()
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            params = read_params(folder)
        except ConfigError as error:
            refused += "\n" not in str(error)
        else:
            jax.tree.map(np.testing.assert_array_equal, params, expected)
        path.write_bytes(whole)
    assert refused > 5


def test_parameters_that_are_not_those_that_were_saved_are_refused_by_folder(tmp_path):
    folder = saved_large(tmp_path)
    flip_a_bit(largest(folder / "state"))
    with pytest.raises(ConfigError, match="checkpoints/1 is damaged: its parameters are not those that were saved"):
        read_params(tmp_path)


def test_a_checkpoint_from_before_there_was_a_sum_of_parameters_is_read_as_before(tmp_path):
    folder = saved_large(tmp_path)
    record = folder / "run" / "metadata"
    run = json.loads(record.read_text())
    assert run.pop("params_fingerprint") == fingerprint_of_arrays(read_params(tmp_path))
    del run["sha256"]
    record.write_text(json.dumps(run))
    jax.tree.map(np.testing.assert_array_equal, read_params(tmp_path), jax.device_get(large_state_at(1).params))
    assert Checkpoints(tmp_path / "checkpoints", keep=2, best=None).restore_run(1) == {"config": {}}
