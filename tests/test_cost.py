"""FLOPs of the models and peaks of the hardware, against published figures."""

import jax
import pytest

from mixer_jax.models import registry
from mixer_jax.models.cost import forward_flops
from mixer_jax.runtime import hardware

# Multiply-adds of a forward pass at 224 px without a head, in 10^9. Of B/16 and L/16 others publish 12.61 and 44.57.
GIGA_MACS = {
    "mixer_s32": 1.002,
    "mixer_s16": 3.776,
    "mixer_b32": 3.237,
    "mixer_b16": 12.601,
    "mixer_l32": 11.252,
    "mixer_l16": 44.547,
    "mixer_h14": 120.99,
}


def test_every_variant_is_counted():
    assert set(GIGA_MACS) == set(registry.variants())


@pytest.mark.parametrize("name", GIGA_MACS)
def test_flops_are_twice_the_published_multiply_adds(name):
    assert forward_flops(registry.create_model(name, None), 224) / 2e9 == pytest.approx(GIGA_MACS[name], rel=2e-4)


def test_the_head_adds_a_product():
    without, with_head = (forward_flops(registry.create_model("mixer_b16", classes), 224) for classes in (None, 1000))
    assert with_head - without == 2 * 768 * 1000


@pytest.mark.parametrize("untied", [False, True])
def test_flops_are_those_of_the_compiled_products(untied):
    """XLA counts the products of the lowered program itself; sizes are such that all else is small."""
    model = registry.create_model(
        "mixer",
        100,
        patch_size=8,
        num_blocks=2,
        hidden_dim=256,
        tokens_mlp_dim=512,
        channels_mlp_dim=1024,
        untied_token_mixing=untied,
    )
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), "float32")
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    counted = jax.jit(model.apply).lower(variables, images).cost_analysis()["flops"]
    assert counted == pytest.approx(2 * forward_flops(model, 64), rel=0.05)


def test_a_core_of_tpu_v3_has_half_of_its_chip():
    core = hardware.of("TPU v3")
    assert (core.cores, core.bfloat16_flops, core.memory, core.bandwidth) == (2, 61.5e12, 16 * 2**30, 450e9)


@pytest.mark.parametrize(
    ("kind", "alias"), [("TPU v5 lite", "TPU v5e"), ("TPU v5", "TPU v5p"), ("TPU v6 lite", "TPU v6e")]
)
def test_a_tpu_has_the_name_that_jax_reports_and_its_own(kind, alias):
    assert hardware.of(kind) == hardware.of(alias)
    assert hardware.of(kind).name == alias


def test_an_unknown_device_has_no_peaks():
    assert hardware.of("cpu") is None
    assert hardware.of("NVIDIA H200 NVL") is None  # the same name with more behind it is another card
