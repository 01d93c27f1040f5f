"""One training step and one evaluation step: pure functions of state and batch, made from explicit arguments."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mixer_jax import rng
from mixer_jax.losses import Loss
from mixer_jax.metrics import classification_sums
from mixer_jax.mixup import mixup as mix
from mixer_jax.optim import Schedule
from mixer_jax.state import TrainState

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
Evaluator = Callable[[TrainState], dict[str, float]]
EvalStep = Callable[[dict, Batch], dict[str, jax.Array]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    mixup: float,
) -> TrainStep:
    """Makes the training step.

    Args:
      model: the model, with a head.
      optimizer: the optax optimizer; it applies the schedule itself.
      loss: (logits, labels) -> one value an example.
      schedule: step -> learning rate, for the metrics.
      seed: config.seed; with state.step it determines the masks and the mixup of the step.
      mixup: parameter of mixup's Beta distribution; 0 for none.

    Returns:
      A pure function (state, batch) -> (state, metrics). The batch holds "image" uint8 (n, height, width, 3), "label"
      int32 (n,) and "replaced" bool (n,). The metrics are scalars: "loss" and "top1" of the batch (against the first of
      mixed labels), "grad_norm" before clipping, "update_norm", "learning_rate", and "replaced_images", a count.
    """

    def train_step(state, batch):
        images = scale_pixels(batch["image"])
        labels = jax.nn.one_hot(batch["label"], model.num_classes)
        if mixup:
            images, labels = mix(rng.key(seed, "mixup", state.step), images, labels, mixup)
        rngs = {"dropout": rng.key(seed, "dropout", state.step)}

        def mean_loss(params):
            logits = model.apply({"params": params}, images, train=True, rngs=rngs)
            return loss(logits, labels).mean(), logits

        (value, logits), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics = {
            "loss": value,
            "top1": (logits.argmax(axis=-1) == batch["label"]).mean(dtype=jnp.float32),
            "grad_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "learning_rate": schedule(state.step),
            "replaced_images": batch["replaced"].sum(dtype=jnp.int32),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics

    return train_step


def make_eval_step(model: nn.Module, *, loss: Loss) -> EvalStep:
    """Makes the evaluation step.

    Args:
      model: the model, with a head.
      loss: (logits, labels) -> one value an example.

    Returns:
      A pure function (params, batch) -> sums of `metrics.classification_sums`. The batch holds "image" and "label" as
      in training, and "mask" float32 (n,), 0 for padding.
    """

    def eval_step(params, batch):
        logits = model.apply({"params": params}, scale_pixels(batch["image"]))
        losses = loss(logits, jax.nn.one_hot(batch["label"], model.num_classes))
        return classification_sums(logits, batch["label"], losses, batch["mask"])

    return eval_step


def scale_pixels(images: jax.Array) -> jax.Array:
    """Scales uint8 pixels to float32 in [-1, 1], as the published weights expect."""
    return images.astype(jnp.float32) / 127.5 - 1.0
