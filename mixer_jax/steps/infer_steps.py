"""What is computed of images without training: sums of an evaluation, the most probable classes, features."""

from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixer_jax.config.checks import one_of
from mixer_jax.steps.losses import Loss
from mixer_jax.steps.metrics import classification_sums
from mixer_jax.steps.types import Batch, EvalStep, Gather, as_they_are

# From logits to probabilities, by the loss that the model was trained with.
_PROBABILITIES = {"softmax": nn.softmax, "sigmoid": nn.sigmoid}


def scale_pixels(images: jax.Array) -> jax.Array:
    """Scales uint8 pixels to float32 in [-1, 1], as the published weights expect."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def make_eval_step(model: nn.Module, *, loss: Loss, gather: Gather = as_they_are) -> EvalStep:
    """Makes the evaluation step.

    Args:
      model: the model, with a head.
      loss: (logits, labels) -> one value an example.
      gather: as in training.

    Returns:
      A pure function (params, batch) -> sums of `metrics.classification_sums`. The batch holds "image" and "label" as
      in training, and "mask" float32 (n,), 0 for padding.
    """

    def eval_step(params, batch):
        logits = cast(jax.Array, model.apply({"params": gather(params)}, scale_pixels(batch["image"])))
        losses = loss(logits, jax.nn.one_hot(batch["label"], model.num_classes))
        return classification_sums(logits, batch["label"], losses, batch["mask"])

    return eval_step


def make_predict_step(model: nn.Module, *, loss: str = "softmax", top: int = 5) -> Callable[[dict, Batch], dict]:
    """Makes the step that predicts the classes of a batch.

    Args:
      model: the model, with a head.
      loss: what it was trained with: "softmax", for probabilities that add up to 1 over the classes, or "sigmoid", for
        one of each class by itself.
      top: how many of the most probable classes are returned; where there are fewer classes, all of them.

    Returns:
      A pure function (params, batch) -> {"classes": int32 (n, top), most probable first, "probabilities": float32
      (n, top)}. The batch holds "image" uint8 (n, height, width, 3).
    """
    probabilities_of = _PROBABILITIES[one_of("loss", loss, _PROBABILITIES)]
    top = min(top, model.num_classes)

    def predict_step(params, batch):
        logits = cast(jax.Array, model.apply({"params": params}, scale_pixels(batch["image"])))
        probabilities, classes = jax.lax.top_k(probabilities_of(logits), top)
        return {"classes": classes.astype(jnp.int32), "probabilities": probabilities}

    return predict_step


def make_represent_step(model: nn.Module, *, gather: Gather = as_they_are) -> Callable[[dict, Batch], dict]:
    """Makes the step that represents images: pre_logits, pooled and after the last LayerNorm.

    They are computed in float32, whatever the model is trained in: probes divide by their deviations.

    Args:
      model: the model.
      gather: as in training.

    Returns:
      A pure function (params, batch) -> {"features": float32 (n, hidden_dim)}.
    """
    if hasattr(model, "dtype"):
        model = model.clone(dtype=jnp.float32)

    def represent_step(params, batch):
        _, named = model.apply({"params": gather(params)}, scale_pixels(batch["image"]), intermediates=True)
        return {"features": named["pre_logits"].astype(jnp.float32)}

    return represent_step
