"""One process for each work directory: a second one is refused while the first lives."""

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mixer_jax.errors import ConfigError

logger = logging.getLogger("mixer_jax")


@contextlib.contextmanager
def only_process(workdir: Path) -> Iterator[None]:
    """Holds the lock of a work directory, the file `lock` in it, which names the process and its host.

    The lock is the kernel's (flock), not the file: it ends with the process, however that dies, and the file may stay.
    It holds between the processes of a host on every local file system, and between hosts on those that pass locks on:
    NFS, where Linux makes byte-range locks of them, CephFS, GPFS, and Lustre if mounted with `flock`. A file system
    without locks is used without one, with a warning; one that keeps them to the host (Lustre's `localflock`, most
    object stores mounted by FUSE) cannot be told apart.

    Args:
      workdir: the work directory, which exists.

    Raises:
      ConfigError: another process holds the lock; the message names it.
      OSError: the file cannot be written.
    """
    with (workdir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"--workdir={workdir} is in use by {file.read().strip() or 'another process'}; "
                "stop that first, or choose another --workdir"
            ) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): see to it yourself that no other process uses it", workdir, error.strerror
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
