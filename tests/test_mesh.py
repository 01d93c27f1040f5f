"""The mesh: its axes, what of a state is cut and what is whole, and everything that depends on it on eight devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.runtime import mesh
from mixer_jax.steps import optimizer as optim
from mixer_jax.steps import state
from mixer_jax.training.program import build_program

ROOT = Path(__file__).parents[1]
DEVICES = jax.device_count()


def cut_over(fsdp):
    return AbstractMesh((2, fsdp), ("data", "fsdp"))


@pytest.mark.skipif(DEVICES % 2, reason="needs several devices")
@pytest.mark.parametrize("fsdp", [1, 2, DEVICES])
def test_data_is_what_fsdp_leaves_of_the_devices(fsdp):
    created = mesh.create_mesh(fsdp=fsdp)
    assert dict(created.shape) == {"data": DEVICES // fsdp, "fsdp": fsdp}
    assert list(created.devices.flat) == jax.devices()
    batch = jax.device_put(np.arange(2 * DEVICES), mesh.batch_sharding(created))
    assert [shard.data.tolist() for shard in batch.addressable_shards] == [[2 * i, 2 * i + 1] for i in range(DEVICES)]


@pytest.mark.parametrize("fsdp", [-1, 0, 5, 12])
def test_a_number_that_does_not_divide_the_devices_is_refused_with_those_that_do(fsdp):
    devices = (jax.devices() * 6)[:6]
    with pytest.raises(ConfigError, match=rf"config.mesh.fsdp={fsdp} does not divide 6 devices; .* 1, 2, 3, 6$"):
        mesh.create_mesh(devices, fsdp=fsdp)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((768, 3072), (None, "fsdp")),
        ((3072, 768), ("fsdp",)),
        ((16, 16, 3, 768), (None, None, None, "fsdp")),
        ((196, 384), (None, "fsdp")),
        ((1000, 1012), ("fsdp",)),  # the larger does not divide
        ((1001, 1003), ()),
        ((8191,), ()),
        ((8192,), ("fsdp",)),
        ((), ()),
    ],
)
def test_a_large_array_is_cut_on_its_largest_axis_that_divides(shape, spec):
    assert mesh.state_sharding(cut_over(8), jax.ShapeDtypeStruct(shape, "float32")).spec == PartitionSpec(*spec)
    assert mesh.state_sharding(cut_over(1), jax.ShapeDtypeStruct(shape, "float32")).spec == PartitionSpec()


@pytest.mark.parametrize("name", registry.variants())
def test_the_state_on_a_device_falls_with_fsdp(name):
    schedule = optim.create_schedule(learning_rate=1.0, warmup_steps=0, decay="linear", end_factor=0.0, total_steps=1)
    options = {"b1": 0.9, "b2": 0.999, "momentum": 0.9, "momentum_dtype": "float32"}
    adam = optim.create_optimizer(name="adam", **options, weight_decay=0.1, clip_norm=1.0, schedule=schedule)
    init = state.make_init(registry.create_model(name, 1000), adam, image_size=224)

    def share(fsdp):
        leaves = jax.tree.leaves(state.abstract(init, cut_over(fsdp)))
        return sum(np.prod(x.sharding.shard_shape(x.shape), dtype=int) for x in leaves)

    for fsdp in (2, 4, 8, 16, 32):
        assert share(fsdp) / share(1) == pytest.approx(1 / fsdp, rel=0.1)


def test_a_gathered_parameter_is_itself_and_so_is_its_gradient():
    device_mesh = mesh.create_mesh(fsdp=DEVICES)
    params = {"kernel": jnp.arange(128.0 * 128).reshape(128, 128)}
    params = jax.device_put(params, mesh.state_sharding(device_mesh, params))
    whole, gradient = jax.jit(jax.value_and_grad(lambda p: (mesh.gather(device_mesh, p)["kernel"] ** 2).sum()))(params)
    np.testing.assert_allclose(whole, (np.arange(128.0 * 128) ** 2).sum(), rtol=1e-5)
    np.testing.assert_array_equal(gradient["kernel"], 2 * params["kernel"])
    assert gradient["kernel"].sharding.is_equivalent_to(params["kernel"].sharding, 2)


@pytest.mark.skipif(DEVICES < 2, reason="needs several devices")
def test_the_state_is_created_in_pieces(tiny_config):
    tiny_config.model.hidden_dim = tiny_config.model.channels_mlp_dim = 1024
    tiny_config.mesh.fsdp = DEVICES
    program = build_program(tiny_config)
    whole = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.abstract_state))
    memory = program.init.lower(jax.random.key(0)).compile().memory_analysis()
    assert memory.output_size_in_bytes == pytest.approx(whole / DEVICES, rel=0.1)
    assert memory.temp_size_in_bytes < whole / DEVICES
    created = program.init(jax.random.key(0))
    assert [x.sharding for x in jax.tree.leaves(created)] == [
        x.sharding for x in jax.tree.leaves(program.abstract_state)
    ]


@pytest.mark.skipif(DEVICES == 8, reason="is what it starts")
def test_what_depends_on_the_mesh_on_eight_devices():
    # Both axes longer than one, in training; and a state that is restored on all meshes.
    tests = (
        "tests/test_step.py::test_results_do_not_depend_on_the_mesh[4-2]",
        "tests/test_checkpoint.py::test_a_state_comes_back_bit_for_bit_on_any_mesh[saved1]",
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout
    assert "skipped" not in result.stdout
