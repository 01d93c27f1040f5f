"""Mixup of a whole batch with one coefficient (arXiv 1710.09412, as the official Mixer recipe applies it)."""

import jax
import jax.numpy as jnp


def mixup(key: jax.Array, images: jax.Array, labels: jax.Array, p: float) -> tuple[jax.Array, jax.Array]:
    """Mixes each example with the one before it: a x_i + (1 - a) x_(i-1), a = max(b, 1 - b), b ~ Beta(p, p).

    Partners are those of the global batch, so the result does not depend on the number of devices. (The official
    code rolls within each device's share.)

    Args:
      key: random key of the step.
      images: float32 (n, height, width, channels).
      labels: float32 (n, classes).
      p: parameter of the Beta distribution, positive (the paper's "mixup strength", Table 4).

    Returns:
      Mixed images and labels of the same shapes.
    """
    b = jax.random.beta(key, p, p)
    a = jnp.maximum(b, 1.0 - b)
    images, labels = (a * x + (1.0 - a) * jnp.roll(x, 1, axis=0) for x in (images, labels))
    return images, labels
