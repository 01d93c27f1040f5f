"""Several processes that run one program: their start, and what they tell each other."""

import logging

import jax
import numpy as np
from jax.experimental import multihost_utils

from mixer_jax.errors import ConfigError

logger = logging.getLogger("mixer_jax")

# A process that ends waits so long for the others, and then all are ended: after an error of one alone, nobody hangs.
# Of a run that ends well, the processes come apart by what process 0 writes last, and Orbax's saves keep them together.
_SHUTDOWN_SECONDS = 60


def start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects this process to the others of the run; to be called before anything asks JAX for its devices.

    On TPUs, JAX finds out by itself which hosts belong together. Elsewhere the three arguments say so; without them
    this process is the only one.

    Args:
      coordinator: <host>:<port> of process 0, with a free port of it.
      num_processes: how many processes there are.
      process_id: number of this one, from 0.

    Raises:
      ConfigError: some of the three are missing or wrong; the message names their flags. Or, on TPUs, nobody says
        which hosts there are.
    """
    given = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    missing = [flag for flag, value in given.items() if value is None]
    if coordinator is not None and num_processes is not None and process_id is not None:
        _check(coordinator, num_processes, process_id)
        jax.distributed.initialize(coordinator, num_processes, process_id, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    elif len(missing) < len(given):
        raise ConfigError(
            f"{' and '.join(missing)} missing: a process of several needs {', '.join(given)}; one alone, none of them"
        )
    # JAX sets it where it finds TPUs, unless JAX_PLATFORMS is set; its types do not know its settings.
    elif "tpu" in (jax.config.jax_platforms or ""):  # type: ignore[attr-defined]
        try:
            jax.distributed.initialize(shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
        except ValueError as error:  # JAX's word for: nothing says that this host is one of several
            logger.warning("this host trains alone, because JAX found no others (%s)", error)
        except OSError as error:
            raise ConfigError(
                "JAX cannot ask the TPU's metadata server for the other hosts; a single host trains alone with "
                f"TPU_SKIP_MDS_QUERY=1 in the environment ({error})"
            ) from error


def gather(text: str) -> list[str]:
    """Returns the texts of all processes, by number; every process has to call this, and waits for the others."""
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(own.size)).reshape(-1)
    padded = np.pad(own, (0, lengths.max() - own.size))
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--coordinator={coordinator}; expected <host>:<port>, such as 10.0.0.1:1234")
    if num_processes < 1:
        raise ConfigError(f"--num_processes={num_processes}; expected a positive number")
    if not 0 <= process_id < num_processes:
        raise ConfigError(f"--process_id={process_id}; expected 0 to {num_processes - 1}, one for each process")
