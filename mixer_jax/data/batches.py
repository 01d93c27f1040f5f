"""Batches whose content is a function of (seed, step): no iterator state to save or to lose.

Training walks an endless sequence of positions. Epoch e is a seeded permutation of the source; global batch t is the
positions [t B, (t + 1) B); host h of H reads the h-th contiguous B / H of them. An example's augmentation is a
function of (seed, position).
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from concurrent import futures

import grain
import numpy as np

from mixer_jax import rng
from mixer_jax.data.decode import ImageError
from mixer_jax.data.read_ahead import read_ahead
from mixer_jax.data.sources import Examples
from mixer_jax.errors import RunError, readable

logger = logging.getLogger("mixer_jax")

HostBatch = dict[str, np.ndarray]

_UNDECODABLE = "undecodable"  # in a batch, until it is handed out
_TASK = 8  # examples that a thread takes at a time: each change of hands costs as much as a small image
_REPLACEMENTS = 10  # that are tried for an image: where so many in a row cannot be decoded, it is not the image


class NoneDecodableError(RunError):
    """No image of a data set can be decoded."""


def record_index(position: int, *, size: int, seed: int) -> int:
    """Returns which record of a source of `size` records stands at a position of the training sequence."""
    epoch, place = divmod(position, size)
    return _epoch_order(size, seed, epoch)[place]


@functools.lru_cache(maxsize=8)
def _epoch_order(size: int, seed: int, epoch: int) -> grain.MapDataset:
    # Grain's shuffle computes each index by itself: nothing as large as the data set is ever in memory.
    return grain.MapDataset.range(size).shuffle(seed=rng.integer(seed, "order", epoch) % 2**32)


def train_batches(
    source: Examples,
    transform: Callable[[dict, np.random.Generator], dict],
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    host: int = 0,
    hosts: int = 1,
    workers: int = 0,
    threads: int,
    prefetch: int,
) -> Iterator[HostBatch]:
    """Yields this host's share of the training batches of steps `start` to `stop` - 1.

    An image that cannot be decoded is replaced by that of the next position of the sequence, and said so.

    Args:
      source: the training data.
      transform: (record, generator) -> {"image": uint8 (height, width, 3), "label": int32, ...}.
      seed: config.seed.
      batch_size: examples of a step, over all hosts; a multiple of `hosts`.
      start: first step.
      stop: the step before which to end.
      host: number of this host.
      hosts: number of hosts.
      workers: processes that make the batches, in turns; 0 to make them in this one.
      threads: threads of each process that read and transform examples; 0 to use none.
      prefetch: batches that each process holds ready or works on.

    Yields:
      What the transform returns, stacked: {"image": uint8 (batch_size / hosts, height, width, 3), "label": int32
      (batch_size / hosts,), ...}, and "replaced" bool (batch_size / hosts,), True where another image stands.

    Raises (while it yields):
      RunError: too many images in a row cannot be decoded, or a worker process died.
    """
    examples = _TrainExamples(source, transform, seed)
    batches = _HostBatches(examples, count=stop, batch_size=batch_size, host=host, hosts=hosts, threads=threads)
    return read_ahead(batches, start=start, workers=workers, prefetch=prefetch)


def eval_batches(
    source: Examples,
    transform: Callable[[dict], dict],
    *,
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
    workers: int = 0,
    threads: int,
    prefetch: int,
    undecodable: list[int],
) -> Iterator[HostBatch]:
    """Yields this host's share of batches that hold every example exactly once, in order.

    In the place of one whose image cannot be decoded stands padding.

    Args:
      source: the data to evaluate on.
      transform: record -> {"image": uint8 (height, width, 3), "label": int32}.
      batch_size: examples of a batch, over all hosts; a multiple of `hosts`.
      host: number of this host.
      hosts: number of hosts.
      workers: as in `train_batches`.
      threads: as in `train_batches`.
      prefetch: as in `train_batches`.
      undecodable: takes the numbers of the examples of this host's share whose images cannot be decoded.

    Yields:
      What the transform returns, stacked: {"image": uint8 (batch_size / hosts, height, width, 3), "label": int32
      (batch_size / hosts,), ...}, and "mask" float32 (batch_size / hosts,), 0 for padding.

    Raises (while it yields):
      NoneDecodableError: of no example of the source can the image be decoded.
      RunError: a worker process died.
    """
    examples, count = _EvalExamples(source, transform), -(-len(source) // batch_size)
    batches = _HostBatches(examples, count=count, batch_size=batch_size, host=host, hosts=hosts, threads=threads)
    share = batch_size // hosts
    with contextlib.closing(read_ahead(batches, start=0, workers=workers, prefetch=prefetch)) as read:
        for number, batch in enumerate(read):
            first = number * batch_size + host * share
            undecodable += (first + np.flatnonzero(batch.pop(_UNDECODABLE))).tolist()
            yield batch


class _TrainExamples:
    """The example at each position of the training sequence."""

    def __init__(self, source: Examples, transform: Callable, seed: int):
        self._source = source
        self._transform = transform
        self._seed = seed
        self._reported: set[int] = set()

    def __call__(self, position: int) -> dict:
        for replacement in range(_REPLACEMENTS + 1):
            index = record_index(position + replacement, size=len(self._source), seed=self._seed)
            try:
                example = self._transform(self._source[index], rng.generator(self._seed, "augment", position))
            except ImageError as error:
                reason = error
                self._report(index, reason)
            else:
                return {**example, "replaced": np.bool_(replacement)}
        raise RunError(
            f"the images from position {position} on, {_REPLACEMENTS + 1} in a row, cannot be decoded; the last is "
            f"{self._source.describe(index)}: {reason}"
        )

    def _report(self, index: int, error: ImageError) -> None:
        if index not in self._reported:  # once, and not in every epoch
            self._reported.add(index)
            logger.warning("%s: %s; another image takes its place", readable(self._source.describe(index)), error)


class _EvalExamples:
    """The examples of a source at their positions, and padding behind them."""

    def __init__(self, source: Examples, transform: Callable):
        self._source = source
        self._transform = transform

    def __call__(self, position: int) -> dict:
        if position >= len(self._source):
            return {**self._padding, _UNDECODABLE: np.bool_(False)}
        try:
            example = self._transform(self._source[position])
        except ImageError:
            return {**self._padding, _UNDECODABLE: np.bool_(True)}
        return {**example, "mask": np.float32(1), _UNDECODABLE: np.bool_(False)}

    @functools.cached_property
    def _padding(self) -> dict:
        # Once: a large last batch may be padding for the most part.
        for index in range(len(self._source)):
            try:
                like = self._transform(self._source[index])
            except ImageError as error:
                reason = error
            else:
                return {**{name: np.zeros_like(value) for name, value in like.items()}, "mask": np.float32(0)}
        raise NoneDecodableError(f"none of the {len(self._source)} images can be decoded; the last: {reason}")


class _HostBatches:
    """One host's share of every batch, by number; several threads make the examples of a batch."""

    def __init__(
        self, examples: Callable[[int], dict], *, count: int, batch_size: int, host: int, hosts: int, threads: int
    ):
        self._examples = examples
        self._count = count
        self._batch_size = batch_size
        self._size = batch_size // hosts
        self._offset = host * self._size
        self.threads = threads
        self._pool = self._new_pool()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> HostBatch:
        first = number * self._batch_size + self._offset
        example = self._examples(first)
        # Filled in place: Grain's own batching copies examples, which is a tenth of the time that photographs take.
        batch = {name: np.empty((self._size, *value.shape), value.dtype) for name, value in example.items()}

        def fill(places):
            for place in places:
                for name, value in (self._examples(first + place) if place else example).items():
                    batch[name][place] = value

        if self._pool is None:
            fill(range(self._size))
        else:
            parts = [range(at, min(at + _TASK, self._size)) for at in range(0, self._size, _TASK)]
            for _ in self._pool.map(fill, parts):  # raises what one of the examples raised
                pass
        return batch

    def close(self) -> None:
        """Leaves the batches that are being made as they are."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_pool(self) -> futures.ThreadPoolExecutor | None:
        return futures.ThreadPoolExecutor(self.threads, "examples") if self.threads else None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pool": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._pool = self._new_pool()  # threads do not follow to a worker process
