"""From a config to batches on the devices."""

from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from mixer_jax.config.checks import one_of
from mixer_jax.data import batches, sources, transforms
from mixer_jax.evaluators.examples import EvalBatches
from mixer_jax.runtime import hardware, mesh
from mixer_jax.steps.types import Batch

_MOST_THREADS = 16  # by default: of more, most would wait for Python, which runs on one core of a process


def open_split(config: ConfigDict, split: str, *, source: str | None = None) -> sources.Source:
    """Opens a split of a config's data set, or of another `source`; raises a ConfigError where that cannot be done."""
    data = config.data
    common = {"split": split, "data_dir": data.data_dir, "image_size": data.image_size, "num_classes": data.num_classes}
    if source is None or source == data.source:
        return sources.open_with_classes(data.source, **common, class_order=data.class_order)
    return sources.open_source(source, **common)


def make_train_batches(
    config: ConfigDict, device_mesh: jax.sharding.Mesh
) -> Callable[[sources.Source, int, int], Iterator[Batch]]:
    """Returns what makes the global batches of a training, (data set, total steps, first step) -> batches.

    Args:
      config: with the keys of mixer_jax/config/base.py.
      device_mesh: where the batches go.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    transform = transforms.make_train_transform(
        size=config.data.image_size, decoding=transforms.decoding_of(config.data), **config.data.train
    )
    seed, batch_size, reading = config.seed, config.batch_size, _reading(config)

    def from_step(source: sources.Source, total_steps: int, start: int) -> Iterator[Batch]:
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


def make_eval_batches(config: ConfigDict, device_mesh: jax.sharding.Mesh) -> Callable[[sources.Source], EvalBatches]:
    """Returns what makes of a data set what makes its batches, as config.data.evaluate shows images.

    Args:
      config: with the keys of mixer_jax/config/base.py.
      device_mesh: where the batches go.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    transform = transforms.make_eval_transform(
        size=config.data.image_size, decoding=transforms.decoding_of(config.data), **config.data.evaluate
    )
    reading = _eval_reading(config, device_mesh)  # at once, so that a wrong key is met before any data set is opened
    return lambda source: EvalBatches(source, transform, device_mesh, **reading)


def eval_batches(
    config: ConfigDict, source: sources.Examples, transform: Callable[[dict], dict], device_mesh: jax.sharding.Mesh
) -> EvalBatches:
    """Returns what makes the batches of a whole data set on the devices, padded and masked, as often as it is called.

    Args:
      config: with the keys eval.{batch_size,undecodable} and data.{workers,threads,prefetch} of
        mixer_jax/config/base.py.
      source: the data set.
      transform: record -> {"image": uint8 (height, width, 3), "label": int32}.
      device_mesh: where the batches go.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    return EvalBatches(source, transform, device_mesh, **_eval_reading(config, device_mesh))


def _eval_reading(config: ConfigDict, device_mesh: jax.sharding.Mesh) -> dict:
    """Returns the keywords of `EvalBatches`: how the batches are read, and what becomes of undecodable images."""
    mesh.check_batch_size("eval.batch_size", config.eval.batch_size, device_mesh)
    one_of("config.eval.undecodable", config.eval.undecodable, ("error", "skip"))
    reading = {"batch_size": config.eval.batch_size, **_reading(config)}
    return {"reading": reading, "skip": config.eval.undecodable == "skip"}


def _reading(config: ConfigDict) -> dict:
    """Returns how this host reads its share of every batch."""
    threads = config.data.threads
    return {
        "host": jax.process_index(),
        "hosts": jax.process_count(),
        "workers": config.data.workers,
        "threads": min(hardware.cpu_cores(), _MOST_THREADS) if threads is None else threads,
        "prefetch": config.data.prefetch,
    }
