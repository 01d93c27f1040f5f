"""Random streams: golden values, equality under jit, and no two of (seed, stream, index) alike."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax import rng

# The ends of what config.seed may be, the sign bit of an int32, and neighbours of each.
SEEDS = (0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
STREAMS = ("params", "dropout", "stoch_depth", "mixup", "order", "augment", "augment/0", "")
GRID = list(itertools.product(SEEDS, STREAMS, range(8)))


def key_data(seed, stream, step=0):
    return tuple(int(word) for word in jax.random.key_data(rng.key(seed, stream, step)))


class TestKey:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((0, "dropout"), (244916945, 3858068630)),
            ((0, "dropout", 3), (3426209264, 4155611042)),
            ((1, "dropout", 3), (2809868185, 2069753207)),
            ((2**32 - 1, "dropout", 3), (3234720698, 2136072952)),
        ],
    )
    def test_golden_values(self, arguments, words):
        assert key_data(*arguments) == words

    def test_is_a_scalar_typed_key(self):
        key = rng.key(0, "dropout")
        assert key.shape == ()
        assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)

    def test_without_a_step_is_that_of_step_0(self):
        assert key_data(7, "params") == key_data(7, "params", 0)

    def test_neighbours_differ_in_seed_in_stream_and_in_step(self):
        keys = [key_data(*arguments) for arguments in GRID]
        assert len(set(keys)) == len(GRID)

    def test_equal_arguments_give_equal_keys_whatever_was_drawn_before(self):
        first = key_data(3, "mixup", 5)
        jax.random.normal(rng.key(3, "mixup", 4), (10,))
        assert key_data(3, "mixup", 5) == first

    @pytest.mark.parametrize("step", [0, 1, 81_234, 2**31 - 1])
    def test_a_traced_step_gives_the_key_of_the_same_number(self, step):
        traced = jax.jit(lambda step: jax.random.key_data(rng.key(2**32 - 1, "dropout", step)))
        np.testing.assert_array_equal(traced(jnp.int32(step)), key_data(2**32 - 1, "dropout", step))

    def test_steps_in_a_scan_give_the_keys_of_single_steps(self):
        def body(step, _):
            return step + 1, jax.random.key_data(rng.key(5, "stoch_depth", step))

        _, scanned = jax.lax.scan(body, jnp.int32(0), length=6)
        np.testing.assert_array_equal(scanned, [key_data(5, "stoch_depth", step) for step in range(6)])


class TestKeysOfExamples:
    def test_are_a_function_of_the_place_and_not_of_the_size_of_the_batch(self):
        few, many = (jax.random.key_data(rng.keys_of_examples(rng.key(0, "dropout", 3), n)) for n in (4, 64))
        np.testing.assert_array_equal(few, many[:4])

    def test_differ_from_place_to_place_and_from_step_to_step(self):
        keys = [jax.random.key_data(rng.keys_of_examples(rng.key(0, "dropout", step), 64)) for step in range(4)]
        assert len(np.unique(np.concatenate(keys), axis=0)) == 4 * 64


class TestInteger:
    @pytest.mark.parametrize(
        ("arguments", "value"),
        [
            ((0, "order"), 91996104481365364402741799653005140054),
            ((0, "order", 1), 273055945516765692986413579769164473595),
            ((1, "order", 1), 236934759927488579911320321424031912390),
            ((2**32 - 1, "order", 1), 129107463129233708941705258439990623366),
            ((0, "augment", 10**12), 106701102855426528186763601188572173874),
        ],
    )
    def test_golden_values(self, arguments, value):
        assert rng.integer(*arguments) == value

    def test_neighbours_differ_in_seed_in_stream_and_in_index(self):
        integers = [rng.integer(*arguments) for arguments in GRID]
        assert len(set(integers)) == len(GRID)

    def test_neighbours_differ_in_the_32_bits_that_seed_the_order_too(self):
        integers = [rng.integer(*arguments) % 2**32 for arguments in GRID]
        assert len(set(integers)) == len(GRID)

    def test_all_128_bits_are_used(self):
        values = [rng.integer(0, "order", index) for index in range(64)]
        assert np.bitwise_or.reduce(np.array(values, object)) == 2**128 - 1
        assert np.bitwise_and.reduce(np.array(values, object)) == 0

    def test_numbers_of_numpy_are_as_good_as_those_of_python(self):
        assert rng.integer(np.uint32(4), "augment", np.int64(9)) == rng.integer(4, "augment", 9)


class TestGenerator:
    def test_golden_first_draws(self):
        generator = rng.generator(0, "augment", 12)
        assert generator.integers(0, 2**32, 3).tolist() == [1203539459, 1224731645, 188228181]
        assert generator.random() == 0.3652578235834645

    def test_first_draws_are_unlike_those_of_neighbours(self):
        draws = {tuple(rng.generator(*arguments).integers(0, 2**63, 2)) for arguments in GRID}
        assert len(draws) == len(GRID)

    def test_equal_arguments_give_equal_draws_whatever_was_drawn_before(self):
        first = rng.generator(1, "augment", 2).random(5)
        np.testing.assert_array_equal(rng.generator(1, "augment", 2).random(5), first)

    def test_draws_of_consecutive_positions_are_uniform_and_uncorrelated(self):
        draws = np.array([rng.generator(0, "augment", position).random() for position in range(4096)]) - 0.5
        deviation = 12**-0.5  # of one uniform draw
        assert abs(draws.mean()) < 4 * deviation / 4096**0.5
        assert abs(draws.std() - deviation) < 4 * (1 / 80 - 1 / 144) ** 0.5 / (2 * deviation) / 4096**0.5
        assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / 4096**0.5
