"""How fast the model of a config trains and infers, on synthetic images that lie on the devices already."""

import logging
import math
import platform
import re
import statistics
import time
from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mixer_jax import rng
from mixer_jax.benchmark import device
from mixer_jax.config import ranges
from mixer_jax.models import registry
from mixer_jax.models.cost import forward_flops
from mixer_jax.runtime import mesh
from mixer_jax.steps.infer_steps import scale_pixels
from mixer_jax.steps.types import Batch
from mixer_jax.training.setup import Training, build_training, check_memory

logger = logging.getLogger("mixer_jax")

# Sizes of the default sweep, images a core. It ends when two in a row were slower than the best before them.
BATCH_SIZES = tuple(2**power for power in range(3, 13))
_PATIENCE = 2


class _Inference:
    """Images to logits; the parameters are float32, as a checkpoint holds them."""

    name, cost = "inference", 1  # in forward passes

    def __init__(self, training: Training, key: jax.Array):
        self._params = jax.jit(lambda key: training.init(key).params)(key)

    def compile(self, training: Training, batch: Batch):
        """Compiles the work for batches like this one."""

        def logits(params, images):
            return training.model.apply({"params": mesh.gather(training.mesh, params)}, scale_pixels(images))

        return jax.jit(logits).lower(self._params, batch["image"]).compile()

    def run(self, compiled, batch: Batch, steps: int) -> None:
        """Does the work so many times, and waits until it is done."""
        for _ in range(steps):
            logits = compiled(self._params, batch["image"])
        jax.block_until_ready(logits)


class _Training:
    """The training step of the config, with its optimizer, mixup, masks and metrics."""

    name, cost = "training", 3  # in forward passes: see models.cost

    def __init__(self, training: Training, key: jax.Array):
        self._state = training.init(key)

    def compile(self, training: Training, batch: Batch):
        """Compiles the work for batches like this one."""
        return training.train_step.lower(self._state, batch).compile()

    def run(self, compiled, batch: Batch, steps: int) -> None:
        """Does the work so many times, and waits until it is done."""
        for _ in range(steps):
            self._state, metrics = compiled(self._state, batch)
        jax.block_until_ready((self._state, metrics))


def measure(config: ConfigDict, *, batch_sizes: Sequence[int] | None, seconds: float, rounds: int) -> dict:
    """Measures inference, then training, over a sweep of batch sizes, on all devices.

    The best of the sweep is what the paper calls throughput (Table 2 there, of inference on TPU v3). The images lie on
    the devices before the time starts, so that neither input nor copies count.

    Args:
      config: a recipe; its data set, batch size and length do not matter.
      batch_sizes: images of a step and core, in the order of the sweep; None for `BATCH_SIZES`.
      seconds: that a round takes, at least one step.
      rounds: timed runs of each size, after one that is not counted.

    Returns:
      What `as_text` shows, ready for JSON: times in seconds, memory in bytes, and everything a core, which is a JAX
      device. "runs" holds, by kind of work, a list of sizes; the last one may have "out_of_memory" alone.

    Raises:
      ConfigError: a value of the config is wrong.
    """
    ranges.check(config)
    device_mesh = mesh.create_mesh(fsdp=config.mesh.fsdp)
    sizes, patience = (batch_sizes, len(batch_sizes)) if batch_sizes else (BATCH_SIZES, _PATIENCE)
    dtype = registry.compute_dtype(config.model)
    peak, source = device.peak_flops(dtype, device_mesh)
    runs = {
        work.name: _sweep(work, config, device_mesh, sizes, patience, seconds=seconds, rounds=rounds, peak=peak)
        for work in (_Inference, _Training)  # in this order the second one's peak of memory is the higher
    }
    devices = device_mesh.devices.flatten()
    return {
        "model": config.model.name,
        "image_size": config.data.image_size,
        "dtype": dtype,
        "device": devices[0].device_kind,
        "cores": len(devices),
        "peak_flops": peak,
        "peak_from": source,
        "versions": {"jax": jax.__version__, "flax": flax.__version__, "python": platform.python_version()},
        "runs": runs,
        "best": {name: _best(rows) for name, rows in runs.items()},
    }


def _sweep(kind, config, device_mesh, sizes, patience, *, seconds, rounds, peak) -> list[dict]:
    rows: list[dict] = []
    work, slower = None, 0
    for size in sizes:
        training = _training(config, device_mesh, size)
        if work is None:
            check_memory(training)
        try:
            work = work or kind(training, rng.key(config.seed, "init"))
            row = _measure_one(work, training, seconds=seconds, rounds=rounds, peak=peak)
        except jax.errors.JaxRuntimeError as error:
            # RESOURCE_EXHAUSTED is the code, but not of what a CPU device meets in the background.
            if not re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.IGNORECASE):
                raise
            logger.info("%s, batch size %d a core: out of memory; the sweep ends here", kind.name, size)
            return [*rows, {"batch_size": size, "out_of_memory": str(error).splitlines()[0]}]
        logger.info("%s, batch size %d a core: %.1f img/sec/core", kind.name, size, row["img_sec_core"])
        best = _best(rows)
        slower = slower + 1 if best and row["img_sec_core"] < best["img_sec_core"] else 0
        rows.append(row)
        if slower == patience:
            break
    return rows


def _training(config: ConfigDict, device_mesh: jax.sharding.Mesh, size: int) -> Training:
    config = config.copy_and_resolve_references()
    config.batch_size = size * device_mesh.size
    config.steps = config.schedule.warmup_steps + 1  # whatever is valid: a step takes the same time in any training
    return build_training(config, device_mesh, num_examples=config.batch_size)


def _measure_one(work, training: Training, *, seconds: float, rounds: int, peak: float) -> dict:
    devices = training.mesh.local_devices
    before = device.most_memory(devices)
    batch = _random_batch(training)
    size = len(batch["image"]) // training.mesh.size
    start = time.perf_counter()
    compiled = work.compile(training, batch)
    compile_seconds = time.perf_counter() - start
    _timed(work, compiled, batch, 1)  # the first run loads the program
    steps = max(1, math.ceil(seconds / _timed(work, compiled, batch, 1)))
    work.run(compiled, batch, steps)
    step_seconds = [_timed(work, compiled, batch, steps) / steps for _ in range(rounds)]
    rate = size / statistics.median(step_seconds)
    flops = rate * work.cost * forward_flops(training.model, training.abstract_batch["image"].shape[1])
    after = device.most_memory(devices)
    grown = after is not None and after > (before or 0)
    return {
        "batch_size": size,
        "img_sec_core": rate,
        "img_sec_core_min": size / max(step_seconds),
        "img_sec_core_max": size / min(step_seconds),
        "step_seconds": step_seconds,
        "steps_a_round": steps,
        "flops_a_second": flops,
        "of_peak": flops / peak,
        "memory": after if grown else device.planned_memory(compiled),
        "memory_from": "device" if grown else "compiler",
        "compile_seconds": compile_seconds,
    }


def _timed(work, compiled, batch: Batch, steps: int) -> float:
    start = time.perf_counter()
    work.run(compiled, batch, steps)
    return time.perf_counter() - start


def _random_batch(training: Training) -> Batch:
    """Returns a batch of noise; equal pixels draw less power, and let some matrix units run faster."""
    image, label = (training.abstract_batch[name] for name in ("image", "label"))
    flags = [name for name in training.abstract_batch if name not in ("image", "label")]

    def batch(key):
        return {
            "image": jax.random.bits(key, image.shape, image.dtype),
            "label": jax.random.randint(key, label.shape, 0, training.model.num_classes, label.dtype),
            **{name: jnp.zeros(label.shape, bool) for name in flags},
        }

    shardings = {name: x.sharding for name, x in training.abstract_batch.items()}
    return jax.jit(batch, out_shardings=shardings)(rng.key(0, "benchmark"))


def _best(rows: list[dict]) -> dict | None:
    return max((row for row in rows if "img_sec_core" in row), key=lambda row: row["img_sec_core"], default=None)


def as_text(report: dict) -> str:
    """Returns the table of a report of `measure`."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"{report['model']}, {report['image_size']} pixels, {report['dtype']}; {report['cores']} x {report['device']}",
        f"peak of a core: {report['peak_flops'] / 1e12:.3g} TFLOP/s ({report['peak_from']}); {versions}",
        "",
        f"{'':10}{'batch/core':>11}{'img/sec/core':>14}{'from':>10}{'to':>10}{'TFLOP/s':>10}{'of peak':>9}"
        f"{'GB/core':>9}{'compile s':>11}",
    ]
    for name, rows in report["runs"].items():
        for row in rows:
            start = f"{name:10}{row['batch_size']:11,}"
            if "out_of_memory" in row:
                lines.append(f"{start}   out of memory")
                continue
            memory = "-" if row["memory"] is None else f"{row['memory'] / 1e9:.2f}"
            lines.append(
                f"{start}{row['img_sec_core']:14,.1f}{row['img_sec_core_min']:10,.1f}{row['img_sec_core_max']:10,.1f}"
                f"{row['flops_a_second'] / 1e12:10.3f}{row['of_peak']:9.1%}{memory:>9}{row['compile_seconds']:11.1f}"
                f"{'  best' if row == report['best'][name] else ''}"
            )
    return "\n".join(lines)
