"""Batches whose content is a function of (seed, step): no iterator state to save or to lose.

Training walks an endless sequence of positions. Epoch e is a seeded permutation of the source; global batch t is the
positions [t B, (t + 1) B); host h of H reads the h-th contiguous B / H of them. An example's augmentation is a
function of (seed, position).
"""

import functools
from collections.abc import Callable, Iterator

import grain
import numpy as np

from mixer_jax import rng
from mixer_jax.data.sources import Source

HostBatch = dict[str, np.ndarray]


def record_index(position: int, *, size: int, seed: int) -> int:
    """Returns which record of a source of `size` records stands at a position of the training sequence."""
    epoch, place = divmod(position, size)
    return _epoch_order(size, seed, epoch)[place]


@functools.lru_cache(maxsize=8)
def _epoch_order(size: int, seed: int, epoch: int) -> grain.MapDataset:
    # Grain's shuffle computes each index by itself: nothing as large as the data set is ever in memory.
    return grain.MapDataset.range(size).shuffle(seed=rng.integer(seed, "order", epoch) % 2**32)


class _HostShare:
    """Which positions of the sequence of global batches one host reads: a contiguous part of each batch."""

    def __init__(self, *, batch_size: int, host: int, hosts: int):
        self._batch_size = batch_size
        self.per_batch = batch_size // hosts
        self._first = host * self.per_batch

    def position(self, index: int) -> int:
        """Returns the position in the sequence of the host's example number `index`."""
        step, place = divmod(index, self.per_batch)
        return step * self._batch_size + self._first + place


class _TrainExamples:
    """The examples that one host reads for training, in order, from step 0 on."""

    def __init__(self, source: Source, transform: Callable, *, seed: int, steps: int, share: _HostShare):
        self._source = source
        self._transform = transform
        self._seed = seed
        self._share = share
        self._steps = steps

    def __len__(self) -> int:
        return self._steps * self._share.per_batch

    def __getitem__(self, index: int) -> dict:
        position = self._share.position(index)
        record = self._source[record_index(position, size=len(self._source), seed=self._seed)]
        return self._transform(record, rng.generator(self._seed, "augment", position))


class _EvalExamples:
    """The examples that one host evaluates, in order; the last batch is padded with a mask of 0."""

    def __init__(self, source: Source, transform: Callable, *, batches: int, share: _HostShare):
        self._source = source
        self._transform = transform
        self._batches = batches
        self._share = share

    def __len__(self) -> int:
        return self._batches * self._share.per_batch

    def __getitem__(self, index: int) -> dict:
        position = self._share.position(index)
        if position < len(self._source):
            return {**self._transform(self._source[position]), "mask": np.float32(1)}
        return self._padding

    @functools.cached_property
    def _padding(self) -> dict:
        like = self._transform(self._source[0])  # once: a large last batch may be padding for the most part
        return {**{name: np.zeros_like(value) for name, value in like.items()}, "mask": np.float32(0)}


def train_batches(
    source: Source,
    transform: Callable[[dict, np.random.Generator], dict],
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    host: int = 0,
    hosts: int = 1,
    threads: int,
    prefetch: int,
) -> Iterator[HostBatch]:
    """Yields this host's share of the training batches of steps `start` to `stop` - 1.

    Args:
      source: the training data.
      transform: (record, generator) -> {"image": uint8 (height, width, 3), "label": int32}.
      seed: config.seed.
      batch_size: examples of a step, over all hosts; a multiple of `hosts`.
      start: first step.
      stop: the step before which to end.
      host: number of this host.
      hosts: number of hosts.
      threads: threads that read and transform examples; 0 to do it in the caller's.
      prefetch: batches to hold ready.

    Yields:
      {"image": uint8 (batch_size / hosts, height, width, 3), "label": int32 (batch_size / hosts,)}.
    """
    share = _HostShare(batch_size=batch_size, host=host, hosts=hosts)
    examples = _TrainExamples(source, transform, seed=seed, steps=stop, share=share)
    return _batches(examples, share.per_batch, start=start, threads=threads, prefetch=prefetch)


def eval_batches(
    source: Source,
    transform: Callable[[dict], dict],
    *,
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
    threads: int,
    prefetch: int,
) -> Iterator[HostBatch]:
    """Yields this host's share of batches that hold every example exactly once.

    Args:
      source: the data to evaluate on.
      transform: record -> {"image": uint8 (height, width, 3), "label": int32}.
      batch_size: examples of a batch, over all hosts; a multiple of `hosts`.
      host: number of this host.
      hosts: number of hosts.
      threads: as in `train_batches`.
      prefetch: as in `train_batches`.

    Yields:
      As `train_batches`, with "mask" float32 (batch_size / hosts,): 0 for the padding of the last batch.
    """
    share = _HostShare(batch_size=batch_size, host=host, hosts=hosts)
    examples = _EvalExamples(source, transform, batches=-(-len(source) // batch_size), share=share)
    return _batches(examples, share.per_batch, start=0, threads=threads, prefetch=prefetch)


def _batches(examples, per_host: int, *, start: int, threads: int, prefetch: int) -> Iterator[HostBatch]:
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch * per_host if threads else 0)
    dataset = grain.MapDataset.source(examples)[start * per_host :]
    return iter(dataset.to_iter_dataset(read).batch(per_host))
