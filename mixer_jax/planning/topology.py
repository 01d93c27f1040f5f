"""TPU slices to compile for without having them."""

import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from mixer_jax.errors import ConfigError

# The compiler's own names: chips along each axis of the torus, smallest and largest slice. A chip of v2 and v3 is two
# JAX devices, one of the others is one.
_SLICES = {
    "v2": ("2x2", "16x16"),
    "v3": ("2x2", "32x32"),
    "v4": ("2x2x1", "16x16x16"),
    "v5e": ("2x2", "16x16"),
    "v5p": ("2x2x1", "16x16x24"),
    "v6e": ("2x2", "16x16"),
}
# Without these libtpu looks for the TPU of this machine, and complains. It also allows one process at a time, which
# would share that TPU.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some chips of a TPU pod.

    Attributes:
      name: TPU generation and chips along each axis, such as "v3:4x4".
      devices: JAX devices to compile for; they compute nothing.
      usable_bytes: memory of a device that programs can use; the rest is reserved.
    """

    name: str
    devices: list[jax.Device]
    usable_bytes: int


def create_slice(name: str) -> Slice:
    """Makes a slice.

    To be called before JAX is used for anything else: the environment of libtpu is set here, and this process keeps to
    the CPU.

    Args:
      name: TPU generation and chips along each axis, such as "v3:4x4".

    Returns:
      The slice.

    Raises:
      ConfigError: there is no such slice, or libtpu is not installed.
    """
    generation, _, shape = name.partition(":")
    if generation not in _SLICES or not _within(shape, _SLICES[generation][1]):
        raise ConfigError(f"--topology={name} is unknown; {_known()}")
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "planning needs libtpu, the compiler for TPUs, but no TPU: install it with pip install -e '.[plan]'"
        )
    os.environ.update(_ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}  # as a v4 runs: one device a chip
    try:
        description = topologies.get_topology_desc(topology_name=name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"--topology={name} is no slice: {error}; {_known()}") from error
    return Slice(name, list(description.devices), _usable_bytes(description.devices[0]))


def bytes_in(message: str, pattern: str) -> int:
    """Returns the bytes that a message of the compiler states, such as 15.48G, in GiB, where the pattern's group is."""
    found = re.search(pattern, message)
    if not found:
        raise RuntimeError(f"this version of libtpu says it in other words: {message}")
    return int(float(found[1][:-1]) * _UNITS[found[1][-1]])


def _usable_bytes(device: jax.Device) -> int:
    """Compiles what is too large for any device, because nothing but its refusal tells how much there is."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    too_large = jax.ShapeDtypeStruct((2**42,), "int8", sharding=sharding)
    try:
        jax.jit(lambda x: x + 1).lower(too_large).compile()
    except jax.errors.JaxRuntimeError as error:
        return bytes_in(str(error), r"available HBM \(([\d.]+[KMGT])\)")
    raise AssertionError(f"{device.device_kind} holds 4 TiB")


def _within(shape: str, largest: str) -> bool:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        return False
    sides, limits = (sorted(map(int, of.split("x"))) for of in (shape, largest))
    return len(sides) == len(limits) and all(side <= limit for side, limit in zip(sides, limits, strict=True))


def _known() -> str:
    return "known: " + ", ".join(f"{of}:{small} to {of}:{large}" for of, (small, large) in _SLICES.items())
