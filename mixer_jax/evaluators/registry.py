"""Evaluators by name, as config.eval.evaluators gives them."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from mixer_jax.config.checks import one_of
from mixer_jax.config.extensions import is_extension, resolve_function
from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import accuracy, fewshot
from mixer_jax.evaluators.evaluator import Context, Evaluator, Factory

_BUILT_IN = {"accuracy": accuracy, "fewshot": fewshot}


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The evaluators of a config, before there is any data.

    Attributes:
      factories: by name, what makes them.
      metrics: names of all their metrics, "<evaluator>/<metric>"; None if evaluators of the user's own are among them,
        which name theirs when they are made.
    """

    factories: dict[str, Factory]
    metrics: list[str] | None


def choose(config: ConfigDict) -> Chosen:
    """Finds the evaluators of config.eval.evaluators.

    Raises:
      ConfigError: one is unknown, cannot be imported or is named twice, or config.checkpoint.best is none of their
        metrics.
    """
    names = config.eval.evaluators
    if isinstance(names, str) or len(set(names)) < len(names):
        raise ConfigError(f"config.eval.evaluators={names!r}; expected a tuple of names, each once")
    factories: dict[str, Factory] = {}
    metrics: list[str] | None = []
    for name in names:
        if is_extension(name):
            factories[name], metrics = resolve_function("config.eval.evaluators", name), None
        else:
            module = _BUILT_IN[one_of("config.eval.evaluators: name", name, _BUILT_IN)]
            factories[name] = module.make
            metrics = None if metrics is None else [*metrics, *module.metric_names(config)]
    if metrics is not None:
        check_best(config, metrics)
    return Chosen(factories, metrics)


def make(chosen: Chosen, context: Context) -> dict[str, Evaluator]:
    """Makes evaluators, by what they are called in the metrics.

    Raises:
      ConfigError: two have one name, a data set cannot be opened, or config.checkpoint.best is none of their metrics.
    """
    evaluators: dict[str, Evaluator] = {}
    for name, factory in chosen.factories.items():
        made = factory(context)
        if not isinstance(made, Mapping) or not all(isinstance(evaluator, Evaluator) for evaluator in made.values()):
            raise ConfigError(f"config.eval.evaluators: {name} returned {made!r:.80}; expected Evaluators by name")
        if twice := evaluators.keys() & made.keys():
            raise ConfigError(
                f"config.eval.evaluators: {name} calls an evaluator {min(twice)!r}, as another or a split is called"
            )
        evaluators |= made
    if chosen.metrics is None:
        check_best(context.config, [f"{name}/{metric}" for name in evaluators for metric in evaluators[name].metrics])
    return evaluators


def check_best(config: ConfigDict, metrics: list[str]) -> None:
    """Raises a ConfigError if config.checkpoint.best is set, and none of the metrics "<evaluator>/<metric>"."""
    if config.checkpoint.best:
        one_of("config.checkpoint.best", config.checkpoint.best, [f"eval/{metric}" for metric in metrics])
