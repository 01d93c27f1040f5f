"""What an evaluator is, and what one is made from."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from mixer_jax.data.sources import Source
from mixer_jax.errors import RunError
from mixer_jax.evaluators.examples import EvalBatches
from mixer_jax.steps.state import TrainState
from mixer_jax.steps.types import Gather

Interrupted = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Measures a training state.

    Attributes:
      metrics: names of the metrics that it returns.
      measure: (state, interrupted) -> metrics by name, numbers. Before every batch it asks `interrupted`, and if that
        says yes, it returns {}. Of several processes each has to ask equally often, and to return the same.
    """

    metrics: tuple[str, ...]
    measure: Callable[[TrainState, Interrupted], Mapping[str, float]]


def check_metrics(name: str, evaluator: Evaluator, values: object) -> None:
    """Raises a RunError if an evaluator returned other metrics than it names, or values that are no real numbers."""
    if not isinstance(values, Mapping) or set(values) != set(evaluator.metrics):
        received = sorted(values) if isinstance(values, Mapping) else values
        raise RunError(f"the evaluator {name} returned the metrics {received!r}; expected {sorted(evaluator.metrics)}")
    for metric, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise RunError(f"the evaluator {name} returned {metric}={value!r:.80}; expected a number")


@dataclasses.dataclass(frozen=True)
class Context:
    """What the evaluators of a training are made from.

    Attributes:
      config: the training's config.
      model: its model.
      mesh: its devices.
      gather: from parameters as they lie on the devices to parameters to compute with; to be called inside jit.
      open_source: (source, split) -> an opened data set, as config.data.source and a split name it; opened once.
      batches: data set -> what makes, as often as it is called, its batches on the devices: every example once, shown
        as config.data.evaluate says, with padding for what is lacking in the last batch and for images that cannot be
        decoded ("mask" float32 (n,), 0 for padding). Behind the last batch it raises an error if there are such images
        and config.eval.undecodable is "error"; otherwise `left_out` is their number.
    """

    config: ConfigDict
    model: nn.Module
    mesh: jax.sharding.Mesh
    gather: Gather
    open_source: Callable[[str, str], Source]
    batches: Callable[[Source], EvalBatches]


# Makes evaluators by what they are called in the metrics, eval/<name>/<metric>.
Factory = Callable[[Context], Mapping[str, Evaluator]]
