"""The types that steps and what runs them have in common."""

from collections.abc import Callable

import jax

from mixer_jax.steps.state import TrainState

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[dict, Batch], dict[str, jax.Array]]
Gather = Callable[[dict], dict]


def as_they_are(params: dict) -> dict:
    """Returns parameters that need not be gathered."""
    return params
