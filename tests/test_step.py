"""The steps: the first loss, purity, no second compilation, independence of the mesh and of accumulation."""

import functools
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixer_jax import rng
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.runtime import mesh
from mixer_jax.steps import losses, state
from mixer_jax.steps import optimizer as optim
from mixer_jax.steps.infer_steps import make_eval_step, scale_pixels
from mixer_jax.steps.train_step import make_train_step

CLASSES, SIZE, BATCH = 10, 8, 16
OPTIMIZER = {
    "name": "adam",
    "b1": 0.9,
    "b2": 0.999,
    "momentum": 0.9,
    "momentum_dtype": "float32",
    "weight_decay": 0.1,
    "clip_norm": 1.0,
}


def batch(seed=0, size=BATCH):
    noise = np.random.default_rng(seed)
    return {
        "image": noise.integers(0, 256, (size, SIZE, SIZE, 3), dtype=np.uint8),
        "label": noise.integers(0, CLASSES, size, dtype=np.int32),
        "replaced": np.arange(size) < 3,
        "damaged": np.arange(size) < 2,
    }


def on(device_mesh, arrays):
    return jax.device_put(arrays, mesh.batch_sharding(device_mesh))


def program(
    devices=None,
    fsdp=1,
    optimizer=None,
    loss="softmax",
    mixup=0.0,
    smoothing=0.0,
    nonfinite="stop",
    accumulation_steps=1,
    **model,
):
    dims = {"patch_size": 2, "num_blocks": 2, "hidden_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 32}
    model = registry.create_model("mixer", CLASSES, **(dims | model))
    schedule = optim.create_schedule(learning_rate=0.01, warmup_steps=2, decay="linear", end_factor=0.0, total_steps=50)
    optimizer = optimizer or optim.create_optimizer(**OPTIMIZER, schedule=schedule)
    device_mesh = mesh.create_mesh(devices, fsdp=fsdp)
    init = state.make_init(model, optimizer, image_size=SIZE)
    sharding = jax.tree.map(lambda x: x.sharding, state.abstract(init, device_mesh))
    train_step = make_train_step(
        model,
        optimizer,
        loss=loss if callable(loss) else losses.create_loss(loss, smoothing),
        schedule=schedule,
        seed=3,
        mixup=mixup,
        nonfinite=nonfinite,
        accumulation_steps=accumulation_steps,
        gather=functools.partial(mesh.gather, device_mesh),
    )
    return (
        model,
        device_mesh,
        jax.jit(init, out_shardings=sharding)(rng.key(3, "init")),
        jax.jit(train_step, donate_argnums=0, out_shardings=(sharding, mesh.replicated(device_mesh))),
    )


def train(steps, devices=None, **options):
    _, device_mesh, current, train_step = program(devices, **options)
    history = []
    for t in range(steps):
        current, metrics = train_step(current, on(device_mesh, batch(t)))
        history.append(jax.device_get(metrics))
    return current, history


def with_a_head(current):
    """The state with a head that is not 0, so that every parameter has a gradient."""
    kernel = current.params["head"]["kernel"]
    kernel = jax.device_put(jax.random.normal(jax.random.key(1), kernel.shape), kernel.sharding)
    return current.replace(params={**current.params, "head": {**current.params["head"], "kernel": kernel}})


def compiled(**options):
    _, device_mesh, current, train_step = program(**options)
    return train_step.lower(current, on(device_mesh, batch())).compile()


def test_the_first_loss_is_ln_of_the_classes_whatever_is_mixed_and_the_second_step_does_not_compile(caplog):
    _, device_mesh, current, train_step = program(mixup=0.5, smoothing=0.1, dropout=0.5, stoch_depth=0.5)
    batches = [on(device_mesh, batch(t)) for t in range(4)]
    current, metrics = train_step(current, batches[0])
    np.testing.assert_allclose(metrics["loss"], np.log(CLASSES), rtol=1e-6)
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
    np.testing.assert_allclose(first["loss"], np.log(CLASSES), rtol=1e-6)
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


# A kernel of a channel-mixing MLP is just large enough to be cut.
WIDE = {**REGULARISED, "num_blocks": 1, "hidden_dim": 64, "channels_mlp_dim": 128}
DEVICES = jax.device_count()


@pytest.fixture(scope="module")
def one_device():
    return train(5, devices=jax.devices()[:1], **WIDE)


@pytest.mark.skipif(DEVICES < 4, reason="needs several devices")
@pytest.mark.parametrize(("fsdp", "accumulation_steps"), [(1, 1), (DEVICES // 2, 2), (DEVICES, 1)])
def test_results_do_not_depend_on_the_mesh(one_device, fsdp, accumulation_steps):
    one, history_of_one = one_device
    several, history = train(5, fsdp=fsdp, accumulation_steps=accumulation_steps, **WIDE)
    for a, b in zip(history_of_one, history, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
        np.testing.assert_allclose(a["grad_norm"], b["grad_norm"], rtol=1e-4)
        assert a["top1"] == b["top1"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        jax.device_get(one.params),
        jax.device_get(several.params),
    )
    adam = several.opt_state[1]
    for tree in (several.params, adam.mu, adam.nu):
        kernel = tree["MixerBlock_0"]["channel_mixing"]["Dense_0"]["kernel"]
        assert kernel.addressable_shards[0].data.shape == (64, 128 // fsdp)


@pytest.mark.skipif(DEVICES < 4, reason="needs several devices")
def test_parameters_move_between_devices_and_activations_do_not():
    text = compiled(fsdp=DEVICES // 2, accumulation_steps=2, **WIDE).as_text()
    moved = re.findall(r"= \w+\[([\d,]*)\]\S* (all-gather|all-to-all|collective-permute)\(", text)
    assert {shape for shape, how in moved if how == "all-gather"} == {"64,128", "128,64"}
    # Mixup's partner of the first example of a device, and its label.
    assert {shape for shape, how in moved if how != "all-gather"} == {f"1,{SIZE},{SIZE},3", f"1,{CLASSES}"}


MASKED = {**REGULARISED, "dropout": 0.5, "stoch_depth": 0.5}


@functools.cache
def gradient(**options):
    """The gradient and the metrics of a first step; the trace of momentum SGD that forgets at once is the gradient."""
    _, device_mesh, current, train_step = program(optimizer=optax.trace(decay=0.0), **MASKED, **options)
    after, metrics = train_step(with_a_head(current), on(device_mesh, batch()))
    return jax.device_get((after.opt_state.trace, metrics))


def assert_gradients_agree(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = np.abs(x).max()
        assert scale > 1e-4
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("parts", "model"), [(2, {}), (4, {"untied_token_mixing": True})])
def test_accumulation_gives_the_gradient_and_the_metrics_of_the_whole_batch(parts, model):
    whole, metrics = gradient(**model)
    accumulated, metrics_of_parts = gradient(accumulation_steps=parts, **model)
    assert_gradients_agree(whole, accumulated)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], metrics_of_parts[name], rtol=1e-5)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_gives_the_same_gradient(remat):
    assert_gradients_agree(gradient()[0], gradient(remat=remat)[0])


def test_rematerialisation_and_accumulation_take_less_memory():
    options = {"devices": jax.devices()[:1], "hidden_dim": 32, "channels_mlp_dim": 128}
    none, dots, full = (compiled(remat=remat, **options) for remat in ("none", "dots", "full"))
    parts = compiled(accumulation_steps=4, **options)
    flops = [program.cost_analysis()["flops"] for program in (none, dots, full)]
    assert flops[0] < flops[1] < flops[2]
    none, dots, full, parts = (p.memory_analysis().temp_size_in_bytes for p in (none, dots, full, parts))
    assert parts < none
    assert max(dots, full) <= none  # on a CPU, some versions of XLA need as much for what comes besides the blocks


@pytest.mark.parametrize("masks", [{"dropout": 0.5}, {"stoch_depth": 0.5}])
def test_examples_have_masks_of_their_own(masks):
    def spread(logits, labels):
        each = losses.create_loss("softmax")(logits, labels)
        return jnp.abs(each - each.mean())

    def spread_of_copies(**masks):
        _, device_mesh, current, train_step = program(jax.devices()[:1], loss=spread, **masks)
        same = {name: np.repeat(values[:1], BATCH, axis=0) for name, values in batch().items()}
        _, metrics = train_step(with_a_head(current), on(device_mesh, same))
        return metrics["loss"]

    assert spread_of_copies(**masks) > 1e-3


def test_masks_and_mixup_are_a_function_of_the_step():
    _, device_mesh, current, train_step = program(**REGULARISED)
    start = jax.device_get(current)

    def loss_at(t):
        again = jax.device_put(start.replace(step=np.int32(t)), mesh.replicated(device_mesh))
        return float(train_step(with_a_head(again), on(device_mesh, batch()))[1]["loss"])

    assert loss_at(7) == loss_at(7)
    assert loss_at(7) != loss_at(8)


def poisoned(size):
    """A batch whose labels are all 7, which the losses below do not take."""
    return {**batch(size=size), "label": np.full(size, 7, np.int32)}


def loss_that_is_not_finite(logits, labels):
    return jnp.where(labels[:, 7].all(), jnp.inf, losses.create_loss("softmax")(logits, labels))


def loss_whose_gradient_is_not_finite(logits, labels):
    zero = jnp.where(labels[:, 7].all(), 0.0, 1.0) * (1.0 + jnp.square(logits).sum(axis=1))
    return losses.create_loss("softmax")(logits, labels) + jnp.sqrt(zero)


POISON = pytest.mark.parametrize("loss", [loss_that_is_not_finite, loss_whose_gradient_is_not_finite])


def states_and_metrics(batches, **options):
    _, device_mesh, current, train_step = program(**options)
    for data in batches:
        current, metrics = train_step(current, on(device_mesh, data))
        yield jax.device_get((current, metrics))


@POISON
def test_from_a_step_that_is_not_finite_on_the_state_stays_as_it_was(loss):
    batches = [batch(0), batch(1), poisoned(BATCH), batch(3), batch(4)]
    (_, second, *later) = states_and_metrics(batches, loss=loss, nonfinite="stop")
    before, metrics = second
    assert metrics["skipped_updates"] == 0
    for count, (after, metrics) in enumerate(later, start=1):
        jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
        jax.tree.map(np.testing.assert_array_equal, after.opt_state[1], before.opt_state[1])
        assert metrics["skipped_updates"] == after.skipped == count
        assert int(after.step) == 2 + count
    assert not np.isfinite(later[0][1]["grad_norm"]) or not np.isfinite(later[0][1]["loss"])


@POISON
def test_a_skipped_update_is_left_out_alone_and_the_schedule_goes_on(loss):
    with_poison = [batch(0), batch(1), poisoned(BATCH), batch(3), poisoned(BATCH), batch(5)]
    *_, (skipped, metrics) = states_and_metrics(with_poison, loss=loss, nonfinite="skip")
    assert int(skipped.step) == 6
    assert metrics["skipped_updates"] == skipped.skipped == 2
    adam, schedule = skipped.opt_state[1], skipped.opt_state[3]
    assert (int(adam.count), int(schedule.count)) == (4, 6)
    # The same by hand: the update of a step is a function of its number, its batch and what the others left.
    _, device_mesh, current, train_step = program(loss=loss)
    for t in (0, 1, 3, 5):
        current = current.replace(
            step=jnp.int32(t), opt_state=(*current.opt_state[:3], current.opt_state[3]._replace(count=jnp.int32(t)))
        )
        current = jax.device_put(current, mesh.replicated(device_mesh))
        current, _ = train_step(current, on(device_mesh, batch(t)))
    jax.tree.map(np.testing.assert_array_equal, skipped.params, jax.device_get(current.params))


def test_an_unknown_way_to_meet_what_is_not_finite_is_refused():
    with pytest.raises(ConfigError, match="config.nonfinite='ignore' is unknown"):
        program(nonfinite="ignore")


def test_eval_step_sums_over_unmasked_examples():
    model, device_mesh, current, _ = program()
    head = {"kernel": jax.random.normal(jax.random.key(0), (16, CLASSES)), "bias": jnp.zeros(CLASSES)}
    params = {**jax.device_get(current.params), "head": head}
    data = batch()
    mask = (np.arange(BATCH) < 11).astype(np.float32)
    eval_step = jax.jit(make_eval_step(model, loss=losses.create_loss("softmax")))
    sums = eval_step(params, on(device_mesh, {**data, "mask": mask}))
    images = data["image"][:11].astype(np.float32) / 127.5 - 1
    logits = np.asarray(model.apply({"params": params}, images), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(sums["loss"], -log_p[np.arange(11), data["label"][:11]].sum(), rtol=1e-4)
    assert int(sums["correct"]) == (logits.argmax(-1) == data["label"][:11]).sum()
    assert int(sums["examples"]) == 11


def test_pixels_are_scaled_to_minus_one_to_one():
    scaled = scale_pixels(jnp.array([0, 127, 128, 255], jnp.uint8))
    np.testing.assert_allclose(scaled, [-1, -1 / 255, 1 / 255, 1], atol=1e-7)
