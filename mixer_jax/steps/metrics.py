"""Classification metrics as sums over examples, which add up over batches and are divided once, at the end."""

import jax
import jax.numpy as jnp


def classification_sums(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums what the accuracy and the loss of a batch consist of.

    Args:
      logits: (n, classes).
      labels: int32 (n,), class numbers.
      losses: float32 (n,), the loss of each example.
      mask: float32 (n,), 1 for an example, 0 for padding.

    Returns:
      Scalars: "loss" (float32), "correct" and "examples" (int32).
    """
    counted = mask > 0
    return {
        "loss": jnp.where(counted, losses, 0.0).sum(),
        "correct": (counted & (logits.argmax(axis=-1) == labels)).sum(dtype=jnp.int32),
        "examples": counted.sum(dtype=jnp.int32),
    }


def means(sums: dict[str, float]) -> dict[str, float]:
    """Divides the sums of `classification_sums`, added over all batches, by the number of examples.

    Returns:
      "top1" (share in [0, 1]), "loss" and "examples" (a count).
    """
    examples = int(sums["examples"])
    return {
        "top1": int(sums["correct"]) / examples,
        "loss": float(sums["loss"]) / examples,
        "examples": examples,
    }
