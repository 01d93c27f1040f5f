"""The optimizer against NumPy, and the schedules against closed forms at their corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.steps import optimizer as optim

SCHEDULE = {"learning_rate": 0.003, "warmup_steps": 10, "decay": "linear", "end_factor": 1e-5, "total_steps": 110}
OPTIMIZER = {
    "name": "adam",
    "b1": 0.9,
    "b2": 0.999,
    "momentum": 0.9,
    "momentum_dtype": "float32",
    "weight_decay": 0.1,
    "clip_norm": 1.0,
}


@pytest.mark.parametrize(
    ("decay", "at_quarter", "at_half"),
    [("linear", 0.75, 0.5), ("cosine", 0.5 * (1 + np.cos(np.pi / 4)), 0.5)],
)
def test_schedule_at_its_corners(decay, at_quarter, at_half):
    rate = optim.create_schedule(**SCHEDULE | {"decay": decay})
    e, peak = 1e-5, 0.003
    expected = {
        0: 0.0,
        1: 0.1 * peak,  # the decay waits for the warm-up to end
        5: 0.5 * peak,
        10: peak,
        35: peak * (e + (1 - e) * at_quarter),
        60: peak * (e + (1 - e) * at_half),
        110: peak * e,
        1000: peak * e,
    }
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step), value, rtol=2e-5, atol=1e-12, err_msg=f"step {step}")


def test_schedule_is_the_same_traced_and_without_warmup_starts_at_its_peak():
    rate = optim.create_schedule(**SCHEDULE | {"warmup_steps": 0})
    np.testing.assert_allclose(rate(0), 0.003, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(rate)(jnp.int32(55)), rate(55), rtol=1e-6)
    assert rate(0).dtype == jnp.float32


def trees(seed, scale):
    rng = np.random.default_rng(seed)
    shapes = {"Dense_0": {"kernel": (3, 4), "bias": (4,)}, "LayerNorm_0": {"scale": (4,), "bias": (4,)}}
    return jax.tree.map(lambda s: scale * rng.normal(size=s), shapes, is_leaf=lambda s: isinstance(s, tuple))


def reference_updates(params, gradients, rate, o):
    """The chain as section 3 describes it, in float64, with the moments written out."""
    m, v, trajectory = {}, {}, []
    for t, grads in enumerate(gradients):
        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
        for module in params:
            for name in params[module]:
                key = (module, name)
                g = grads[module][name] * (min(1, o["clip_norm"] / norm) if o["clip_norm"] else 1)
                if o["name"] == "adam":
                    m[key] = o["b1"] * m.get(key, 0) + (1 - o["b1"]) * g
                    v[key] = o["b2"] * v.get(key, 0) + (1 - o["b2"]) * g**2
                    m_hat, v_hat = m[key] / (1 - o["b1"] ** (t + 1)), v[key] / (1 - o["b2"] ** (t + 1))
                    direction = m_hat / (np.sqrt(v_hat) + 1e-8)
                else:
                    direction = m[key] = o["momentum"] * m.get(key, 0) + g
                decay = o["weight_decay"] * params[module][name] if name == "kernel" else 0
                params[module][name] = params[module][name] - rate(t) * (direction + decay)
        trajectory.append(jax.tree.map(np.copy, params))
    return trajectory


@pytest.mark.parametrize(
    "changes",
    [{}, {"name": "momentum"}, {"weight_decay": 0.0}, {"clip_norm": 0.0}, {"name": "momentum", "weight_decay": 0.0}],
)
def test_chain_agrees_with_numpy_over_several_steps(changes):
    options = OPTIMIZER | changes
    rate = optim.create_schedule(**SCHEDULE | {"warmup_steps": 3, "total_steps": 8})
    transformation = optim.create_optimizer(**options, schedule=rate)
    params = trees(0, 1.0)
    gradients = [trees(t, scale) for t, scale in enumerate([3.0, 0.01, 1.0, 10.0, 0.1, 1.0], start=1)]  # clipped or not
    expected = reference_updates(jax.tree.map(np.copy, params), gradients, lambda t: float(rate(t)), options)
    actual = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = transformation.init(actual)
    for step, grads in enumerate(gradients):
        grads = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grads)
        updates, state = transformation.update(grads, state, actual)
        actual = jax.tree.map(jnp.add, actual, updates)
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6), actual, expected[step])


def test_a_bfloat16_trace_is_rounded_between_steps_and_not_in_the_update():
    options = OPTIMIZER | {"name": "momentum", "momentum_dtype": "bfloat16", "weight_decay": 0.0, "clip_norm": 0.0}
    transformation = optim.create_optimizer(**options, schedule=lambda _: 1.0)
    state = transformation.init({"kernel": jnp.zeros(100)})
    trace = np.zeros(100)
    for t in range(4):
        gradient = np.random.default_rng(t).normal(size=100).astype(np.float32)
        updates, state = transformation.update({"kernel": jnp.asarray(gradient)}, state)
        expected = 0.9 * trace + gradient
        np.testing.assert_allclose(updates["kernel"], -expected, rtol=1e-5, atol=1e-6)
        trace = np.asarray(jnp.bfloat16(expected), np.float64)
    traces = [x for x in jax.tree.leaves(state) if x.shape == (100,)]
    assert [x.dtype for x in traces] == [jnp.bfloat16]


def test_weight_decay_is_scaled_by_the_learning_rate_and_spares_biases_and_norms():
    rate = optim.create_schedule(**SCHEDULE)
    transformation = optim.create_optimizer(**OPTIMIZER, schedule=rate)
    params = jax.tree.map(lambda x: jnp.ones(x.shape), trees(0, 1.0))
    state = transformation.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):  # the rate of the first step is 0
        updates, state = transformation.update(zeros, state, params)
    np.testing.assert_allclose(updates["Dense_0"]["kernel"], -float(rate(1)) * 0.1, rtol=1e-6)
    for module, name in (("Dense_0", "bias"), ("LayerNorm_0", "scale"), ("LayerNorm_0", "bias")):
        np.testing.assert_array_equal(updates[module][name], 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay": "linaer"}, "config.schedule.decay='linaer' is unknown; did you mean 'linear'"),
        ({"warmup_steps": 110}, "config.schedule.warmup_steps=110 .* less than the 110 training steps"),
    ],
)
def test_wrong_schedules_are_refused_by_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        optim.create_schedule(**SCHEDULE | changes)


def test_a_wrong_optimizer_is_refused_by_key():
    with pytest.raises(ConfigError, match="config.optimizer.name='adma' is unknown; did you mean 'adam'"):
        optim.create_optimizer(**OPTIMIZER | {"name": "adma"}, schedule=lambda _: 0.1)
