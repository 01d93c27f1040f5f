"""What the config of an evaluation says: checked before anything runs, and what of it is another choice than ours."""

import math
from collections.abc import Sequence

from ml_collections import ConfigDict

from mixer_jax.config.checks import one_of
from mixer_jax.config.compare import differences
from mixer_jax.data.transforms import EVAL_CROPS
from mixer_jax.data.vtab import TASKS
from mixer_jax.errors import ConfigError
from mixer_jax.suites import defaults as defaults
from mixer_jax.suites import recipes

# Which keys or sections each suite reads, beside where and how data are read.
_READ_BY = {
    "imagenet": ("crop", "resize", "imagenet"),
    "fewshot": ("fewshot",),
    "avg5": ("image_size", "crop", "finetune", "avg5"),
    "vtab": ("crop", "finetune", "vtab"),
}
SUITES = tuple(_READ_BY)
_OF_READING = ("data", "eval")
_DTYPES = ("float32", "bfloat16", "float16")


def changes(config: ConfigDict) -> dict:
    """Returns by dotted name the values that are other than the defaults, but for how data are read."""
    ours, theirs = config.to_dict(), defaults.get_config().to_dict()
    differing = differences(ours, theirs, ignore=_OF_READING)
    return {key: here for key, (here, _) in differing.items()}


def check(suite: str, config: ConfigDict) -> None:
    """Raises a ConfigError if a value is wrong, or was changed and is not for the suite; the message names its key.

    Args:
      suite: one of `SUITES`.
      config: with the keys of mixer_jax/suites/defaults.py.
    """
    for key, value in changes(config).items():
        if key.split(".")[0] not in _READ_BY[suite]:
            read = ", ".join(f"config.{name}" for name in _READ_BY[suite])
            raise ConfigError(f"config.{key}={value!r} is not for the suite {suite}, which reads {read}")
    for key in ("crop", "fewshot.crop"):
        if (crop := _get(config, key)) is not None:
            one_of(f"config.{key}", crop, EVAL_CROPS)
    for key in ("image_size", "resize", "fewshot.resize", "vtab.small_size", "vtab.large_size"):
        _check_number(config, key, int, least=1, unit=" of pixels")
    for key in ("finetune.batch_size", "finetune.steps"):
        _check_number(config, key, int, least=1)
    _check_number(config, "finetune.warmup_steps", int, least=0)
    for key in ("fewshot.l2", "fewshot.constant"):
        _check_number(config, key, float, least=0)
    if not _is_number(config.finetune.resize, float, 1):
        raise ConfigError(f"config.finetune.resize={config.finetune.resize!r}; expected a number of at least 1")
    _check_all(config, "fewshot.shots", int, least=1)
    _check_all(config, "fewshot.seeds", int, least=0)
    if config.finetune.learning_rates:
        _check_all(config, "finetune.learning_rates", float, least=0)
    one_of("config.finetune.dtype", config.finetune.dtype, _DTYPES)
    one_of("config.vtab.learning_rate", config.vtab.learning_rate, ("task", "shared"))
    for key, known in (("avg5.data_sets", recipes.DATA_SETS), ("vtab.tasks", TASKS)):
        names = _get(config, key)
        _check_different(key, names)
        for name in names:
            one_of(f"config.{key}: name", name, known)


def _get(config: ConfigDict, key: str):
    for part in key.split("."):
        config = config[part]
    return config


def _is_number(value: object, of_type: type, least: float) -> bool:
    """Returns whether a value is a finite number of at least `least`; a float also greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int if of_type is int else (int, float)):
        return False
    return math.isfinite(value) and value >= least and (of_type is int or value > 0)


def _expected(of_type: type, least: float, unit: str = "") -> str:
    return f"an integer of at least {least}{unit}" if of_type is int else "a positive number"


def _check_number(config: ConfigDict, key: str, of_type: type, *, least: float, unit: str = "") -> None:
    value = _get(config, key)
    if value is not None and not _is_number(value, of_type, least):
        raise ConfigError(f"config.{key}={value!r}; expected {_expected(of_type, least, unit)}")


def _check_all(config: ConfigDict, key: str, of_type: type, *, least: float) -> None:
    values = _get(config, key)
    _check_different(key, values)
    if not all(_is_number(value, of_type, least) for value in values):
        raise ConfigError(f"config.{key}={values!r}; expected of each {_expected(of_type, least)}")


def _check_different(key: str, values: Sequence) -> None:
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"config.{key}={values!r}; expected one or more, each once")
