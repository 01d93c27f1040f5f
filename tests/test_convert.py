"""The command `convert`, from a run's checkpoint to timm's file at twice the resolution."""

import contextlib
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixer_jax.config import base
from mixer_jax.models import registry, resolution
from mixer_jax.steps import state as state_lib
from mixer_jax.weights.load import load_weights
from mixer_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]


def test_a_checkpoint_becomes_a_timm_file_at_twice_the_resolution(tmp_path):
    config = base.get_config()
    sizes = {"patch_size": 4, "num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 6, "channels_mlp_dim": 16}
    config.model.update({"name": "mixer", **sizes})
    config.data.update({"num_classes": 5, "image_size": 8})
    model = registry.create_model("mixer", 5, **sizes)
    state = state_lib.make_init(model, optax.sgd(0.1, momentum=0.9), image_size=8)(jax.random.key(0))
    state = state.replace(step=jnp.int32(7))
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1, best=None)) as checkpoints:
        checkpoints.save(state, run={"config": config.to_dict()}, metrics={})
    target = tmp_path / "larger.safetensors"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mixer_jax", "convert"),
            *(f"--source={tmp_path}", f"--target={target}", "--resolution=16"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    weights = load_weights(target)
    assert weights.image_size == 16
    expected = resolution.change(jax.device_get(state.params), 16)
    jax.tree.map(np.testing.assert_array_equal, weights.params, expected)
    lines = result.stdout.splitlines()
    assert "18 arrays loaded, 4 block_diagonal, 0 newly initialised, 0 left over" in lines[0]
    assert "  MixerBlock_*/token_mixing/Dense_0/kernel (16, 24): block_diagonal from (4, 6)" in lines
    assert lines[-1].startswith(
        f"wrote {target}: name=mixer, patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=24"
    )
    assert lines[-1].endswith("num_classes=5, 16 pixels")
