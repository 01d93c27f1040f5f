"""From a config to the objects that it describes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from mixer_jax import config as config_lib
from mixer_jax import hardware, losses, mesh, step
from mixer_jax.config import ConfigError
from mixer_jax.data import batches, sources, transforms
from mixer_jax.evaluate.accuracy import METRICS, accuracy
from mixer_jax.training import Training, build_training

_MOST_THREADS = 16  # by default: of more, most would wait for Python, which runs on one core of a process


@dataclasses.dataclass(frozen=True)
class Program(Training):
    """What a config describes, ready to run.

    Attributes:
      sources: the data sets that are read, by name of the split.
      train_batches: step -> iterator of the global batches from that step on.
      evaluators: by name of the split, (state, interrupted) -> metrics.
    """

    sources: dict[str, sources.Source]
    train_batches: Callable[[int], Iterator[step.Batch]]
    evaluators: dict[str, step.Evaluator]


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
        train_batches=_train_batches(config, source, training.total_steps, device_mesh),
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
        config_lib.one_of("config.checkpoint.best", config.checkpoint.best, metrics)


def open_split(config: ConfigDict, split: str) -> sources.Source:
    """Opens a split of a config's data set; raises a ConfigError where that cannot be done."""
    data = config.data
    return sources.create(
        data.source,
        split=split,
        data_dir=data.data_dir,
        num_classes=data.num_classes,
        image_size=data.image_size,
    )


def _reading(config: ConfigDict) -> dict:
    """Returns how this host reads its share of every batch."""
    for key in ("workers", "threads"):
        if (config.data[key] or 0) < 0:
            raise ConfigError(f"config.data.{key}={config.data[key]}; expected 0 or a positive number")
    if config.data.prefetch < 1:
        raise ConfigError(f"config.data.prefetch={config.data.prefetch}; expected a positive number of batches")
    threads = config.data.threads
    return {
        "host": jax.process_index(),
        "hosts": jax.process_count(),
        "workers": config.data.workers,
        "threads": min(hardware.cpu_cores(), _MOST_THREADS) if threads is None else threads,
        "prefetch": config.data.prefetch,
    }


def _train_batches(config: ConfigDict, source: sources.Source, total_steps: int, device_mesh: jax.sharding.Mesh):
    transform = transforms.make_train_transform(
        size=config.data.image_size, exif_orientation=config.data.exif_orientation, **config.data.train
    )
    seed, batch_size, reading = config.seed, config.batch_size, _reading(config)

    def from_step(start: int) -> Iterator[step.Batch]:
        host_batches = batches.train_batches(
            source,
            transform,
            seed=seed,
            batch_size=batch_size,
            start=start,
            stop=total_steps,
            **reading,
        )
        return mesh.to_devices(host_batches, device_mesh)

    return from_step


def _evaluators(
    config: ConfigDict, opened: dict[str, sources.Source], model: nn.Module, device_mesh: jax.sharding.Mesh
) -> dict[str, step.Evaluator]:
    transform = transforms.make_eval_transform(
        size=config.data.image_size, exif_orientation=config.data.exif_orientation, **config.data.evaluate
    )
    eval_step = jax.jit(
        step.make_eval_step(
            model, loss=losses.create(config.loss.name), gather=functools.partial(mesh.gather, device_mesh)
        ),
        out_shardings=mesh.replicated(device_mesh),
    )

    def evaluator(source: sources.Source) -> step.Evaluator:
        all_batches = eval_batches(config, source, transform, device_mesh)
        return accuracy(eval_step, all_batches, examples=len(source))

    return {name: evaluator(opened[split]) for name, split in config.eval.splits.items()}


def eval_batches(
    config: ConfigDict, source: sources.Source, transform: Callable[[dict], dict], device_mesh: jax.sharding.Mesh
) -> Callable[[], Iterator[step.Batch]]:
    """Returns what makes the batches of a whole data set on the devices, padded and masked, as often as it is called.

    Args:
      config: with the keys eval.batch_size and data.{workers,threads,prefetch} of configs/base.py.
      source: the data set.
      transform: record -> {"image": uint8 (height, width, 3), "label": int32}.
      device_mesh: where the batches go.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    batch_size, reading = config.eval.batch_size, _reading(config)
    mesh.check_batch_size("eval.batch_size", batch_size, device_mesh)

    def all_batches() -> Iterator[step.Batch]:
        host_batches = batches.eval_batches(source, transform, batch_size=batch_size, **reading)
        return mesh.to_devices(host_batches, device_mesh)

    return all_batches
