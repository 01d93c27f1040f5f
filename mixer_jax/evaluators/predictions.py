"""The classes that a model takes images for: the most probable ones of every image of a data set."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from mixer_jax.evaluators.examples import EvalBatches
from mixer_jax.steps.types import Batch


def labelled(step: Callable[[dict, Batch], dict]) -> Callable[[dict, Batch], dict]:
    """Returns a step that hands on the labels and the mask of its batch, for `over`."""
    return lambda params, batch: {**step(params, batch), "label": batch["label"], "mask": batch["mask"]}


def over(
    step: Callable[[dict, Batch], dict], params: dict, batches: EvalBatches, *, title: str
) -> Iterator[dict[str, np.ndarray]]:
    """Applies a step to every example of a data set, and shows a progress bar on a terminal.

    Args:
      step: what `labelled` returns, (params, batch) -> arrays (n, ...), jitted; of several hosts, each holds the
        results.
      params: the model's parameters.
      batches: the batches of the data set.
      title: what stands before the bar.

    Yields:
      Of each batch, without its padding and in order, what the step returns, and "label" int32 (n,) or (n, k).

    Raises:
      UndecodableError: images cannot be decoded, and are not skipped.
      RuntimeError: the batches did not hold each example once.
    """
    seen = 0
    with tqdm(total=batches.examples, desc=title, unit=" images", disable=None, leave=False) as bar:
        for batch in batches():
            results = {name: np.asarray(value) for name, value in jax.device_get(step(params, batch)).items()}
            counted = results.pop("mask") > 0
            yield {name: value[counted] for name, value in results.items()}
            bar.update(int(counted.sum()))
            seen += int(counted.sum())
    if seen + batches.left_out != batches.examples:
        raise RuntimeError(f"{title}: saw {seen} examples of a data set of {batches.examples}")


def concatenated(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns what `over` yields as one dict of arrays (examples, ...), without those that cannot be decoded."""
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
