"""Weights at another resolution, by what the model computes with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry, resolution
from mixer_jax.weights.load import from_arrays

GRID = 3  # patches along a side of the images before


def create(patch_size, **overrides):
    dimensions = {"num_blocks": 2, "hidden_dim": 24, "tokens_mlp_dim": 10, "channels_mlp_dim": 40}
    return registry.create_model("mixer", 5, patch_size=patch_size, **dimensions | overrides)


def random_params(model):
    """Parameters with every leaf random, biases too, and activations of order 1."""
    size = GRID * model.patch_size
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    rng = np.random.default_rng(0)

    def leaf(x):
        return (rng.standard_normal(x.shape) / np.sqrt(max(np.prod(x.shape[:-1]), 4))).astype(np.float32)

    return jax.tree.map(leaf, shapes)


def images_of(size, n=2):
    return np.random.default_rng(1).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def pre_logits(model, params, images):
    return model.apply({"params": params}, images, intermediates=True)[1]["pre_logits"]


@pytest.mark.parametrize(("patch_size", "untied"), [(16, False), (32, False), (14, False), (16, True)])
def test_pre_logits_of_a_large_image_are_the_mean_over_its_tiles(patch_size, untied):
    model, size = create(patch_size, untied_token_mixing=untied), GRID * patch_size
    params = random_params(model)
    for factor in (2, 3):
        images = images_of(factor * size)
        rows = [np.split(row, factor, axis=2) for row in np.split(images, factor, axis=1)]
        of_tiles = np.stack([pre_logits(model, params, tile) for row in rows for tile in row])
        larger = create(patch_size, untied_token_mixing=untied, tokens_mlp_dim=factor**2 * 10)
        actual = pre_logits(larger, resolution.change(params, factor * size), images)
        np.testing.assert_allclose(actual, of_tiles.mean(0), rtol=0, atol=1e-5)
        assert np.abs(of_tiles - of_tiles.mean(0)).max() > 0.1  # the tiles differ, so the mean says something


def test_every_weight_of_a_block_is_where_the_paper_puts_it():
    params = random_params(create(4))
    changed = resolution.change(params, 24)
    before, after = (tree["MixerBlock_1"]["token_mixing"] for tree in (params, changed))
    # W1' (K^2 D_S, K^2 S) of Appendix C is block-diagonal when the tokens come part after part.
    rows, columns = np.divmod(np.arange(36), 6)
    order = np.lexsort((columns % 3, rows % 3, columns // 3, rows // 3))
    w1 = np.asarray(after["Dense_0"]["kernel"]).T[:, order]
    w2 = np.asarray(after["Dense_1"]["kernel"]).T[order]
    np.testing.assert_array_equal(w1, np.kron(np.eye(4), before["Dense_0"]["kernel"].T))
    np.testing.assert_array_equal(w2, np.kron(np.eye(4), before["Dense_1"]["kernel"].T))
    np.testing.assert_array_equal(after["Dense_0"]["bias"], np.concatenate([before["Dense_0"]["bias"]] * 4))
    np.testing.assert_array_equal(after["Dense_1"]["bias"][order], np.concatenate([before["Dense_1"]["bias"]] * 4))
    assert {array.dtype for array in jax.tree.leaves(changed)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "count"),
    [("mixer_s32", 21_609_504), ("mixer_b16", 86_227_392)],
)
def test_parameter_counts_at_twice_the_resolution_are_those_of_the_rule(name, count):
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(registry.create_model(name, None).init, jax.random.key(0), image)["params"]
    params = resolution.change(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), 448)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_only_token_mixing_changes_and_the_given_parameters_do_not():
    params = random_params(create(4))
    kept = jax.tree.map(np.copy, params)
    changed = flatten_dict(resolution.change(params, 24), sep="/")
    jax.tree.map(np.testing.assert_array_equal, params, kept)
    same = {name for name, array in flatten_dict(params, sep="/").items() if changed[name] is array}
    assert set(changed) - same == {name for name in changed if "token_mixing" in name}


def test_the_same_resolution_changes_nothing():
    params = random_params(create(4))
    assert resolution.change(params, 12) is params
    assert resolution.image_size(params) == 12


@pytest.mark.parametrize("grid", [5, 2])
def test_interpolation_puts_the_old_mlp_between_two_resizes(grid):
    params = random_params(create(4))
    changed = resolution.change(params, 4 * grid, "interpolate")
    before, after = (tree["MixerBlock_0"]["token_mixing"] for tree in (params, changed))
    tokens = np.random.default_rng(2).standard_normal((grid, grid, 24)).astype(np.float32)  # of one image

    def mlp(weights, x):  # (tokens, channels) -> the same
        hidden = np.tanh(x.T @ weights["Dense_0"]["kernel"] + weights["Dense_0"]["bias"])  # any non-linearity will do
        return (hidden @ weights["Dense_1"]["kernel"] + weights["Dense_1"]["bias"]).T

    def resize(x, side):
        return np.asarray(jax.image.resize(x, (side, side, 24), "linear"))

    old = mlp(before, resize(tokens, GRID).reshape(GRID**2, 24)).reshape(GRID, GRID, 24)
    np.testing.assert_allclose(mlp(after, tokens.reshape(-1, 24)), resize(old, grid).reshape(-1, 24), atol=1e-5)


@pytest.mark.parametrize("size", [384, 128])
def test_a_factor_that_is_no_integer_is_refused_with_both_ways_named(size):
    params = random_params(create(16))  # 48 pixels
    params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"] = np.zeros((196, 10), np.float32)  # 224 pixels
    message = rf"from 224 to {size} pixels .*'block_diagonal'.* 448, 672, .*method='interpolate'.* any size"
    with pytest.raises(ConfigError, match=message):
        resolution.change(params, size)


def test_sizes_methods_and_weights_that_do_not_fit_are_refused():
    params = random_params(create(16))
    with pytest.raises(ConfigError, match="image_size=100 is no multiple of patch_size=16; .*that is: 96"):
        resolution.change(params, 100)
    with pytest.raises(ConfigError, match="method='bicubic' is unknown"):
        resolution.change(params, 96, "bicubic")
    params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"] = np.zeros((6, 10), np.float32)
    with pytest.raises(ConfigError, match="images of 6 patches, which are not square"):
        resolution.change(params, 96)


def test_weights_at_a_resolution_say_what_was_done_and_give_their_model():
    weights = from_arrays(flatten_dict(random_params(create(4)), sep="/"), source="a").at_resolution(24)
    assert weights.image_size == 24
    assert weights.create_model() == create(4, tokens_mlp_dim=40)
    assert "8 block_diagonal" in weights.report().splitlines()[0]
    line = "  MixerBlock_*/token_mixing/Dense_0/kernel (36, 40): block_diagonal from (9, 10) (2 times)"
    assert line in weights.report().splitlines()


def test_weights_that_no_machine_holds_are_refused_before_they_are_made():
    with pytest.raises(ConfigError, match=r"weights for 4800000 pixels take [\d,.]+ GiB; this machine has"):
        resolution.change(random_params(create(16)), 4_800_000)
