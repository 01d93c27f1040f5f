"""Writes the ArrayRecord shards of a data set by several processes, such that it can be stopped at any moment.

A shard gets its name only when it is whole, and its content depends on the input alone: what is there under its name
need not be written again, whoever wrote it.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, TypeVar

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer
from tqdm import tqdm

from mixer_jax.data.decode import ImageError, Picture
from mixer_jax.errors import ConfigError
from mixer_jax.prepare.examples import Example
from mixer_jax.prepare.workspace import WORK, read


class LeftOut(NamedTuple):
    """An example that is not in the data set, and why."""

    name: str
    reason: str


class Damaged(NamedTuple):
    """The record of an image that is in the data set, though what is damaged of it is guessed when it is decoded."""

    name: str
    record: bytes


class Shard(Protocol):
    """A shard to be written."""

    @property
    def name(self) -> str:
        """The name of its file."""

    def __len__(self) -> int: ...

    def records(self) -> Iterator[bytes | Damaged | LeftOut]:
        """Yields what the shard holds, and what it does not."""


_SomeShard = TypeVar("_SomeShard", bound=Shard)


class _Result(TypedDict):
    """What is in a shard, and what is not."""

    examples: int
    bytes: int
    left_out: list[LeftOut]
    damaged: list[str]


@dataclass(frozen=True)
class ImageShard:
    """Encoded images and their class numbers."""

    name: str
    examples: list[Example]
    labels: list[int]

    def __len__(self) -> int:
        """Returns how many examples it has if all can be decoded."""
        return len(self.examples)

    def records(self) -> Iterator[bytes | Damaged | LeftOut]:
        """Yields the records, of the bytes as they are; what cannot be decoded is left out."""
        encoder = features(num_classes=max(self.labels) + 1)
        serializer = example_serializer.ExampleSerializer(encoder.get_serialized_info())
        for example, label in zip(self.examples, self.labels, strict=True):
            encoded, title = example.read(), f"{example.split}/{example.name}"
            picture = Picture(encoded)
            try:
                picture.rgb()
            except ImageError as error:
                yield LeftOut(title, str(error))
                continue
            values = {"image": encoded, "label": label, "file_name": os.fsencode(example.name)}
            message = serializer.get_tf_example(encoder.encode_example(values))
            record = message.SerializeToString(deterministic=True)  # otherwise the order of the features may vary
            yield Damaged(title, record) if picture.damaged else record


def features(**classes) -> tfds.features.FeaturesDict:
    """Returns the features of prepared images; arguments are those of ClassLabel."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(**classes),
            "file_name": tfds.features.Text(),
        }
    )


def room(examples: int) -> int:
    """Returns how many bytes a shard of so many examples takes at most beside the examples themselves, as measured."""
    return (128 << 10) + 256 * examples


def missing(shards: Sequence[_SomeShard], folder: Path) -> list[_SomeShard]:
    """Returns those shards that are not in the folder yet."""
    return [shard for shard in shards if not (folder / shard.name).exists()]


def write(shards: Sequence[Shard], folder: Path, *, workers: int) -> list[dict]:
    """Writes those shards that are not there yet.

    Args:
      shards: what is to be written.
      folder: where they go; folder/WORK is there already.
      workers: number of processes.

    Returns:
      For each shard {"examples": number, "bytes": size of the records, "left_out": [[name, reason], ...],
      "damaged": [name, ...]}.

    Raises:
      ConfigError: the input cannot be read, or no room is left.
    """
    for stale in (folder / WORK).glob("*.part"):
        stale.unlink()
    to_write = missing(shards, folder)
    total = sum(map(len, shards))
    done = total - sum(map(len, to_write))
    with tqdm(total=total, initial=done, unit="img", desc="write", disable=None, dynamic_ncols=True) as bar:
        try:
            if workers == 1 or len(to_write) < 2:
                for shard in to_write:
                    _write_shard(shard, folder, bar.update)
            else:
                _write_in_processes(to_write, folder, min(workers, len(to_write)), bar)
        except OSError as error:
            raise ConfigError(
                f"writing to {folder} has stopped: {error}; the same command goes on from there"
            ) from error
    noted = [read(_result_path(shard, folder), folder) for shard in shards]
    return [{"damaged": []} | result for result in noted]  # which an older version has not noted


def _result_path(shard, folder):
    return folder / WORK / f"{shard.name}.json"


def _write_shard(shard: Shard, folder: Path, count: Callable[[int], object]) -> None:
    # Of two processes with the same shard, such as one whose parent was killed, each has a file of its own.
    temporary = folder / WORK / f"{shard.name}.{os.getpid()}.part"
    result: _Result = {"examples": 0, "bytes": 0, "left_out": [], "damaged": []}
    with _writer(temporary) as writer:
        for record in shard.records():
            if isinstance(record, LeftOut):
                result["left_out"].append(record)
                count(1)
                continue
            if isinstance(record, Damaged):
                result["damaged"].append(record.name)
                record = record.record
            writer.write(record)
            result["examples"] += 1
            result["bytes"] += len(record)
            count(1)
    report = temporary.with_suffix(".json.part")
    report.write_text(json.dumps(result))
    for path in (report, temporary):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    report.replace(_result_path(shard, folder))  # before the shard, whose presence says that all is there
    temporary.replace(folder / shard.name)


@contextlib.contextmanager
def _writer(path):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    try:
        yield writer
    except BaseException:
        with contextlib.suppress(RuntimeError):
            writer.close()
        path.unlink(missing_ok=True)
        raise
    try:
        writer.close()
    except RuntimeError as error:  # a full disk shows here, whichever record it was
        path.unlink(missing_ok=True)
        raise OSError(str(error)) from error


def _write_in_processes(shards, folder, workers, bar):
    # Not fork: the parent has threads, and a forked child would keep its siblings' pipes to a dead parent open.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    start = bar.n
    with futures.ProcessPoolExecutor(workers, context, _start_worker, (counter, stop)) as pool:
        waiting = {pool.submit(_write_in_worker, shard, folder) for shard in shards}
        try:
            while waiting:
                done, waiting = futures.wait(waiting, timeout=0.2, return_when=futures.FIRST_COMPLETED)
                bar.update(start + counter.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise ConfigError(
                f"--workers={workers}: a worker was killed, perhaps for want of memory; the same command goes on from "
                "the shards that are written, with fewer workers if you like"
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}  # of a worker process: what counts its examples, and what tells it to stop


def _start_worker(counter, stop):
    _worker.update(counter=counter, stop=stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent tells the workers
    # A worker whose parent was killed would wait for work for ever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)


def _write_in_worker(shard, folder):
    def count(number):
        with _worker["counter"].get_lock():
            _worker["counter"].value += number
        if _worker["stop"].is_set():
            raise InterruptedError("stopped")

    _write_shard(shard, folder, count)
