"""The plan of a training: what its step needs and costs on a slice, and what the whole run does."""

import dataclasses
import math

import jax
from ml_collections import ConfigDict

from mixer_jax.models import registry
from mixer_jax.models.cost import forward_flops
from mixer_jax.planning.compilation import Compiled, OutOfMemory, compile_step
from mixer_jax.planning.topology import Slice
from mixer_jax.runtime import hardware, mesh
from mixer_jax.training.setup import Training, build_training


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training on a slice; a core is a JAX device, and bytes, FLOPs and seconds are those of a step on a core.

    Attributes:
      topology: the slice.
      device: the chip.
      chips: chips of the slice.
      cores: cores of the slice.
      batch_size: images of a step over all cores.
      batch_per_core: images of a step on a core.
      parameters: parameters of the model.
      steps: length of the training.
      usable_bytes: memory that programs can use.
      memory_bytes: memory needed; before the compiler saved what it can, if that was not enough.
      compiled: what the compiler says of the step; None if it does not fit.
      model_flops: FLOPs that the training needs, without those of rematerialisation.
      compute_seconds: time of these at the chip's peak.
      traffic_seconds: time of the bytes at the bandwidth of the chip's memory; None if the step does not fit.
    """

    topology: str
    device: str
    chips: int
    cores: int
    batch_size: int
    batch_per_core: int
    parameters: int
    steps: int
    usable_bytes: int
    memory_bytes: int
    compiled: Compiled | None
    model_flops: float
    compute_seconds: float
    traffic_seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the step fits into memory."""
        return self.compiled is not None

    @property
    def step(self) -> Compiled:
        """What the compiler says of a step that fits."""
        assert self.compiled is not None
        return self.compiled

    @property
    def img_sec_core(self) -> float:
        """Images a second and core, as the compiler estimates it."""
        return self.batch_per_core / self.step.seconds

    @property
    def bound_seconds(self) -> float:
        """The roofline: no step is faster than its FLOPs at the peak, nor than its bytes at the bandwidth."""
        assert self.traffic_seconds is not None  # of a step that fits
        return max(self.compute_seconds, self.traffic_seconds)

    @property
    def hours(self) -> float:
        """Hours of all steps; without input, evaluation and checkpoints."""
        return self.steps * self.step.seconds / 3600

    @property
    def core_days(self) -> float:
        """Days of all steps, times cores."""
        return self.cores * self.hours / 24


def make_plan(config: ConfigDict, on: Slice, *, num_examples: int) -> Plan:
    """Compiles the training step of a config for a slice.

    Args:
      config: a recipe, with the keys of mixer_jax/config/base.py.
      on: the slice.
      num_examples: size of the training data.

    Returns:
      The plan; it says whether the step fits.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    training = _training(config, on, num_examples)
    try:
        compiled = compile_step(training)
        if config.accumulation_steps > 1:
            compiled = with_all_parts(compiled, config, on)
        memory_bytes = compiled.memory_bytes
    except OutOfMemory as error:
        compiled, memory_bytes = None, error.memory_bytes
    chip, cores = hardware.of(on.devices[0].device_kind), len(on.devices)
    assert chip is not None  # `hardware` knows all TPUs that there are slices of
    assert chip.bfloat16_flops is not None  # and TPUs have units for it
    batch_per_core = config.batch_size // cores
    model_flops = 3 * batch_per_core * forward_flops(training.model, config.data.image_size)
    peak = chip.bfloat16_flops if registry.compute_dtype(config.model) == "bfloat16" else chip.float32_flops
    return Plan(
        topology=on.name,
        device=chip.name,
        chips=cores // chip.cores,
        cores=cores,
        batch_size=config.batch_size,
        batch_per_core=batch_per_core,
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(training.abstract_state.params)),
        steps=training.total_steps,
        usable_bytes=on.usable_bytes,
        memory_bytes=memory_bytes,
        compiled=compiled,
        model_flops=model_flops,
        compute_seconds=model_flops / peak,
        traffic_seconds=compiled.bytes / chip.bandwidth if compiled else None,
    )


def changed(config: ConfigDict, keys: dict) -> ConfigDict:
    """Returns a copy of a config with other values at some dotted keys."""
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(keys)
    return copy


def with_all_parts(compiled: Compiled, config: ConfigDict, on: Slice) -> Compiled:
    """Returns a step's numbers with all parts of an accumulated gradient, of which the compiler counts one.

    A step costs what its update does, plus what grows with its batch. Two steps without accumulation, one of a part and
    one of another size, tell both.
    """
    parts = config.accumulation_steps
    part = config.batch_size // parts
    other = part // 2 if part % (2 * len(on.devices)) == 0 else 2 * part

    def step_of(batch_size):
        keys = {"accumulation_steps": 1, "batch_size": batch_size, "steps": 1, "schedule.warmup_steps": 0}
        return compile_step(_training(changed(config, keys), on, num_examples=1))

    of_part, of_other = step_of(part), step_of(other)

    def total(name):
        whole = getattr(of_part, name)
        of_image = (whole - getattr(of_other, name)) / (part - other)
        return whole + (config.batch_size - part) * of_image

    return dataclasses.replace(compiled, **{name: total(name) for name in ("flops", "bytes", "seconds")})


def _training(config: ConfigDict, on: Slice, num_examples: int) -> Training:
    return build_training(config, mesh.create_mesh(on.devices, fsdp=config.mesh.fsdp), num_examples=num_examples)
