"""One training step and one evaluation step: pure functions of state and batch, made from explicit arguments."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mixer_jax import rng
from mixer_jax.config.checks import one_of
from mixer_jax.steps import optimizer as optim
from mixer_jax.steps.infer_steps import scale_pixels
from mixer_jax.steps.losses import Loss
from mixer_jax.steps.mixup import mixup as mix
from mixer_jax.steps.optimizer import Schedule
from mixer_jax.steps.state import TrainState
from mixer_jax.steps.types import Batch, Gather, TrainStep, as_they_are


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    mixup: float,
    nonfinite: str = "stop",
    accumulation_steps: int = 1,
    gather: Gather = as_they_are,
    observe: Callable[[dict, dict, dict], dict] | None = None,
) -> TrainStep:
    """Makes the training step.

    Args:
      model: the model, with a head.
      optimizer: the optax optimizer; it applies the schedule itself.
      loss: (logits, labels) -> one value an example.
      schedule: step -> learning rate, for the metrics.
      seed: config.seed; with state.step it determines the masks and the mixup of the step.
      mixup: parameter of mixup's Beta distribution; 0 for none.
      nonfinite: where the loss or the norm of the gradient or of the update is not finite, the update is left out: with
        "skip" that one, with "stop" all later ones as well, so that the state stays as it was before.
      accumulation_steps: parts that the batch goes through the model in, one after the other. Masks and mixup, and so
        loss and gradient, are those of the whole batch.
      gather: from the parameters as they lie on the devices to the parameters that the model computes with.
      observe: (parameters, gradients, updates) -> metrics to add, or None.

    Returns:
      A pure function (state, batch) -> (state, metrics). The batch holds "image" uint8 (n, height, width, 3), "label"
      int32 (n,), "replaced" and "damaged" bool (n,). The metrics are scalars: "loss" and "top1" of the batch (against
      the first of mixed labels), "grad_norm" before clipping, "update_norm", "learning_rate", "replaced_images" and
      "damaged_images", counts, and "skipped_updates", how many updates have been left out so far.

    Raises:
      ConfigError: an unknown `nonfinite`.
    """
    one_of("config.nonfinite", nonfinite, ("stop", "skip"))

    def mean_loss(params, part):
        params = gather(params)

        def logits_of(image, key):  # one example, one key: its masks depend neither on the part nor on the device
            return model.apply({"params": params}, image[None], train=True, rngs={"dropout": key})[0]

        logits = jax.vmap(logits_of)(part["image"], part["key"])
        top1 = (logits.argmax(axis=-1) == part["label"]).mean(dtype=jnp.float32)
        return loss(logits, part["target"]).mean(), top1

    def train_step(state, batch):
        images = scale_pixels(batch["image"])
        targets = jax.nn.one_hot(batch["label"], model.num_classes)
        if mixup:
            images, targets = mix(rng.key(seed, "mixup", state.step), images, targets, mixup)
        keys = rng.keys_of_examples(rng.key(seed, "dropout", state.step), len(images))
        examples = {"image": images, "target": targets, "label": batch["label"], "key": keys}
        (value, top1), grads = mean_over_parts(
            lambda part: jax.value_and_grad(mean_loss, has_aux=True)(state.params, part), examples, accumulation_steps
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": value,
            "top1": top1,
            "grad_norm": optax.tree.norm(grads),
            # Of the difference, not of `updates`: for these XLA reads the optimizer's state from memory a second time.
            "update_norm": optax.tree.norm(optax.tree.sub(params, state.params)),
            "learning_rate": schedule(state.step),
            "replaced_images": batch["replaced"].sum(dtype=jnp.int32),
            "damaged_images": batch["damaged"].sum(dtype=jnp.int32),
        }
        if observe:
            metrics |= observe(state.params, grads, updates)
        apply = jnp.isfinite(value) & jnp.isfinite(metrics["grad_norm"]) & jnp.isfinite(metrics["update_norm"])
        if nonfinite == "stop":
            apply &= state.skipped == 0
        state = _advance(state, params, opt_state, apply)
        return state, {**metrics, "skipped_updates": state.skipped}

    return train_step


def _advance(state: TrainState, params: dict, opt_state: optax.OptState, apply: jax.Array) -> TrainState:
    """Returns the state after a step, with its update or, where `apply` is false, without it.

    The device chooses: the host hears of it with the metrics, and nothing waits for it.
    """
    after = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    without = state.replace(step=state.step + 1, opt_state=optim.leave_out(state.opt_state), skipped=state.skipped + 1)
    return jax.tree.map(lambda new, old: jnp.where(apply, new, old), after, without)


def mean_over_parts(function: Callable, batch: Batch, parts: int):
    """Returns the mean of function(part) over the parts of a batch, computed one after the other.

    Part i holds the examples i, i + parts, i + 2 parts, ...: a device finds its share of every part in its share of the
    batch, and nothing moves.

    Args:
      function: from a part to a tree of float arrays.
      batch: arrays (n, ...).
      parts: how many; a divisor of n.
    """
    if parts == 1:
        return function(batch)
    cut = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], cut))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None), zeros, cut)
    return jax.tree.map(lambda x: x / parts, total)
