"""The models against the paper's table, an independent NumPy implementation of Eq. (1), and their stated semantics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.mixer import StochasticDepth

# Exact counts at 224 px, without and with a head of 1000 classes; the paper's Table 1 rounds the first to millions.
PARAMETERS = {
    "mixer_s32": (18_591_624, 19_104_624),
    "mixer_s16": (18_015_264, 18_528_264),
    "mixer_b32": (59_524_428, 60_293_428),
    "mixer_b16": (59_111_472, 59_880_472),
    "mixer_l32": (205_914_264, 206_939_264),
    "mixer_l16": (207_171_168, 208_196_168),
    "mixer_h14": (431_069_952, 432_350_952),
}
SMALL = {"patch_size": 4, "num_blocks": 3, "hidden_dim": 24, "tokens_mlp_dim": 10, "channels_mlp_dim": 40}


def small(num_classes=7, **overrides):
    return registry.create_model("mixer", num_classes, **SMALL, **overrides)


def random_variables(model, image_shape=(2, 12, 8, 3), seed=0):
    """Variables with every leaf random, so that a forgotten bias or scale changes the output."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(image_shape))
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return treedef.unflatten([0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


def images(shape=(2, 12, 8, 3), seed=1):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0, maxval=1.0)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_every_variant_is_counted():
    assert set(PARAMETERS) == set(registry.variants())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_papers(name):
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    without, with_head = (
        count(jax.eval_shape(registry.create_model(name, classes).init, jax.random.key(0), image))
        for classes in (None, 1000)
    )
    assert (without, with_head) == PARAMETERS[name]


def test_parameter_tree_has_the_official_names_and_shapes():
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(registry.create_model("mixer_b16", 1000).init, jax.random.key(0), image)["params"]
    shapes = {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}
    expected = {
        "stem/kernel": (16, 16, 3, 768),
        "stem/bias": (768,),
        "pre_head_layer_norm/scale": (768,),
        "pre_head_layer_norm/bias": (768,),
        "head/kernel": (768, 1000),
        "head/bias": (1000,),
    }
    for i in range(12):
        block = f"MixerBlock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            expected |= {f"{block}/{norm}/scale": (768,), f"{block}/{norm}/bias": (768,)}
        for mlp, width, hidden in (("token_mixing", 196, 384), ("channel_mixing", 768, 3072)):
            expected |= {
                f"{block}/{mlp}/Dense_0/kernel": (width, hidden),
                f"{block}/{mlp}/Dense_0/bias": (hidden,),
                f"{block}/{mlp}/Dense_1/kernel": (hidden, width),
                f"{block}/{mlp}/Dense_1/bias": (width,),
            }
    assert shapes == expected
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def reference(params, image, patch, blocks):
    """Eq. (1) and Listing 1 in float64, one image (height, width, 3) at a time, from the formulas alone."""
    p = {name: np.asarray(leaf, np.float64) for name, leaf in flatten_dict(params, sep="/").items()}
    image = np.asarray(image, np.float64)

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[f"{name}/scale"] + p[f"{name}/bias"]

    def mlp(x, name):  # on the columns of x: W2 gelu(W1 x + b1) + b2, where kernels hold transposes of W1 and W2
        hidden = gelu(p[f"{name}/Dense_0/kernel"].T @ x + p[f"{name}/Dense_0/bias"][:, None])
        return p[f"{name}/Dense_1/kernel"].T @ hidden + p[f"{name}/Dense_1/bias"][:, None]

    tokens = []
    for top in range(0, image.shape[0], patch):
        for left in range(0, image.shape[1], patch):
            pixels = image[top : top + patch, left : left + patch].reshape(-1)
            tokens.append(pixels @ p["stem/kernel"].reshape(len(pixels), -1) + p["stem/bias"])
    x = np.stack(tokens)  # (tokens, channels)
    for i in range(blocks):
        x = x + mlp(norm(x, f"MixerBlock_{i}/LayerNorm_0"), f"MixerBlock_{i}/token_mixing")
        x = x + mlp(norm(x, f"MixerBlock_{i}/LayerNorm_1").T, f"MixerBlock_{i}/channel_mixing").T
    pooled = norm(x, "pre_head_layer_norm").mean(0)
    return pooled, pooled @ p["head/kernel"] + p["head/bias"]


def test_forward_pass_agrees_with_the_equations():
    model, x = small(), images()
    variables = random_variables(model)
    logits, named = model.apply(variables, x, intermediates=True)
    for i in range(len(x)):
        pooled, expected = reference(variables["params"], x[i], patch=4, blocks=3)
        np.testing.assert_allclose(named["pre_logits"][i], pooled, rtol=0, atol=1e-5 * np.abs(pooled).max())
        np.testing.assert_allclose(logits[i], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_forward_pass_of_a_variant_agrees_with_the_equations():
    model, x = registry.create_model("mixer_s32", 5), images((1, 64, 96, 3))
    variables = model.init(jax.random.key(0), x)
    head = 0.05 * jax.random.normal(jax.random.key(3), (512, 5))
    variables["params"]["head"]["kernel"] = head
    _, expected = reference(variables["params"], x[0], patch=32, blocks=8)
    np.testing.assert_allclose(model.apply(variables, x)[0], expected, rtol=0, atol=1e-5)


def test_tied_weights_copied_to_every_channel_make_the_untied_model_equal():
    tied, untied, x = small(), small(untied_token_mixing=True), images()
    variables = random_variables(tied)
    copied = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.stack([leaf] * 24) if any(k.key == "token_mixing" for k in path) else leaf, variables
    )
    np.testing.assert_allclose(tied.apply(variables, x), untied.apply(copied, x), rtol=1e-5, atol=1e-5)


def test_untied_channels_have_weights_of_their_own():
    model, x = small(untied_token_mixing=True), images()
    kernel = model.init(jax.random.key(0), x)["params"]["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"]
    assert kernel.shape == (24, 6, 10)
    assert not np.allclose(kernel[0], kernel[1])


def test_intermediates_are_named_and_belong_to_the_logits():
    model, x = small(), images()
    variables = random_variables(model)
    logits, named = model.apply(variables, x, intermediates=True)
    tokens = (2, 6, 24)
    assert {name: value.shape for name, value in named.items()} == {
        "stem": tokens,
        "block_0": tokens,
        "block_1": tokens,
        "block_2": tokens,
        "pre_logits": (2, 24),
        "logits": (2, 7),
    }
    np.testing.assert_array_equal(named["logits"], logits)
    np.testing.assert_array_equal(model.apply(variables, x), logits)


def test_without_a_head_the_output_is_pre_logits():
    headed, headless, x = small(), small(num_classes=None), images()
    variables = random_variables(headed)
    body = {"params": {k: v for k, v in variables["params"].items() if k != "head"}}
    _, named = headed.apply(variables, x, intermediates=True)
    np.testing.assert_array_equal(headless.apply(body, x), named["pre_logits"])


def test_head_starts_at_a_zero_kernel_and_the_bias_asked_for():
    model, x = small(head_bias=-6.9), images()
    logits = model.apply(model.init(jax.random.key(0), x), x)
    np.testing.assert_array_equal(logits, np.full((2, 7), np.float32(-6.9)))


def test_compute_dtype_changes_activations_and_leaves_parameters_float32():
    model, x = small(dtype="bfloat16"), images()
    variables = random_variables(model)
    logits, named = model.apply(variables, x, intermediates=True)
    assert named.pop("logits").dtype == jnp.float32
    assert {value.dtype for value in named.values()} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(model.init(jax.random.key(0), x))} == {jnp.dtype("float32")}
    exact = small().apply(variables, x)
    error = np.abs(np.asarray(logits, np.float32) - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_leaves_parameters_and_outputs_as_they_are(remat):
    x = images()
    plain, variables = small(), random_variables(small(remat=remat))
    assert jax.tree.structure(variables) == jax.tree.structure(random_variables(plain))
    logits, named = small(remat=remat).apply(variables, x, intermediates=True)
    np.testing.assert_allclose(logits, plain.apply(variables, x), rtol=1e-6)
    assert set(named) == set(plain.apply(variables, x, intermediates=True)[1])


def test_stochastic_depth_rates_grow_linearly_over_the_mlps(monkeypatch):
    seen = []
    original = StochasticDepth.__call__

    def record(self, x, deterministic):
        seen.append(self.rate)
        return original(self, x, deterministic)

    monkeypatch.setattr(StochasticDepth, "__call__", record)
    model = small(stoch_depth=0.3)
    model.init(jax.random.key(0), images())
    np.testing.assert_allclose(seen, np.linspace(0, 0.3, 6), rtol=1e-12)


def test_stochastic_depth_drops_whole_branches_of_examples_without_rescaling():
    x = jnp.ones((20_000, 2, 3))
    y = StochasticDepth(0.25).apply({}, x, False, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, 1.0}
    per_example = np.asarray(y).reshape(20_000, 6)
    assert (per_example == per_example[:, :1]).all()
    kept = per_example[:, 0].mean()
    assert abs(kept - 0.75) < 4 * np.sqrt(0.25 * 0.75 / 20_000)  # four standard deviations
    np.testing.assert_array_equal(StochasticDepth(0.25).apply({}, x, True), x)


@pytest.mark.parametrize("regularisation", [{"dropout": 0.5}, {"stoch_depth": 0.5}])
@pytest.mark.parametrize("untied", [False, True])
def test_regularisation_acts_in_training_alone_and_follows_its_key(regularisation, untied):
    model, x = small(**regularisation, untied_token_mixing=untied), images()
    variables = random_variables(model)
    plain = small(untied_token_mixing=untied)
    np.testing.assert_array_equal(model.apply(variables, x), plain.apply(variables, x))

    def train(key):
        return np.asarray(model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(key)}))

    np.testing.assert_array_equal(train(0), train(0))
    assert not np.allclose(train(0), train(1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 226, 224, 3), r"226x224 is no multiple of patch_size=16.*224x224"),
        ((1, 224, 100, 3), r"224x100 is no multiple of patch_size=16.*224x96"),
        ((224, 224, 3), r"\(224, 224, 3\); expected \(n, height, width, channels\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_name(shape, message):
    with pytest.raises(ValueError, match=message):
        registry.create_model("mixer_b16", 10).init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mixer_b61", {}, r"config.model.name='mixer_b61' is unknown; did you mean 'mixer_b16'"),
        ("mixer", {"patch_size": 4}, r"config.model.num_blocks is missing"),
        ("mixer_b16", {"hiden_dim": 4}, r"config.model.hiden_dim=4 .*did you mean 'hidden_dim'"),
        ("mixer_b16", {"hidden_dim": 0}, r"config.model.hidden_dim=0; expected an integer from 1 to 1,048,576"),
        ("mixer_b16", {"patch_size": 16.0}, r"config.model.patch_size=16.0; expected an integer from 1"),
        ("mixer_b16", {"num_blocks": True}, r"config.model.num_blocks=True; expected an integer from 1"),
        ("mixer_b16", {"dropout": "0.1"}, r"config.model.dropout='0.1'; expected a number from 0 below 1"),
        ("mixer_b16", {"dtype": jnp.int32}, r"config.model.dtype='int32' is unknown"),
        (None, {}, r"config.model.name=None is unknown"),
        ("mixer_b16", {"dropout": 1.0}, r"config.model.dropout=1.0; expected a number from 0 below 1"),
        ("mixer_b16", {"remat": "dot"}, r"config.model.remat='dot' is unknown; did you mean 'dots'"),
        ("mixer_b16", {"stoch_depth": -0.1}, r"config.model.stoch_depth=-0.1"),
        ("mixer_b16", {"dtype": "bfloat61"}, r"config.model.dtype='bfloat61' is unknown; did you mean 'bfloat16'"),
    ],
)
def test_wrong_models_are_refused_by_key(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        registry.create_model(name, 10, **overrides)


def test_number_of_classes_must_be_positive():
    with pytest.raises(ConfigError, match="num_classes=0"):
        registry.create_model("mixer_b16", 0)


def test_overrides_change_a_variant_and_none_keeps_it():
    model = registry.create_model("mixer_b16", 10, patch_size=None, num_blocks=2)
    assert (model.patch_size, model.num_blocks, model.hidden_dim) == (16, 2, 768)
