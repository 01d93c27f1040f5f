"""One process for each folder that is worked in: a second one is refused while the first lives."""

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
def only_process(file: Path, holder: str) -> Iterator[None]:
    """Holds a lock, the file of which names the process and its host.

    The lock is the kernel's (flock), not the file: it ends with the process, however that dies, and the file may stay.
    It holds between the processes of a host on every local file system, and between hosts on those that pass locks on:
    NFS, where Linux makes byte-range locks of them, CephFS, GPFS, and Lustre if mounted with `flock`. A file system
    without locks is used without one, with a warning; one that keeps them to the host (Lustre's `localflock`, most
    object stores mounted by FUSE) cannot be told apart.

    Args:
      file: the file of the lock, whose folder exists.
      holder: what messages say is in use, such as "--workdir=runs/digits".

    Raises:
      ConfigError: another process holds the lock; the message names it.
      OSError: the file cannot be written.
    """
    with file.open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise ConfigError(
                f"{holder} is in use by {held.read().strip() or 'another process'}; stop that first, or choose another"
            ) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): see to it yourself that no other process uses it", holder, error.strerror
            )
        held.truncate(0)
        held.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        held.flush()
        yield
