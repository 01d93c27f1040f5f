"""Losses, mixup and metrics against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.runtime import mesh
from mixer_jax.steps import losses, metrics
from mixer_jax.steps.mixup import mixup

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 5)) * 3
TARGETS = RNG.dirichlet(np.ones(5), size=6)


def softmax_reference(logits, labels):
    return (-labels * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1)


def sigmoid_reference(logits, labels):
    p = 1 / (1 + np.exp(-logits))
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(-1)


REFERENCES = {"softmax": softmax_reference, "sigmoid": sigmoid_reference}


def float32(*arrays):
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", REFERENCES)
def test_losses_agree_with_numpy(name, smoothing):
    smoothed = (1 - smoothing) * TARGETS + smoothing / 5
    actual = losses.create_loss(name, smoothing)(*float32(LOGITS, TARGETS))
    np.testing.assert_allclose(actual, REFERENCES[name](LOGITS, smoothed), rtol=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_losses_of_bfloat16_logits_are_computed_in_float32(name):
    rounded = jnp.asarray(LOGITS, jnp.bfloat16)
    actual = losses.create_loss(name)(rounded, *float32(TARGETS))
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, REFERENCES[name](np.asarray(rounded, np.float64), TARGETS), rtol=1e-5)


def test_losses_at_a_zero_head_have_their_closed_forms():
    one_hot = jax.nn.one_hot(jnp.array([3]), 1000)
    np.testing.assert_allclose(losses.create_loss("softmax")(jnp.zeros((1, 1000)), one_hot), np.log(1000), rtol=1e-6)
    bias = -6.9
    expected = 1000 * np.log1p(np.exp(bias)) - bias
    np.testing.assert_allclose(losses.create_loss("sigmoid")(jnp.full((1, 1000), bias), one_hot), expected, rtol=1e-5)


def test_a_wrong_loss_is_refused_by_key():
    with pytest.raises(ConfigError, match="config.loss.name='sofmax' is unknown; did you mean 'softmax'"):
        losses.create_loss("sofmax")


def mixup_inputs(n=8):
    images = RNG.normal(size=(n, 4, 4, 3)).astype(np.float32)
    return images, np.eye(n, dtype=np.float32)


def test_mixup_blends_each_example_with_the_one_before_it():
    images, labels = mixup_inputs()
    mixed, mixed_labels = mixup(jax.random.key(0), images, labels, 0.5)
    a = np.diag(mixed_labels)[0]  # the labels are one-hot and distinct, so they tell the coefficient
    assert 0.5 <= a < 1.0
    np.testing.assert_allclose(mixed, a * images + (1 - a) * np.roll(images, 1, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixed_labels, a * labels + (1 - a) * np.roll(labels, 1, axis=0), rtol=1e-6)


def test_mixup_coefficients_are_the_larger_side_of_a_beta_distribution():
    images, labels = mixup_inputs(2)
    draw = jax.jit(jax.vmap(lambda key: mixup(key, images, labels, 0.5)[1][0, 0]))
    a = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    # Beta(1/2, 1/2) is the arcsine law: P(max(b, 1 - b) <= x) = (4 / pi) asin(sqrt(x)) - 1 for x in [1/2, 1].
    for x in (0.6, 0.75, 0.9, 0.99):
        expected = 4 / np.pi * np.arcsin(np.sqrt(x)) - 1
        assert abs((a <= x).mean() - expected) < 0.015


def test_mixup_pairs_over_the_global_batch_on_any_number_of_devices():
    images, labels = mixup_inputs()
    expected = mixup(jax.random.key(1), images, labels, 0.2)
    sharding = mesh.batch_sharding(mesh.create_mesh())
    sharded = (jax.device_put(images, sharding), jax.device_put(labels, sharding))
    actual = jax.jit(lambda *x: mixup(jax.random.key(1), *x, 0.2))(*sharded)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6), actual, expected)


def test_metrics_add_up_over_padded_batches_and_are_divided_once():
    logits, labels = RNG.normal(size=(7, 4)), RNG.integers(0, 4, 7)
    values = RNG.uniform(size=7)
    total = {"loss": 0.0, "correct": 0, "examples": 0}
    for first in (0, 4):
        part = np.arange(first, min(first + 4, 7))
        pad = np.concatenate([part, np.zeros(4 - len(part), int)])
        mask = np.arange(4) < len(part)
        losses_of_batch = np.where(mask, values[pad], np.nan)  # what padding holds must not matter
        sums = metrics.classification_sums(
            *float32(logits[pad]), jnp.asarray(labels[pad]), *float32(losses_of_batch, mask)
        )
        total = {k: total[k] + sums[k] for k in total}
    result = metrics.means(total)
    assert result["examples"] == 7
    assert result["top1"] == (logits.argmax(1) == labels).mean()
    np.testing.assert_allclose(result["loss"], values.mean(), rtol=1e-6)
