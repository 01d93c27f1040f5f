"""Few-shot linear probes: l2-regularised linear regression from a frozen representation to the labels.

The constants are those of google-research/big_vision, evaluators/fewshot_lsr.py; arXiv 2105.01601 reports the five-shot
accuracy on ImageNet of such a probe without naming them.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mixer_jax.errors import ConfigError

_EPSILON = 1e-5  # added to the standard deviation of a feature
_ROWS = 2**13  # test examples that are classified at a time


def choose(labels: np.ndarray, *, num_classes: int, shots: int, seed: int) -> np.ndarray:
    """Chooses the examples of a probe: of each class, `shots` at random, by one generator for all classes in order.

    Args:
      labels: int (n,), class numbers of the pool.
      num_classes: number of classes.
      shots: examples of each class.
      seed: of the choice.

    Returns:
      int (num_classes * shots,), indices into the pool, by class.

    Raises:
      ConfigError: a class has too few examples.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for number in range(num_classes):
        of_class = np.flatnonzero(labels == number)
        if len(of_class) < shots:
            raise ConfigError(
                f"{shots} images of each class are needed, and fewshot.train_split has {len(of_class)} of class "
                f"{number}; lower fewshot.shots"
            )
        chosen.append(rng.permutation(of_class)[:shots])
    return np.concatenate(chosen)


def accuracies(
    pool: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    *,
    num_classes: int,
    shots: Sequence[int],
    seeds: Sequence[int],
    l2: float,
    constant: float,
) -> dict[str, float]:
    """Fits probes on examples that are chosen from a pool, and tests each.

    Args:
      pool: "features" float32 (n, d) and "label" int (n,).
      test: the same of the test examples.
      num_classes: number of classes.
      shots: examples of each class, one probe or more for each number.
      seeds: of the choice, one probe with each.
      l2: as in `probe`.
      constant: as in `probe`.

    Returns:
      Of every number of shots "<shots>/top1", the mean over the seeds, and of each seed "<shots>/seed_<seed>/top1";
      "examples", the number of test examples.

    Raises:
      ConfigError: a class has too few examples.
    """
    test_features = jax.device_put(test["features"])
    metrics: dict[str, float] = {"examples": len(test["label"])}
    for number in shots:
        scores = []
        for seed in seeds:
            chosen = choose(pool["label"], num_classes=num_classes, shots=number, seed=seed)
            predicted = probe(
                pool["features"][chosen],
                pool["label"][chosen],
                test_features,
                num_classes=num_classes,
                l2=l2,
                constant=constant,
            )
            scores.append(float(np.mean(np.asarray(predicted) == test["label"])))
            metrics[f"{number}/seed_{seed}/top1"] = scores[-1]
        metrics[f"{number}/top1"] = float(np.mean(scores))
    return metrics


def probe(
    features: jax.Array,
    labels: jax.Array,
    test_features: jax.Array,
    *,
    num_classes: int,
    l2: float = 2.0**10,
    constant: float = 100.0,
) -> jax.Array:
    """Fits a linear probe in closed form, on the device, and classifies with it.

    Args:
      features: float32 (n, d), representations of the training examples.
      labels: int (n,), their class numbers.
      test_features: float32 (m, d).
      num_classes: number of classes.
      l2: weight of the penalty, on the bias as well.
      constant: the feature that stands for the bias; the larger it is, the less of the bias is lost to the penalty.

    Returns:
      int32 (m,), the predicted class numbers.
    """
    fitted = _fit(features, labels, num_classes=num_classes, l2=l2, constant=constant)
    parts = [test_features[at : at + _ROWS] for at in range(0, len(test_features), _ROWS)]
    return jnp.concatenate([_classify(part, *fitted, constant) for part in parts])


@functools.partial(jax.jit, static_argnames="num_classes")
def _fit(features, labels, *, num_classes, l2, constant):
    """Returns the features' mean and deviation, and the weights (d + 1, num_classes)."""
    with jax.default_matmul_precision("highest"):  # on accelerators a product of float32 is less by default
        mean = features.mean(axis=0, keepdims=True)
        deviation = features.std(axis=0, keepdims=True) + _EPSILON
        x = _standardised(features, mean, deviation, constant)
        y = 2.0 * jax.nn.one_hot(labels, num_classes) - 1.0
        n, d = x.shape
        if n < d:  # the dual form solves the smaller of two equal systems
            weights = x.T @ jax.scipy.linalg.solve(x @ x.T + l2 * jnp.eye(n), y, assume_a="pos")
        else:
            weights = jax.scipy.linalg.solve(x.T @ x + l2 * jnp.eye(d), x.T @ y, assume_a="pos")
    return mean, deviation, weights


@jax.jit
def _classify(features, mean, deviation, weights, constant):
    with jax.default_matmul_precision("highest"):
        return (_standardised(features, mean, deviation, constant) @ weights).argmax(axis=-1).astype(jnp.int32)


def _standardised(features, mean, deviation, constant):
    x = (features - mean) / deviation
    return jnp.concatenate([x, jnp.full((len(x), 1), constant, x.dtype)], axis=1)
