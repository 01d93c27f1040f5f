"""Order, batches and padding, against straight computations that keep the whole sequence in a list."""

import collections
import itertools
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mixer_jax import rng
from mixer_jax.data.batches import NoneDecodableError, eval_batches, record_index, train_batches
from mixer_jax.data.decode import ImageError
from mixer_jax.errors import RunError

SEED = 0
BATCH = 8


class Numbers:
    """A source whose labels tell the records apart; keeps which of them were read."""

    num_classes = 1000

    def __init__(self, size):
        self.size = size
        self.read = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.read.append(index)
        return {"image": np.full((2, 3, 3), 1 + index % 255, np.uint8), "label": np.int32(index)}

    def describe(self, index):
        return f"number {index}"


def with_draws(record, generator):
    return {**record, "draws": generator.random(2)}


def unchanged(record):
    return record


class WithBroken(Numbers):
    """Numbers of which some cannot be decoded: those of `broken`, in the transforms below."""

    def __init__(self, size, broken):
        super().__init__(size)
        self.broken = broken

    def __getitem__(self, index):
        record = super().__getitem__(index)
        return {**record, "image": None} if index in self.broken else record


def decoded(record, *generator):
    if record["image"] is None:
        raise ImageError(f"record {record['label']} is broken")
    return with_draws(record, *generator) if generator else record


def train(source, *, transform=with_draws, seed=SEED, batch_size=BATCH, start=0, stop=6, threads=0, prefetch=2, **host):
    return list(
        train_batches(
            source,
            transform,
            seed=seed,
            batch_size=batch_size,
            start=start,
            stop=stop,
            threads=threads,
            prefetch=prefetch,
            **host,
        )
    )


def evaluate(source, *, transform=unchanged, batch_size=BATCH, threads=0, prefetch=2, undecodable=None, **host):
    reading = {"batch_size": batch_size, "threads": threads, "prefetch": prefetch, **host}
    return list(eval_batches(source, transform, undecodable=[] if undecodable is None else undecodable, **reading))


def joined(batches_of_hosts):
    """Joins the hosts' shares of each batch, in the order of the hosts."""
    for shares in zip(*batches_of_hosts, strict=True):
        yield {name: np.concatenate([share[name] for share in shares]) for name in shares[0]}


def assert_same(received, expected):
    received, expected = list(received), list(expected)
    assert len(received) == len(expected)
    for ours, theirs in zip(received, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])


def epoch_order(size, seed, epoch):
    return [record_index(epoch * size + place, size=size, seed=seed) for place in range(size)]


def straight(size, *, steps, seed=SEED, batch_size=BATCH):
    """The batches from step 0 on, cut from the list of all positions."""
    source = Numbers(size)
    epochs = -(-steps * batch_size // size)
    sequence = itertools.chain.from_iterable(epoch_order(size, seed, epoch) for epoch in range(epochs))
    examples = [
        {**with_draws(source[index], rng.generator(seed, "augment", position)), "replaced": np.bool_(False)}
        for position, index in enumerate(sequence)
    ]
    for step in range(steps):
        batch = examples[step * batch_size : (step + 1) * batch_size]
        yield {name: np.stack([example[name] for example in batch]) for name in batch[0]}


class TestOrder:
    def test_golden_orders_of_seed_0(self):
        assert [epoch_order(10, 0, epoch) for epoch in range(3)] == [
            [6, 9, 0, 2, 4, 3, 7, 5, 1, 8],
            [1, 8, 6, 5, 0, 3, 4, 7, 9, 2],
            [5, 9, 0, 6, 7, 4, 8, 3, 2, 1],
        ]

    @pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 1797])
    def test_every_epoch_is_a_permutation(self, size):
        for epoch in (0, 1, 2, 1000):
            assert sorted(epoch_order(size, SEED, epoch)) == list(range(size))

    def test_neighbouring_seeds_and_epochs_do_not_share_an_order(self):
        pairs = list(itertools.product([0, 1, 2, 3, 2**32 - 2, 2**32 - 1], range(5)))
        orders = {tuple(epoch_order(50, seed, epoch)) for seed, epoch in pairs}
        assert len(orders) == len(pairs)

    def test_every_record_is_as_often_in_every_place(self):
        size, epochs = 5, 100  # Grain takes 10 ms for an epoch of any small size
        counts = np.zeros((size, size))
        for epoch in range(epochs):
            counts[range(size), epoch_order(size, SEED, epoch)] += 1
        chi_square = ((counts - epochs / size) ** 2 / (epochs / size)).sum()
        freedom = (size - 1) ** 2
        assert chi_square < freedom + 4 * (2 * freedom) ** 0.5

    def test_neighbouring_epochs_are_uncorrelated(self):
        size = 2000
        orders = [list(range(size)), *(epoch_order(size, SEED, epoch) for epoch in range(4)), epoch_order(size, 1, 0)]
        correlations = np.corrcoef(orders) - np.eye(len(orders))
        assert np.abs(correlations).max() < 4 / size**0.5

    def test_one_index_of_a_large_source_takes_no_memory(self):
        size = 300_000_000
        record_index(0, size=10, seed=SEED)  # imports and caches count for nothing
        tracemalloc.start()
        index = record_index(10**15 + 7, size=size, seed=SEED)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0 <= index < size
        assert peak < 2**20


class TestTrainBatches:
    # An epoch of whole batches, epochs that end inside a batch, several epochs in a batch, a source of one record.
    @pytest.mark.parametrize("size", [32, 13, 3, 1])
    def test_are_those_of_a_straight_computation(self, size):
        assert_same(train(Numbers(size)), straight(size, steps=6))

    def test_shapes_and_types(self):
        batch = train(Numbers(13), stop=1, hosts=2, host=1)[0]
        assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
            "image": ((4, 2, 3, 3), np.uint8),
            "label": ((4,), np.int32),
            "draws": ((4, 2), np.float64),
            "replaced": ((4,), np.bool_),
        }

    def test_an_epoch_shows_every_record_once(self):
        labels = np.concatenate([batch["label"] for batch in train(Numbers(24), stop=6)])
        assert sorted(labels[:24]) == sorted(labels[24:]) == list(range(24))
        assert labels[:24].tolist() != labels[24:].tolist()

    # With 13 records, an epoch ends inside the batches of steps 1, 3 and 4.
    @pytest.mark.parametrize("start", range(7))
    @pytest.mark.parametrize("hosts", [1, 2])
    def test_from_any_step_on_are_the_same_as_from_step_0(self, start, hosts):
        for host in range(hosts):
            share = {"host": host, "hosts": hosts}
            assert_same(train(Numbers(13), start=start, **share), train(Numbers(13), **share)[start:])

    @pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (2, 5), (5, 5), (6, 5)])
    def test_number_is_that_of_the_steps_from_start_to_stop(self, start, stop):
        assert len(train(Numbers(5), start=start, stop=stop)) == max(stop - start, 0)

    @pytest.mark.parametrize("hosts", [1, 2, 4, 8])
    def test_shares_of_the_hosts_in_order_make_the_batch(self, hosts):
        shares = [train(Numbers(13), host=host, hosts=hosts) for host in range(hosts)]
        assert_same(joined(shares), straight(13, steps=6))

    def test_augmentation_depends_on_seed_and_position_alone(self):
        size = 11
        draws = np.concatenate([batch["draws"] for batch in train(Numbers(size), batch_size=4, stop=12)])
        other_batches = np.concatenate([batch["draws"] for batch in train(Numbers(500), batch_size=16, stop=3)])
        np.testing.assert_array_equal(other_batches, draws)
        expected = [rng.generator(SEED, "augment", position).random(2) for position in range(48)]
        np.testing.assert_array_equal(draws, expected)
        assert len(np.unique(draws)) == draws.size  # also the same record in another epoch is augmented anew

    def test_order_and_augmentation_differ_between_seeds(self):
        ours, theirs = train(Numbers(13), seed=1), train(Numbers(13), seed=2)
        assert_same(ours, straight(13, steps=6, seed=1))
        for one, other in zip(ours, theirs, strict=True):
            assert one["label"].tolist() != other["label"].tolist()
            assert not np.intersect1d(one["draws"], other["draws"]).size

    @pytest.mark.parametrize(("threads", "prefetch"), [(0, 0), (1, 1), (4, 1), (4, 3)])
    def test_number_of_threads_changes_nothing(self, threads, prefetch):
        received = train(Numbers(13), start=1, threads=threads, prefetch=prefetch)
        assert_same(received, list(straight(13, steps=6))[1:])

    @pytest.mark.parametrize("threads", [0, 4])
    def test_starting_late_reads_no_more_than_starting_at_0(self, threads):
        late, early = Numbers(10_007), Numbers(10_007)
        train(late, start=1_000_000, stop=1_000_002, threads=threads)
        train(early, start=0, stop=2, threads=threads)
        first = 1_000_000 * BATCH
        expected = [record_index(first + place, size=10_007, seed=SEED) for place in range(2 * BATCH)]
        assert sorted(late.read) == sorted(expected)
        assert len(early.read) == len(late.read)

    def test_making_the_iterator_reads_nothing(self):
        source = Numbers(13)
        train_batches(source, with_draws, seed=0, batch_size=4, start=3, stop=10**9, threads=0, prefetch=2)
        assert source.read == []

    @pytest.mark.parametrize("threads", [0, 4])
    def test_a_host_reads_its_own_share_only(self, threads):
        source = Numbers(13)
        labels = np.concatenate([batch["label"] for batch in train(source, threads=threads, host=1, hosts=4)])
        assert sorted(source.read) == sorted(labels)
        assert len(labels) == 6 * BATCH // 4

    @pytest.mark.parametrize("threads", [0, 4])
    def test_an_example_that_cannot_be_read_is_an_error_and_not_skipped(self, threads):
        class Broken(Numbers):
            def __getitem__(self, index):
                if index == 5:
                    raise OSError("record 5")
                return super().__getitem__(index)

        with pytest.raises(OSError, match="record 5"):
            train(Broken(8), threads=threads)

    @pytest.mark.parametrize("threads", [0, 4])
    def test_an_image_that_cannot_be_decoded_is_replaced_by_that_of_the_next_position(self, threads, caplog):
        size, broken = 13, {3, 5, 7}
        received = train(WithBroken(size, broken), transform=decoded, threads=threads)
        sequence = [record_index(position, size=size, seed=SEED) for position in range(6 * BATCH + size)]
        for step, batch in enumerate(received):
            for place in range(BATCH):
                position = step * BATCH + place
                after = next(index for index in sequence[position:] if index not in broken)
                assert batch["label"][place] == after
                assert batch["replaced"][place] == (sequence[position] in broken)
                assert (batch["image"][place] == 1 + after).all()
                np.testing.assert_array_equal(batch["draws"][place], rng.generator(SEED, "augment", position).random(2))
        # Said once of each image, although each comes several times.
        assert sorted(caplog.messages) == [
            f"number {index}: record {index} is broken; another image takes its place" for index in sorted(broken)
        ]

    def test_where_no_image_can_be_decoded_it_is_an_error(self):
        with pytest.raises(RunError, match="from position 0 on, 11 in a row, cannot be decoded; the last is number"):
            train(WithBroken(40, range(40)), transform=decoded)


class TestWorkers:
    """Processes of their own, which take seconds to start."""

    def test_make_the_same_batches_and_their_death_is_an_error(self):
        batches = train_batches(
            WithBroken(13, {3}),
            decoded,
            seed=SEED,
            batch_size=BATCH,
            start=1,
            stop=500,
            workers=2,
            threads=2,
            prefetch=1,
        )
        received = list(itertools.islice(batches, 5))
        assert_same(received, train(WithBroken(13, {3}), transform=decoded, start=1))
        processes = multiprocessing.active_children()
        assert len(processes) == 2
        # What reaches all processes of a terminal or a job stops none of them.
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
            os.kill(process.pid, signal.SIGTERM)
        for _ in itertools.islice(batches, 8):
            pass
        assert all(process.is_alive() for process in processes)
        os.kill(processes[0].pid, signal.SIGKILL)  # which nothing blocks
        with pytest.raises(RunError, match=r"one of config\.data\.workers=2 processes .* died: .* exit code -9"):
            for _ in batches:
                pass
        for process in processes:
            process.join(30)
            assert not process.is_alive()

    def test_the_death_of_one_that_is_starting_is_an_error_too(self):
        source = Numbers(13)
        source.read = list(range(10**5))  # more than a pipe holds at once
        batches = train_batches(
            source, with_draws, seed=SEED, batch_size=BATCH, start=0, stop=500, workers=1, threads=0, prefetch=1
        )

        def kill():
            while not (processes := multiprocessing.active_children()):
                time.sleep(0.001)
            os.kill(processes[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(RunError, match="died"):
            next(batches)
        killer.join()


class TestEvalBatches:
    # Smaller than a batch, one short of it, one batch, one more, whole batches, and a last one of a single host.
    @pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 24, 26])
    @pytest.mark.parametrize("hosts", [1, 2, 4])
    def test_hold_every_example_once_in_order_and_mask_the_padding(self, size, hosts):
        shares = [evaluate(Numbers(size), host=host, hosts=hosts) for host in range(hosts)]
        batches = list(joined(shares))  # fails where a host has fewer batches
        assert len(batches) == -(-size // BATCH)
        assert all(value.shape[0] == BATCH for batch in batches for value in batch.values())
        labels, masks = (np.concatenate([batch[name] for batch in batches]) for name in ("label", "mask"))
        assert masks.tolist() == [1.0] * size + [0.0] * (len(masks) - size)
        assert labels[:size].tolist() == list(range(size))

    def test_shapes_and_types_are_those_of_training_with_a_mask(self):
        for batch in evaluate(Numbers(9), hosts=2, host=1):
            assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
                "image": ((4, 2, 3, 3), np.uint8),
                "label": ((4,), np.int32),
                "mask": ((4,), np.float32),
            }

    def test_padding_is_zeros(self):
        batch = evaluate(Numbers(3))[0]
        np.testing.assert_array_equal(batch["image"][3:], np.zeros((5, 2, 3, 3)))
        np.testing.assert_array_equal(batch["label"][3:], np.zeros(5))
        assert batch["image"][:3].all()

    @pytest.mark.parametrize("hosts", [1, 4])
    def test_reads_every_record_once_and_one_more_for_the_shape_of_padding(self, hosts):
        read = collections.Counter()
        for host in range(hosts):
            source = Numbers(17)  # 15 places of padding, in the batch of step 2
            evaluate(source, batch_size=16, host=host, hosts=hosts)
            read.update(source.read)
        assert read == collections.Counter(range(17)) + collections.Counter({0: hosts})

    @pytest.mark.parametrize("size", [3, 24, 26])
    @pytest.mark.parametrize("threads", [1, 4])
    def test_number_of_threads_changes_nothing(self, size, threads):
        assert_same(evaluate(Numbers(size), threads=threads), evaluate(Numbers(size), threads=0))

    def test_a_second_pass_is_like_the_first(self):
        source = Numbers(11)
        assert_same(evaluate(source), evaluate(source))

    @pytest.mark.parametrize("threads", [0, 4])
    def test_padding_stands_where_images_cannot_be_decoded_and_they_are_known(self, threads):
        broken, whole, undecodable = {0, 5, 12}, evaluate(Numbers(13)), []
        received = evaluate(WithBroken(13, broken), transform=decoded, threads=threads, undecodable=undecodable)
        assert undecodable == sorted(broken)
        for number, (batch, expected) in enumerate(zip(received, whole, strict=True)):
            assert batch.keys() == expected.keys()
            for place in range(BATCH):
                padded = number * BATCH + place in broken
                for name in batch:
                    np.testing.assert_array_equal(batch[name][place], 0 if padded else expected[name][place])

    def test_each_host_knows_those_of_its_share(self):
        shares = ([], [])
        for host, undecodable in enumerate(shares):
            evaluate(WithBroken(13, {1, 4, 7}), transform=decoded, undecodable=undecodable, host=host, hosts=2)
        per_host = BATCH // 2
        assert [[n // per_host % 2 for n in share] for share in shares] == [[0] * len(shares[0]), [1] * len(shares[1])]
        assert sorted([*shares[0], *shares[1]]) == [1, 4, 7]

    def test_where_no_image_can_be_decoded_it_is_an_error(self):
        with pytest.raises(NoneDecodableError, match="none of the 5 images can be decoded; the last: record 4 is bro"):
            evaluate(WithBroken(5, range(5)), transform=decoded)


ROOT = Path(__file__).parents[1]
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
CAN_UNSHARE = bool(shutil.which("unshare")) and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode


@pytest.mark.skipif(not CAN_UNSHARE, reason="needs a mount namespace")
@pytest.mark.parametrize("size", ["128k", "1m"])  # too small for a semaphore, and for the batches of two processes
def test_too_little_shared_memory_is_said_with_its_size(size, tmp_path):
    run = [sys.executable, str(ROOT / "main.py"), "--config=digits", f"--workdir={tmp_path}", "--config.data.workers=2"]
    larger = ["--config.data.image_size=64", "--config.data.evaluate.resize=64", "--config.steps=200"]
    program = f"mount -t tmpfs -o size={size} none /dev/shm && exec {shlex.join([*run, *larger])}"
    done = subprocess.run([*UNSHARE, "bash", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    room = {"128k": "131,072", "1m": "1,048,576"}[size]
    assert f"config.data.workers=2: processes pass batches through /dev/shm, of whose {room} bytes" in done.stderr
    assert "Traceback" not in done.stderr
