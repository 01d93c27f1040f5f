"""The device mesh, and how state and batches lie on it."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer_jax.config import ConfigError


def create(devices: list[jax.Device] | None = None) -> Mesh:
    """Returns a mesh with one axis, `data`, over the devices (by default all of them, on all hosts)."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the state: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis cut over the axis `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Copies batches to the devices, one ahead of the batch in use.

    Args:
      batches: this host's parts, arrays (batch_size / hosts, ...).
      mesh: the device mesh.

    Yields:
      Global batches, arrays (batch_size, ...) with `batch_sharding`.
    """
    sharding = batch_sharding(mesh)
    ahead = collections.deque()
    for batch in batches:
        # The copy goes on in the background while the batch before is computed with.
        ahead.append({k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()})
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def check_batch_size(key: str, batch_size: int, mesh: Mesh) -> None:
    """Raises a ConfigError naming the config `key` if the batch does not divide over the devices of the mesh."""
    devices = mesh.size
    if batch_size < 1 or batch_size % devices:
        nearest = max(round(batch_size / devices), 1) * devices
        raise ConfigError(
            f"config.{key}={batch_size} does not divide over {devices} devices; the nearest size that does: {nearest}"
        )
