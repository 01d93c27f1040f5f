"""A training step compiled ahead of time, and what the compiler says of it."""

import dataclasses
import math

import jax

from mixer_jax.planning.topology import bytes_in
from mixer_jax.training.setup import Training


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step that fits, as numbers of one device.

    Attributes:
      state_bytes: memory of parameters and optimizer state.
      batch_bytes: memory of the device's share of the batch.
      temporary_bytes: memory of activations and gradients, at their peak.
      program_bytes: memory of the program.
      flops: floating-point operations of the step, with those of rematerialisation.
      bytes: bytes that the step reads from memory and writes to it.
      seconds: time of the step, as the compiler estimates it; without exchange between devices.
    """

    state_bytes: int
    batch_bytes: int
    temporary_bytes: int
    program_bytes: int
    flops: float
    bytes: float
    seconds: float

    @property
    def memory_bytes(self) -> int:
        """Memory of all of it."""
        return self.state_bytes + self.batch_bytes + self.temporary_bytes + self.program_bytes


class OutOfMemory(Exception):
    """A step does not fit.

    Attributes:
      memory_bytes: memory that it would need on a device, before the compiler saved what it can.
    """

    def __init__(self, memory_bytes: int):
        super().__init__(f"{memory_bytes:,} bytes of memory needed")
        self.memory_bytes = memory_bytes


def compile_step(training: Training) -> Compiled:
    """Compiles the training step for the devices of its mesh, which need not be there.

    Args:
      training: what `build_training` makes of a config.

    Returns:
      What the compiler says of the step. Bodies of loops count once in FLOPs, bytes and seconds.

    Raises:
      OutOfMemory: it does not fit.
    """
    lowered = training.train_step.lower(training.abstract_state, training.abstract_batch)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "Ran out of memory" not in str(error):
            raise
        inputs = share_bytes((training.abstract_state, training.abstract_batch))
        raise OutOfMemory(needed_bytes(str(error), inputs)) from error
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    assert cost is not None  # None is for compilers other than XLA's
    assert memory is not None
    return Compiled(
        state_bytes=memory.alias_size_in_bytes,  # what is donated
        batch_bytes=memory.argument_size_in_bytes - memory.alias_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        program_bytes=memory.generated_code_size_in_bytes,
        flops=cost["flops"],
        bytes=cost["bytes accessed"],
        seconds=cost.get("optimal_seconds", math.nan),  # compilers for other devices than TPUs estimate none
    )


def needed_bytes(message: str, inputs: int) -> int:
    """Returns the bytes of memory that a program would need, from the compiler's refusal.

    Args:
      message: names them all, as "Used 20.31G of", or temporaries alone, as "HLO temporaries (49.53G)".
      inputs: bytes of the program's arguments.
    """
    if "HLO temporaries" in message:
        return inputs + bytes_in(message, r"HLO temporaries \(([\d.]+[KMGT])\)")
    return bytes_in(message, r"Used ([\d.]+[KMGT]) of")


def share_bytes(tree) -> int:
    """Returns the bytes that one device holds of a tree of ShapeDtypeStructs with shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
