"""What the machine has: its CPU cores, and the published peaks of TPUs and GPUs by the device kind that JAX reports.

Peaks are those of dense matrix products; NVIDIA's datasheets also state twice as much for sparse ones.
"""

import dataclasses
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip, with the peaks of one JAX device of it.

    Attributes:
      name: the usual name.
      cores: JAX devices of a chip: two on TPU v2 and v3, else one (the two cores of v4 and v5p act as one device).
      bfloat16_flops: peak FLOP/s of products of bfloat16 arrays; None where the chip has no units for them.
      float32_flops: peak FLOP/s of products of float32 arrays at JAX's default precision: a pass in bfloat16 on TPUs,
        TF32 on GPUs that have it, else float32.
      memory: bytes of the device's main memory.
      bandwidth: bytes/s of it.
    """

    name: str
    cores: int
    bfloat16_flops: float | None
    float32_flops: float
    memory: int
    bandwidth: float


def _tpu(name: str, cores: int, flops: float, memory: float, bandwidth: float) -> Chip:
    """Returns a TPU from the figures of a whole chip: FLOP/s, GiB, bytes/s."""
    flops, memory, bandwidth = flops / cores, int(memory * _GIB / cores), bandwidth / cores
    return Chip(name, cores, flops, flops, memory, bandwidth)


def _gpu(name: str, bfloat16_flops: float | None, float32_flops: float, memory: float, bandwidth: float) -> Chip:
    """Returns a GPU from the figures of its datasheet: FLOP/s, bytes, bytes/s."""
    return Chip(name, 1, bfloat16_flops, float32_flops, int(memory), bandwidth)


# Cloud TPU documentation, page "System architecture" of each version (docs.cloud.google.com/tpu/docs/<version>); its
# GB of memory are GiB.
_V5E = _tpu("TPU v5e", 1, 197e12, 16, 819e9)
_V5P = _tpu("TPU v5p", 1, 459e12, 95, 2765e9)
_V6E = _tpu("TPU v6e", 1, 918e12, 32, 1640e9)
_TPUS = {
    "TPU v2": _tpu("TPU v2", 2, 46e12, 16, 700e9),
    "TPU v3": _tpu("TPU v3", 2, 123e12, 32, 900e9),
    "TPU v4": _tpu("TPU v4", 1, 275e12, 32, 1200e9),
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
}

# NVIDIA's datasheet of each GPU; of the B200, that of HGX B200 divided by its eight GPUs.
_GPUS = {
    "Tesla T4": _gpu("T4", None, 8.1e12, 16e9, 320e9),
    "Tesla V100-PCIE-16GB": _gpu("V100 PCIe 16 GB", None, 14e12, 16e9, 900e9),
    "Tesla V100-PCIE-32GB": _gpu("V100 PCIe 32 GB", None, 14e12, 32e9, 900e9),
    "Tesla V100-SXM2-16GB": _gpu("V100 SXM2 16 GB", None, 15.7e12, 16e9, 900e9),
    "Tesla V100-SXM2-32GB": _gpu("V100 SXM2 32 GB", None, 15.7e12, 32e9, 900e9),
    "NVIDIA A10G": _gpu("A10G", 70e12, 35e12, 24e9, 600e9),
    "NVIDIA L4": _gpu("L4", 121e12, 60e12, 24e9, 300e9),
    "NVIDIA L40S": _gpu("L40S", 362e12, 183e12, 48e9, 864e9),
    "NVIDIA A100-PCIE-40GB": _gpu("A100 PCIe 40 GB", 312e12, 156e12, 40e9, 1555e9),
    "NVIDIA A100-SXM4-40GB": _gpu("A100 SXM 40 GB", 312e12, 156e12, 40e9, 1555e9),
    "NVIDIA A100 80GB PCIe": _gpu("A100 PCIe 80 GB", 312e12, 156e12, 80e9, 1935e9),
    "NVIDIA A100-SXM4-80GB": _gpu("A100 SXM 80 GB", 312e12, 156e12, 80e9, 2039e9),
    "NVIDIA H100 PCIe": _gpu("H100 PCIe", 756e12, 378e12, 80e9, 2000e9),
    "NVIDIA H100 80GB HBM3": _gpu("H100 SXM", 989e12, 494e12, 80e9, 3350e9),
    "NVIDIA H200": _gpu("H200 SXM", 989e12, 494e12, 141e9, 4800e9),
    "NVIDIA B200": _gpu("B200", 2250e12, 1125e12, 180e9, 8000e9),
}


def of(device_kind: str) -> Chip | None:
    """Returns the chip of `jax.Device.device_kind`, such as "TPU v3" or "NVIDIA H200", or None if it is not known."""
    return (_TPUS | _GPUS).get(device_kind)


def memory_of(device: "jax.Device") -> int | None:
    """Returns the bytes that a device can hold, or None if it does not say; CPU devices share the host's evenly."""
    if device.platform == "cpu":
        return host_memory() // device.client.local_device_count()
    return (device.memory_stats() or {}).get("bytes_limit")


def host_memory() -> int:
    """Returns the bytes of the host's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpu_cores() -> int:
    """Returns on how many CPU cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
