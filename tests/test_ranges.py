"""Every value of a config is checked by its key before anything is built, and refused on one short line."""

import math

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mixer_jax.config import base, ranges, recipes
from mixer_jax.config.compare import flatten
from mixer_jax.errors import ConfigError, RunError, shown
from mixer_jax.steps.mixup import mixup
from mixer_jax.suites import choices
from mixer_jax.suites import defaults as evaluation
from mixer_jax.training import run, sweep
from mixer_jax.training.program import build_program

OF_OPTIONAL_NUMBERS = {"epochs", "steps", "data.threads"} | {
    f"model.{name}" for name in ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
}


def refusal(config):
    with pytest.raises(ConfigError) as caught:
        ranges.check(config)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def changed(key, value):
    """The base config with a value of whatever type, as a recipe can make it that does not start from the base."""
    values = base.get_config().to_dict()
    *sections, leaf = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[leaf] = value
    return ConfigDict(values)


def test_every_number_of_the_configs_has_a_range():
    def numbers(config):
        leaves = flatten(config.to_dict())
        of = {key for key, value in leaves.items() if type(value) in (int, float)}
        tuples = {key: value for key, value in leaves.items() if isinstance(value, tuple) and value}
        return of | {key for key, value in tuples.items() if not isinstance(value[0], str)}

    assert numbers(base.get_config()) | OF_OPTIONAL_NUMBERS | {"sweep.learning_rates"} == set(ranges.RANGES)
    assert numbers(evaluation.get_config()) <= set(choices.RANGES)


def test_the_recipes_and_the_defaults_are_in_range():
    for name in recipes.names():
        ranges.check(recipes.load(name))
    ranges.check_values(evaluation.get_config(), evaluation.get_config(), choices.RANGES)


@pytest.mark.parametrize("key", ranges.RANGES)
def test_numbers_beyond_the_bounds_and_of_other_types_are_refused_by_key_and_the_bounds_are_not(key):
    allowed = ranges.RANGES[key]
    several = isinstance(flatten(base.get_config())[key], tuple)

    def value(number):
        return (number,) if several else number

    for bound in (allowed.least, allowed.most):
        ranges.check(changed(key, value(bound)))
    below = allowed.least - 1 if allowed.least >= 0 else 2 * allowed.least
    beyond = (below, 2 * allowed.most, 2**31, 2**64, 10**5000, 1e308, math.inf, -math.inf, math.nan, "3", True, [1], {})
    for number in beyond:
        if not (allowed.holds(number) or (several and number == [1])):
            assert f"config.{key}=" in refusal(changed(key, value(number)))


@pytest.mark.parametrize("key", [key for key in flatten(base.get_config()) if key not in ranges.RANGES])
def test_other_types_than_that_of_the_default_are_refused_by_key(key):
    for value in (3, ("a", 3), b"text", "NUL \0", "x" * 60_000, object()):
        assert f"config.{key}=" in refusal(changed(key, value))


@pytest.mark.parametrize("section", ["data", "data.train", "eval", "model", "optimizer", "checkpoint", "sweep", "mesh"])
def test_a_section_without_its_keys_is_refused_by_the_first_that_is_missing(section):
    first = next(key for key in flatten(base.get_config()) if key.startswith(f"{section}."))
    first = {"eval": "eval.splits", "model": "model.name"}.get(section, first)
    assert f"config.{first} is missing" in refusal(changed(section, ConfigDict()))
    assert f"config.{section}=3 has no keys; expected a section" in refusal(changed(section, 3))


def test_a_key_that_nobody_reads_is_refused_and_those_of_a_model_are_left_to_its_family():
    config = base.get_config()
    with config.unlocked():
        config.model.width = 3
        ranges.check(config)
        config.data.train.crp = "pad"
    assert "config.data.train.crp does not exist; did you mean config.data.train.crop?" in refusal(config)


def test_splits_are_names_of_splits():
    for splits, message in (({"a": 3}, "config.eval.splits.a=3; expected a text"), (("a",), "config.eval.splits=")):
        assert message in refusal(changed("eval.splits", splits))
    ranges.check(changed("eval.splits", ConfigDict()))


def test_the_same_check_is_that_of_every_door(tiny_config, tmp_path):
    tiny_config.optimizer.weight_decay = 2.0**64
    said = "config.optimizer.weight_decay=1.8446744073709552e.19; expected a number from 0 to 1,000"
    doors = (
        lambda: run.train(tiny_config, tmp_path),
        lambda: build_program(tiny_config),
        lambda: sweep.sweep(tiny_config, tmp_path),
        lambda: recipes.load("digits", {"optimizer.weight_decay": 2**64}),
    )
    for door in doors:
        with pytest.raises(ConfigError, match=said):
            door()
    assert not list(tmp_path.iterdir())


def test_a_model_that_no_machine_holds_is_refused_before_it_is_made(tiny_config):
    tiny_config.model.num_blocks = 20
    tiny_config.model.hidden_dim = tiny_config.model.channels_mlp_dim = 2**20
    with pytest.raises(ConfigError, match=r"parameters and optimizer alone take [\d,.]+ GiB"):
        build_program(tiny_config)


def test_more_steps_than_are_counted_are_refused_with_their_number(tiny_config):
    tiny_config.steps, tiny_config.epochs, tiny_config.batch_size = None, 1e6, 4
    tiny_config.data.source = tiny_config.data.source = "synthetic:100000"
    with pytest.raises(ConfigError, match=r"config.epochs=1000000.0 of 100,000 examples are 25,000,000,000 steps of 4"):
        build_program(tiny_config)


@pytest.mark.parametrize("p", [ranges.RANGES["mixup"].least, ranges.RANGES["mixup"].most])
def test_mixup_is_finite_at_the_ends_of_its_range(p):
    images, labels = np.ones((4, 2, 2, 3), np.float32), np.eye(4, dtype=np.float32)
    for seed in range(20):
        mixed, of = mixup(jax.random.key(seed), images, labels, p)
        np.testing.assert_allclose(mixed, 1.0, rtol=1e-6)
        np.testing.assert_allclose(of.sum(axis=-1), 1.0, rtol=1e-6)


def test_a_value_is_shown_at_a_readable_length_and_a_message_is_one_line_of_what_can_be_read():
    assert shown("short") == "'short'"
    assert shown("x" * 60_000) == f"'{'x' * 59}...{'x' * 19}' (60,002 characters)"
    assert shown(10**5000).startswith("<int: ValueError: Exceeds the limit")
    for error in (ConfigError, RunError):
        assert str(error("a\nb\u2028  c\x1b[2J \udcff é")) == "a b c\\x1b[2J \\udcff é"
        assert len(str(error(f"key={'x' * 60_000} is wrong"))) < 200
        assert len(str(error("word " * 60_000))) < 5000
