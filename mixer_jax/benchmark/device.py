"""What a device can do and holds: its peak FLOP/s, and the memory that was or will be used."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mixer_jax.runtime import hardware, mesh


def peak_flops(dtype: str, device_mesh: jax.sharding.Mesh) -> tuple[float, str]:
    """Returns the peak FLOP/s of a device of the mesh for matrix products, and where it is from.

    Args:
      dtype: "bfloat16" or "float32", of the arrays that are multiplied.
      device_mesh: the devices; on one that `hardware` does not know, a product is measured.
    """
    chip = hardware.of(device_mesh.devices.flat[0].device_kind)
    if chip and (published := {"bfloat16": chip.bfloat16_flops, "float32": chip.float32_flops}[dtype]):
        return published, f"as published of {chip.name}"
    return _matrix_product_flops(dtype, device_mesh), "a matrix product, measured"


def most_memory(devices: Sequence[jax.Device]) -> int | None:
    """Returns the most bytes that any device has held since the process started, or None if none of them says so."""
    stats = [device.memory_stats() or {} for device in devices]
    return max((s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s), default=None)


def planned_memory(compiled: jax.stages.Compiled) -> int | None:
    """Returns the bytes that a program needs of each device: arguments, results and temporaries, aliases once."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    kept = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return kept + stats.temp_size_in_bytes


def _matrix_product_flops(dtype: str, device_mesh: jax.sharding.Mesh) -> float:
    """Returns the FLOP/s a device of the fastest of some square matrix products, on all devices at once."""
    product = jax.jit(jnp.matmul)
    best = 0.0
    for n in (1024, 2048, 4096, 8192):
        a = jax.random.normal(jax.random.key(0), (device_mesh.size, n, n), dtype)
        a = jax.device_put(a, mesh.batch_sharding(device_mesh))
        product(a, a).block_until_ready()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            product(a, a).block_until_ready()
            times.append(time.perf_counter() - start)
        best = max(best, 2 * n**3 / min(times))
        if min(times) > 0.1:  # enough to hide what a call costs
            break
    return best
