"""Classification losses, one value an example, in float32."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mixer_jax.config.checks import one_of

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy.

    Args:
      logits: (n, classes), any float type; computed in float32.
      labels: float32 (n, classes), class probabilities.

    Returns:
      float32 (n,), in nats.
    """
    return optax.losses.softmax_cross_entropy(logits.astype(jnp.float32), labels)


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Sigmoid cross-entropy summed over the classes, as the official ImageNet recipe trains with.

    Args:
      logits: (n, classes), any float type; computed in float32.
      labels: float32 (n, classes), a target in [0, 1] for each class.

    Returns:
      float32 (n,), in nats.
    """
    return optax.losses.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), labels).sum(axis=-1)


_LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def create_loss(name: str, label_smoothing: float = 0.0) -> Loss:
    """Makes the loss of a config.

    Args:
      name: "softmax" or "sigmoid" cross-entropy.
      label_smoothing: the share a of probability spread evenly: labels become (1 - a) labels + a / classes.

    Returns:
      A function (logits (n, classes), labels (n, classes)) -> losses (n,).

    Raises:
      ConfigError: an unknown name.
    """
    loss = _LOSSES[one_of("config.loss.name", name, _LOSSES)]
    if not label_smoothing:
        return loss
    return lambda logits, labels: loss(logits, optax.losses.smooth_labels(labels, label_smoothing))
