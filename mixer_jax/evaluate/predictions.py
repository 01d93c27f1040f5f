"""The classes that a model takes images for: the most probable ones of every image of a data set."""

from collections.abc import Callable, Iterable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mixer_jax.config import one_of
from mixer_jax.step import Batch, scale_pixels

# From logits to probabilities, by the loss that the model was trained with.
_PROBABILITIES = {"softmax": nn.softmax, "sigmoid": nn.sigmoid}


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
        logits = model.apply({"params": params}, scale_pixels(batch["image"]))
        probabilities, classes = jax.lax.top_k(probabilities_of(logits), top)
        return {"classes": classes.astype(jnp.int32), "probabilities": probabilities}

    return predict_step


def make_represent_step(model: nn.Module) -> Callable[[dict, Batch], dict]:
    """Makes the step that represents images: pre_logits, pooled and after the last LayerNorm.

    Args:
      model: the model.

    Returns:
      A pure function (params, batch) -> {"features": float32 (n, hidden_dim)}.
    """

    def represent_step(params, batch):
        _, named = model.apply({"params": params}, scale_pixels(batch["image"]), intermediates=True)
        return {"features": named["pre_logits"].astype(jnp.float32)}

    return represent_step


def over(
    step: Callable[[dict, Batch], dict], params: dict, batches: Iterable[Batch], *, examples: int, title: str
) -> Iterator[dict[str, np.ndarray]]:
    """Applies a step to every example of a data set, and shows a progress bar on a terminal.

    Args:
      step: (params, batch) -> arrays (n, ...), jitted.
      params: the model's parameters.
      batches: global batches on the devices, padded and masked.
      examples: size of the data set.
      title: what stands before the bar.

    Yields:
      Of each batch, without its padding and in order, what the step returns, and "label" int32 (n,) or (n, k).

    Raises:
      RuntimeError: the batches did not hold each example once.
    """
    seen = 0
    with tqdm(total=examples, desc=title, unit=" images", disable=None, leave=False) as bar:
        for batch in batches:
            results = {**step(params, batch), "label": batch["label"], "mask": batch["mask"]}
            results = {name: np.asarray(value) for name, value in jax.device_get(results).items()}
            counted = results.pop("mask") > 0
            yield {name: value[counted] for name, value in results.items()}
            bar.update(int(counted.sum()))
            seen += int(counted.sum())
    if seen != examples:
        raise RuntimeError(f"{title}: saw {seen} examples of a data set of {examples}")


def concatenated(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns what `over` yields as one dict of arrays (examples, ...)."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def accuracies(classes: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns how often predictions are right.

    Args:
      classes: int (n, k), the most probable classes of each image, most probable first.
      labels: int (n,), one class of each image; or (n, m), all that count as right, filled up with -1: images without
        any are left out, as in ReaL.

    Returns:
      "top1" and, from k = 5 on, "top5" (shares in [0, 1]), "examples" (a count) and, where images were left out,
      "without_labels" (a count).
    """
    labels = labels[:, None] if labels.ndim == 1 else labels
    labelled = (labels >= 0).any(axis=1)
    right = ((classes[:, :, None] == labels[:, None, :]) & (labels >= 0)[:, None, :]).any(axis=2)[labelled]
    metrics = {"top1": float(right[:, 0].mean()), "examples": int(labelled.sum())}
    if classes.shape[1] >= 5:
        metrics["top5"] = float(right[:, :5].any(axis=1).mean())
    if not labelled.all():
        metrics["without_labels"] = int((~labelled).sum())
    return metrics
