"""The types that steps and what runs them have in common."""

from collections.abc import Callable, Mapping
from typing import Protocol

import jax

from mixer_jax.steps.state import TrainState

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[dict, Batch], dict[str, jax.Array]]
Gather = Callable[[dict], dict]


class JittedTrainStep(Protocol):
    """A `TrainStep` that JAX compiles, when it is called or ahead of that."""

    def __call__(self, state: TrainState, batch: Batch, /) -> tuple[TrainState, dict[str, jax.Array]]:
        """Takes the step."""
        ...

    def lower(self, state: TrainState, batch: Mapping[str, jax.Array | jax.ShapeDtypeStruct], /) -> jax.stages.Lowered:
        """Returns the step for a state and a batch of such shapes, types and shardings, to be compiled."""
        ...


def as_they_are(params: dict) -> dict:
    """Returns parameters that need not be gathered."""
    return params
