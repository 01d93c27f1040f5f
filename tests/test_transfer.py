"""Starting from weights: what a new run takes over, that it stands alone afterwards, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax import rng
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry, resolution
from mixer_jax.runtime import mesh
from mixer_jax.training import run as train
from mixer_jax.training import start as transfer
from mixer_jax.training.program import build_program
from mixer_jax.weights.load import load_weights
from tests.weight_files import save_params


def random_params(seed=3, image_size=8, **changes):
    """Parameters of the tiny model, none of them zero."""
    dimensions = {"num_blocks": 2, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 32}
    model = registry.create_model("mixer", 7, patch_size=4, **dimensions | changes)
    params = model.init(jax.random.key(seed), jnp.zeros((1, image_size, image_size, 3)))["params"]
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), params)


@pytest.fixture
def transfer_config(tiny_config, tmp_path):
    """The tiny recipe at 16 pixels, from a file of weights for 8."""
    save_params(tmp_path / "weights.npz", random_params())
    tiny_config.init_from = str(tmp_path / "weights.npz")
    tiny_config.data.image_size = tiny_config.data.evaluate.resize = 16
    tiny_config.model.tokens_mlp_dim = 32
    tiny_config.steps = 4
    tiny_config.schedule.warmup_steps = 2
    tiny_config.log_every = 2
    tiny_config.eval.every = tiny_config.checkpoint.every = 2
    return tiny_config


def test_the_state_has_the_grown_weights_a_new_head_and_a_new_optimizer(transfer_config, caplog):
    program = build_program(transfer_config)
    new = program.init(rng.key(0, "init"))
    with caplog.at_level("INFO", "mixer_jax"):
        state = transfer.start_from(transfer_config.init_from, new, transfer_config)
    expected = resolution.change(random_params(), 16)
    expected["head"] = {"kernel": np.zeros((16, 10)), "bias": np.zeros(10)}
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)
    assert state.step == 0
    assert all(not np.any(x) for x in jax.tree.leaves(state.opt_state))
    assert "weights for 8 pixels, grown to 16 by the rule of mixer" in caplog.text
    assert "8 block_diagonal, 2 newly initialised, 2 left over" in caplog.text


@pytest.mark.skipif(jax.device_count() % 2, reason="needs several devices")
def test_the_weights_lie_on_the_devices_as_the_state_did(transfer_config):
    larger = {"hidden_dim": 128, "channels_mlp_dim": 128}
    transfer_config.model.update(larger)
    transfer_config.mesh.fsdp = 2
    save_params(transfer_config.init_from, random_params(**larger))
    program = build_program(transfer_config)
    state = transfer.start_from(transfer_config.init_from, program.init(rng.key(0, "init")), transfer_config)
    expected = mesh.state_sharding(program.mesh, program.abstract_state)
    for x, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)
    assert not all(x.is_fully_replicated for x in jax.tree.leaves(state.params))


def test_a_run_from_weights_resumes_without_their_file(transfer_config, tmp_path):
    straight = train.train(transfer_config, tmp_path / "straight")
    train.train(transfer_config, tmp_path / "parts")
    (tmp_path / "parts" / "checkpoints" / "4").rename(tmp_path / "removed")
    (tmp_path / "weights.npz").unlink()
    assert train.train(transfer_config, tmp_path / "parts").metrics == straight.metrics
    with pytest.raises(
        ConfigError, match=r"config.init_from='.*weights.npz', config.data.image_size=16: .*weights.npz"
    ):
        train.train(transfer_config, tmp_path / "new")


def test_a_run_starts_from_another_run(tiny_config, tmp_path):
    tiny_config.steps, tiny_config.schedule.warmup_steps = 2, 1
    train.train(tiny_config, tmp_path / "first")
    tiny_config.init_from = str(tmp_path / "first")
    tiny_config.optimizer.name = "momentum"
    program = build_program(tiny_config)
    state = transfer.start_from(tiny_config.init_from, program.init(rng.key(5, "init")), tiny_config)
    source = load_weights(str(tmp_path / "first" / "checkpoints" / "2")).params
    assert np.any(source["head"]["kernel"])
    assert not np.any(state.params["head"]["kernel"])
    np.testing.assert_array_equal(state.params["stem"]["kernel"], source["stem"]["kernel"])


def test_the_runs_own_work_directory_is_no_place_to_start_from(tiny_config, tmp_path):
    tiny_config.steps, tiny_config.schedule.warmup_steps = 2, 1
    train.train(tiny_config, tmp_path)
    for own in (tmp_path, tmp_path / "checkpoints" / "2"):
        tiny_config.init_from = str(own)
        with pytest.raises(ConfigError, match="is in this run's own --workdir: leave the key out to resume"):
            train.train(tiny_config, tmp_path)


def test_a_run_does_not_change_what_it_started_from(transfer_config, tmp_path):
    train.train(transfer_config, tmp_path / "run")
    transfer_config.init_from = None
    with pytest.raises(ConfigError, match=r"config.init_from=None here, '.*weights.npz' there"):
        train.train(transfer_config, tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "init_from",
            "imagenet1k/Mixer-B16",
            "config.init_from='imagenet1k/Mixer-B16', .*did you mean 'imagenet1k/Mixer-B_16'",
        ),
        ("data.image_size", 12, "config.data.image_size=12: from 8 to 12 pixels is no whole factor"),
        ("model.tokens_mlp_dim", 8, r"image_size=16 needs config.model.tokens_mlp_dim=32 \(8 here\)"),
        ("model.num_blocks", 3, r"needs config.model.num_blocks=2 \(3 here\)"),
        ("model.untied_token_mixing", True, r"needs config.model.untied_token_mixing=False \(True here\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_key(transfer_config, tmp_path, key, value, message):
    transfer_config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        train.train(transfer_config, tmp_path / "run")
