"""The steps: the first loss, purity, no second compilation, independence of the number of devices."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax import losses, mesh, models, optim, rng, state, step

CLASSES, SIZE, BATCH = 10, 8, 16


def batch(seed=0, size=BATCH):
    noise = np.random.default_rng(seed)
    return {
        "image": noise.integers(0, 256, (size, SIZE, SIZE, 3), dtype=np.uint8),
        "label": noise.integers(0, CLASSES, size, dtype=np.int32),
        "replaced": np.arange(size) < 3,
    }


def on(device_mesh, arrays):
    return jax.device_put(arrays, mesh.batch_sharding(device_mesh))


def program(devices=None, loss="softmax", mixup=0.0, smoothing=0.0, **model):
    dims = {"patch_size": 2, "num_blocks": 2, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 32}
    model = models.create("mixer", CLASSES, **dims, **model)
    schedule = optim.create_schedule(learning_rate=0.01, warmup_steps=2, decay="linear", end_factor=0.0, total_steps=50)
    optimizer = optim.create(
        name="adam", b1=0.9, b2=0.999, momentum=0.9, weight_decay=0.1, clip_norm=1.0, schedule=schedule
    )
    device_mesh = mesh.create(devices)
    replicated = mesh.replicated(device_mesh)
    init = state.make_init(model, optimizer, image_size=SIZE)
    train_step = step.make_train_step(
        model, optimizer, loss=losses.create(loss, smoothing), schedule=schedule, seed=3, mixup=mixup
    )
    return (
        model,
        device_mesh,
        jax.jit(init, out_shardings=replicated)(rng.key(3, "init")),
        jax.jit(train_step, donate_argnums=0, out_shardings=replicated),
    )


def train(steps, devices=None, **options):
    _, device_mesh, current, train_step = program(devices, **options)
    history = []
    for t in range(steps):
        current, metrics = train_step(current, on(device_mesh, batch(t)))
        history.append(jax.device_get(metrics))
    return current, history


def test_the_first_loss_is_ln_of_the_classes_under_any_augmentation_of_labels():
    for options in ({}, {"mixup": 0.5}, {"smoothing": 0.1}, {"dropout": 0.5, "stoch_depth": 0.5}):
        _, history = train(1, **options)
        np.testing.assert_allclose(history[0]["loss"], np.log(CLASSES), rtol=1e-6)


def test_the_second_step_does_not_compile(caplog):
    _, device_mesh, current, train_step = program(mixup=0.5, dropout=0.1)
    batches = [on(device_mesh, batch(t)) for t in range(4)]
    current, _ = train_step(current, batches[0])
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for t in range(1, 4):
            current, _ = train_step(current, batches[t])
        assert not [r.message for r in caplog.records if "ompil" in r.message]
        jax.jit(lambda x: x + 2)(1.0)  # the log would have shown it
        assert [r.message for r in caplog.records if "ompil" in r.message]
    assert train_step._cache_size() == 1


def test_training_overfits_a_batch():
    _, device_mesh, current, train_step = program()
    first = None
    for _ in range(40):
        current, metrics = train_step(current, on(device_mesh, batch()))
        first = metrics if first is None else first
    assert int(current.step) == 40
    assert metrics["loss"] < 0.5 * first["loss"]
    assert metrics["top1"] > first["top1"]


def test_gradient_norm_and_learning_rate_are_those_of_the_step():
    model, device_mesh, current, train_step = program()
    params = jax.device_get(current.params)
    images = jnp.asarray(batch()["image"], jnp.float32) / 127.5 - 1.0
    labels = batch()["label"]

    def loss(params):
        logits = model.apply({"params": params}, images)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    grads = jax.grad(loss)(params)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(grads)))
    after, metrics = train_step(current, on(device_mesh, batch()))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
    assert metrics["learning_rate"] == 0.0  # warm-up starts at 0: the first update changes nothing
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after.params), params)
    before = jax.device_get(after.params)
    after, metrics = train_step(after, on(device_mesh, batch(1)))
    np.testing.assert_allclose(metrics["learning_rate"], 0.005, rtol=1e-6)
    moved = jax.tree.map(lambda a, b: np.sum(np.square(np.asarray(a, np.float64) - b)), after.params, before)
    np.testing.assert_allclose(metrics["update_norm"], np.sqrt(sum(jax.tree.leaves(moved))), rtol=1e-3)


REGULARISED = {"mixup": 0.3, "dropout": 0.1, "stoch_depth": 0.2, "smoothing": 0.1, "loss": "sigmoid"}


@pytest.mark.skipif(jax.device_count() < 2, reason="needs several devices")
def test_results_do_not_depend_on_the_number_of_devices():
    one, history_of_one = train(5, devices=jax.devices()[:1], **REGULARISED)
    several, history_of_several = train(5, **REGULARISED)
    for a, b in zip(history_of_one, history_of_several, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        jax.device_get(one.params),
        jax.device_get(several.params),
    )


def test_masks_and_mixup_are_a_function_of_the_step():
    _, device_mesh, current, train_step = program(**REGULARISED)
    start = jax.device_get(current)

    def loss_at(t):
        again = jax.device_put(start.replace(step=np.int32(t)), mesh.replicated(device_mesh))
        head = {"kernel": jnp.ones((16, CLASSES)).at[0].set(jnp.arange(10.0)), "bias": jnp.zeros(CLASSES)}
        again = again.replace(params={**again.params, "head": head})
        return float(train_step(again, on(device_mesh, batch()))[1]["loss"])

    assert loss_at(7) == loss_at(7)
    assert loss_at(7) != loss_at(8)


def test_eval_step_sums_over_unmasked_examples():
    model, device_mesh, current, _ = program()
    head = {"kernel": jax.random.normal(jax.random.key(0), (16, CLASSES)), "bias": jnp.zeros(CLASSES)}
    params = {**jax.device_get(current.params), "head": head}
    data = batch()
    mask = (np.arange(BATCH) < 11).astype(np.float32)
    eval_step = jax.jit(step.make_eval_step(model, loss=losses.create("softmax")))
    sums = eval_step(params, on(device_mesh, {**data, "mask": mask}))
    images = data["image"][:11].astype(np.float32) / 127.5 - 1
    logits = np.asarray(model.apply({"params": params}, images), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(sums["loss"], -log_p[np.arange(11), data["label"][:11]].sum(), rtol=1e-4)
    assert int(sums["correct"]) == (logits.argmax(-1) == data["label"][:11]).sum()
    assert int(sums["examples"]) == 11


def test_pixels_are_scaled_to_minus_one_to_one():
    scaled = step.scale_pixels(jnp.array([0, 127, 128, 255], jnp.uint8))
    np.testing.assert_allclose(scaled, [-1, -1 / 255, 1 / 255, 1], atol=1e-7)
