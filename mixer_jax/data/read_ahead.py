"""Making batches ahead of their use, by Grain: in threads, or in worker processes that stop in order or loudly."""

import errno
import itertools
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Generator, Iterator
from concurrent import futures
from multiprocessing import resource_tracker
from typing import Protocol

import cloudpickle
import grain
import numpy as np
from absl import flags

from mixer_jax.errors import RunError


class Batches(Protocol):
    """Batches by number; each is made when it is asked for.

    Attributes:
      threads: threads of a process that make a batch; 0 if the one that asks does.
    """

    threads: int

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> dict[str, np.ndarray]: ...

    def close(self) -> None:
        """Leaves the batches that are being made as they are."""
        ...


def read_ahead(
    batches: Batches, *, start: int, workers: int, prefetch: int
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yields batches in their order, made ahead by Grain.

    Args:
      batches: the batches by number.
      start: number of the first one.
      workers: processes that make them, in turns; 0 to make them in this one.
      prefetch: batches that each process holds ready or works on.

    Raises (while it yields):
      RunError: a worker process died. What making a batch raises is raised here, too.
    """
    if workers:
        yield from _read_in_workers(batches, start=start, workers=workers, prefetch=prefetch)
        return
    ahead = prefetch if batches.threads else 0
    iterator = iter(_dataset(batches, start, ahead))
    try:
        yield from iterator
    finally:
        iterator.close()
        batches.close()


def _dataset(batches, start: int, ahead: int) -> grain.IterDataset:
    read = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    return grain.MapDataset.source(batches)[start:].to_iter_dataset(read)


def _read_in_workers(batches: Batches, *, start: int, workers: int, prefetch: int) -> Iterator[dict[str, np.ndarray]]:
    if not flags.FLAGS.is_parsed():  # Grain reads flags of its own, also in programs that use none
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    with tempfile.NamedTemporaryFile(prefix="mixer_jax_batches_") as file:
        file.write(cloudpickle.dumps(batches))
        file.flush()
        stored = _Stored(batches, file.name)
        iterator = iter(_dataset(stored, start, prefetch).mp_prefetch(options, _begin_worker))
        # Ctrl-C and many a scheduler's SIGTERM reach all processes, and the main one still needs batches to stop in
        # order. What this thread starts, and the workers are, inherits that the signals are blocked.
        starter = futures.ThreadPoolExecutor(1, initializer=_block_signals)
        try:
            yield from starter.submit(lambda: list(itertools.islice(iterator, 1))).result()
            yield from iterator
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise RunError(_too_little_shared_memory(workers)) from error
        except RuntimeError as error:
            if "process was terminated" not in str(error):
                raise
            if f"exit code {-signal.SIGBUS}" in str(error):
                raise RunError(_too_little_shared_memory(workers)) from error
            raise RunError(
                f"one of config.data.workers={workers} processes that make the batches died: {error} "
                "The usual reason is too little memory"
            ) from error
        finally:
            iterator.close()
            starter.shutdown()


def _too_little_shared_memory(workers: int) -> str:
    room = shutil.disk_usage("/dev/shm")
    return (
        f"config.data.workers={workers}: processes pass batches through /dev/shm, of whose {room.total:,} bytes "
        f"{room.free:,} are free; enlarge it (docker run --shm-size=4g), or make the batches in the main process: "
        "config.data.workers=0"
    )


class _Stored:
    """Batches that are pickled as the name of the file that holds them.

    A process that is started gets what it needs through a pipe, and the one that starts it waits for ever if the other
    dies before it has read all. What is small enough lies in the pipe at once.
    """

    def __init__(self, batches: Batches, path: str):
        self._batches = batches
        self._path = path

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        return self._batches[number]

    def __reduce__(self):
        return _load, (self._path,)


def _load(path: str) -> Batches:
    with open(path, "rb") as file:
        return cloudpickle.load(file)


def _block_signals() -> None:
    resource_tracker.ensure_running()  # which would unblock them when the first worker starts it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})


def _begin_worker(_number: int, _count: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    parent.join()
    os._exit(1)  # nobody is left to take the batches, and Grain would wait for ever
