"""The device mesh, and how state and batches lie on it."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer_jax.errors import ConfigError

# Arrays of fewer elements stay whole on every device: to gather one costs a message and saves next to nothing. Below
# are biases and LayerNorms (at most 5,120 elements, but for the head's; 0.3 % of a model of Table 1), above all kernels
# (at least 12,544).
_SMALL = 2**13


def create_mesh(devices: list[jax.Device] | None = None, *, fsdp: int = 1) -> Mesh:
    """Makes the mesh: a batch is cut over both of its axes, the state over `fsdp` alone.

    Args:
      devices: by default all of them, on all hosts.
      fsdp: length of the axis `fsdp`; that of `data` is what remains of the devices.

    Returns:
      A mesh with the axes ("data", "fsdp").

    Raises:
      ConfigError: the devices do not divide by `fsdp`.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        divisors = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise ConfigError(
            f"config.mesh.fsdp={fsdp} does not divide {len(devices)} devices; "
            f"values that do: {', '.join(map(str, divisors))}"
        )
    # By host, so that each holds consecutive examples of a batch; `fsdp` is the inner axis, so that what is gathered
    # most travels least.
    by_host = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(by_host).reshape(-1, fsdp), ("data", "fsdp"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis cut over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_sharding(mesh: Mesh, state):
    """Returns how a state lies on the devices: large arrays cut along `fsdp`, small ones whole on every device.

    An array is cut on its largest axis that divides. Its shape alone decides, so that the moments of the optimizer lie
    as their parameters do (the third stage of ZeRO, arXiv 1910.02054).

    Args:
      mesh: the device mesh.
      state: tree of arrays or ShapeDtypeStructs.

    Returns:
      A tree of shardings.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(x):
        divisible = [axis for axis, length in enumerate(x.shape) if length % fsdp == 0]
        if fsdp == 1 or x.size < _SMALL or not divisible:
            return replicated(mesh)
        axis = max(divisible, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(sharding, state)


def gather(mesh: Mesh, params):
    """Makes parameters whole on every device, to compute with them; their gradient is cut again as they were.

    Left to itself, the compiler leaves some parameters where they lie and moves activations instead.

    Args:
      mesh: the device mesh.
      params: tree of arrays that lie as `state_sharding` says.

    Returns:
      The same values, replicated.
    """

    @jax.custom_vjp
    def whole(params):
        return jax.lax.with_sharding_constraint(params, replicated(mesh))

    def forward(params):
        return whole(params), None

    def backward(_, gradient):
        return (jax.lax.with_sharding_constraint(gradient, state_sharding(mesh, gradient)),)

    whole.defvjp(forward, backward)
    return whole(params)


def to_devices(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """Copies batches to the devices, one ahead of the batch in use.

    Args:
      batches: this host's parts, arrays (batch_size / hosts, ...).
      mesh: the device mesh.

    Yields:
      Global batches, arrays (batch_size, ...) with `batch_sharding`.
    """
    sharding = batch_sharding(mesh)
    ahead: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        # The copy goes on in the background while the batch before is computed with.
        ahead.append({k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()})
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def check_batch_size(key: str, batch_size: int, mesh: Mesh, *, parts: int = 1) -> None:
    """Raises a ConfigError naming the config `key` if the batch does not divide over the devices and their `parts`."""
    pieces = mesh.size * parts
    if batch_size < 1 or batch_size % pieces:
        nearest = max(round(batch_size / pieces), 1) * pieces
        of_each = f" with config.accumulation_steps={parts} of each" if parts > 1 else ""
        raise ConfigError(
            f"config.{key}={batch_size} does not divide over {mesh.size} devices{of_each}; "
            f"the nearest size that does: {nearest}"
        )
