"""From a config to the objects that it describes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from mixer_jax.config.checks import one_of
from mixer_jax.data import sources, transforms
from mixer_jax.errors import ConfigError
from mixer_jax.evaluators.accuracy import METRICS, accuracy
from mixer_jax.runtime import mesh
from mixer_jax.steps import losses
from mixer_jax.steps.infer_steps import make_eval_step
from mixer_jax.steps.types import Batch, Evaluator
from mixer_jax.training.input import eval_batches, open_split, train_batches
from mixer_jax.training.setup import Training, build_training


@dataclasses.dataclass(frozen=True)
class Program(Training):
    """What a config describes, ready to run.

    Attributes:
      sources: the data sets that are read, by name of the split.
      train_batches: step -> iterator of the global batches from that step on.
      evaluators: by name of the split, (state, interrupted) -> metrics.
    """

    sources: dict[str, sources.Source]
    train_batches: Callable[[int], Iterator[Batch]]
    evaluators: dict[str, Evaluator]


def build_program(config: ConfigDict, observe: Callable[[dict, dict, dict], dict] | None = None) -> Program:
    """Builds all objects of a config.

    Args:
      config: a recipe, with the keys of configs/base.py.
      observe: adds to the metrics of the training step, as `step.make_train_step` says.

    Returns:
      The program.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    device_mesh = mesh.create(fsdp=config.mesh.fsdp)
    _check(config)
    splits = [config.data.split, *config.eval.splits.values()]
    opened = {split: open_split(config, split) for split in dict.fromkeys(splits)}
    source = opened[config.data.split]
    training = build_training(config, device_mesh, num_examples=len(source), observe=observe)
    return Program(
        **vars(training),
        sources=opened,
        train_batches=train_batches(config, source, training.total_steps, device_mesh),
        evaluators=_evaluators(config, opened, training.model, device_mesh),
    )


def _check(config: ConfigDict) -> None:
    """Raises a ConfigError for the values that no object of their own checks."""
    every = {
        "log_every": config.log_every,
        "eval.every": config.eval.every,
        "checkpoint.every": config.checkpoint.every,
    }
    for key, value in every.items():
        if value < 1:
            raise ConfigError(f"config.{key}={value}; expected a positive number of steps")
    metrics = [f"eval/{split}/{metric}" for split in config.eval.splits for metric in METRICS]
    if config.checkpoint.best:
        one_of("config.checkpoint.best", config.checkpoint.best, metrics)


def _evaluators(
    config: ConfigDict, opened: dict[str, sources.Source], model: nn.Module, device_mesh: jax.sharding.Mesh
) -> dict[str, Evaluator]:
    transform = transforms.make_eval_transform(
        size=config.data.image_size, exif_orientation=config.data.exif_orientation, **config.data.evaluate
    )
    eval_step = jax.jit(
        make_eval_step(model, loss=losses.create(config.loss.name), gather=functools.partial(mesh.gather, device_mesh)),
        out_shardings=mesh.replicated(device_mesh),
    )

    def evaluator(source: sources.Source) -> Evaluator:
        all_batches = eval_batches(config, source, transform, device_mesh)
        return accuracy(eval_step, all_batches, examples=len(source))

    return {name: evaluator(opened[split]) for name, split in config.eval.splits.items()}
