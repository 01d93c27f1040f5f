"""What the values of a config may be: the type and the range of every key, checked before anything is built.

A number has the range of `RANGES`; every other key has the type of its default in the base config. Names that a part of
the program knows, such as those of crops, are checked where they are known.
"""

import dataclasses
import math
from collections.abc import Mapping

from ml_collections import ConfigDict

from mixer_jax.config import base
from mixer_jax.config.checks import check_key
from mixer_jax.config.compare import flatten
from mixer_jax.errors import ConfigError, shown

_LONGEST_TEXT = 4096  # the longest path of Linux
_TEXT = f"a text of at most {_LONGEST_TEXT:,} characters, none of them NUL"
_TABLE = "eval.splits"  # names of the user's own
_OPEN = "model."  # where a family of one's own has other keys, which it checks


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a key may have.

    Attributes:
      of: int, or float, of which integers are some.
      least: the smallest.
      most: the largest.
      why: the reason for a bound, where it is not plain.
      or_zero: whether 0 may be, too, below the smallest; it means none.
    """

    of: type
    least: float
    most: float
    why: str = ""
    or_zero: bool = False

    def holds(self, value: object) -> bool:
        """Returns whether a value is one of the numbers."""
        if isinstance(value, bool) or not isinstance(value, int if self.of is int else (int, float)):
            return False
        return self.least <= value <= self.most or (self.or_zero and value == 0)

    def __str__(self) -> str:
        kind = "an integer" if self.of is int else "a number"
        most = "below 1" if self.most == _BELOW_ONE else f"to {_number(self.most)}"
        text = f"{'0 for none, or ' if self.or_zero else ''}{kind} from {_number(self.least)} {most}"
        return f"{text} ({self.why})" if self.why else text


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


_BELOW_ONE = math.nextafter(1.0, 0.0)
_COUNT = 2**20
_STEPS = Range(int, 1, 2**31 - 1, "steps are counted in 32 bits")
_BATCH = Range(int, 1, _COUNT, "examples over all devices")
SIZE = Range(int, 1, 4096, "pixels")
_DIMENSION = Range(int, 1, 2**20)
_SHARE = Range(float, 0, 1)
_RATE = Range(float, 0, _BELOW_ONE, "a share that is left out")
_DECAY = Range(float, 0, 1 - 1e-6, "a decay; above, it is 1 to 32-bit numbers")
LEARNING_RATE = Range(float, 1e-12, 1000)
SEED = Range(int, 0, 2**32 - 1)
SHOTS = Range(int, 1, _COUNT, "examples of a class")
L2 = Range(float, 1e-12, 1e12)
CONSTANT = Range(float, 1e-6, 1e6)

# Of a tuple, the range is that of each of its numbers. Bounds that are not of a format or of memory are far beyond what
# anybody trains with: there a value is a slip, which would otherwise be met as a loss that is not finite, or never.
RANGES = {
    "seed": SEED,
    "batch_size": _BATCH,
    "epochs": Range(float, 1e-9, 1e6),
    "steps": _STEPS,
    "mixup": Range(float, 1e-4, 1e4, "the parameter of Beta(p, p)", or_zero=True),
    "accumulation_steps": Range(int, 1, _COUNT),
    "log_every": _STEPS,
    "mesh.fsdp": Range(int, 1, _COUNT, "devices"),
    "data.num_classes": Range(int, 1, _COUNT),
    "data.image_size": SIZE,
    "data.max_pixels": Range(int, 1, 2**40),
    "data.workers": Range(int, 0, 256, "processes"),
    "data.threads": Range(int, 0, 256),
    "data.prefetch": Range(int, 1, 256, "batches"),
    "data.train.resize": SIZE,
    "data.train.randaugment_layers": Range(int, 0, 100, "operations an image"),
    "data.train.randaugment_magnitude": Range(float, 0, 30),
    "data.evaluate.resize": SIZE,
    "model.patch_size": SIZE,
    "model.num_blocks": Range(int, 1, 1000),
    "model.hidden_dim": _DIMENSION,
    "model.tokens_mlp_dim": _DIMENSION,
    "model.channels_mlp_dim": _DIMENSION,
    "model.dropout": _RATE,
    "model.stoch_depth": _RATE,
    "model.head_bias": Range(float, -1000, 1000),
    "loss.label_smoothing": Range(float, 0, _BELOW_ONE),
    "optimizer.b1": _DECAY,
    "optimizer.b2": _DECAY,
    "optimizer.momentum": _DECAY,
    "optimizer.weight_decay": Range(float, 0, 1000),
    "optimizer.clip_norm": Range(float, 1e-9, 1e9, or_zero=True),
    "schedule.learning_rate": LEARNING_RATE,
    "schedule.warmup_steps": Range(int, 0, 2**31 - 1, _STEPS.why),
    "schedule.end_factor": _SHARE,
    "sweep.learning_rates": LEARNING_RATE,
    "eval.every": _STEPS,
    "eval.batch_size": _BATCH,
    "eval.fewshot.shots": SHOTS,
    "eval.fewshot.seeds": SEED,
    "eval.fewshot.l2": L2,
    "eval.fewshot.constant": CONSTANT,
    "checkpoint.every": _STEPS,
    "checkpoint.keep": Range(int, 1, _COUNT),
}


def check_number(key: str, value: object) -> None:
    """Raises a ConfigError if a value is none of the numbers that the dotted `key` of a recipe's config may have."""
    _check_value(key, value, 0, RANGES[key])


def check(config: ConfigDict) -> None:
    """Raises a ConfigError that names the first key of a recipe's config that is missing, unknown or of a wrong value.

    Args:
      config: with the keys of mixer_jax/config/base.py.
    """
    check_values(config, base.get_config(), RANGES)


def check_saved(config: Mapping, file: object) -> None:
    """Raises a ConfigError where a config that was read from a file is none; keys that are gone by now may be there.

    Args:
      config: complete, as nested dicts of what JSON can hold.
      file: what the message calls the file.
    """
    try:
        _check_known(config, base.get_config(), RANGES)
    except ConfigError as error:
        raise ConfigError(f"{file} holds no config of a run: {error}") from error


def check_values(config: ConfigDict, defaults: ConfigDict, ranges: Mapping[str, Range]) -> None:
    """Checks a config against the config whose keys it has.

    Args:
      config: the config.
      defaults: a config with all of the keys; a value of None may be one of `ranges`, else a text, or None.
      ranges: dotted key -> what numbers it, or each of a tuple, may be.

    Raises:
      ConfigError: a key is missing or unknown, or its value is of another type or out of range; the message names it.
    """
    values = config.to_dict()
    _check_known(values, defaults, ranges)
    for key in flatten(values):
        if not key.startswith((_OPEN, f"{_TABLE}.")) and key != _TABLE:
            check_key(defaults, key)


def _check_known(values: Mapping, defaults: ConfigDict, ranges: Mapping[str, Range]) -> None:
    """Raises a ConfigError for keys that are missing, and for values of another type or out of range."""
    known = flatten(defaults.to_dict())
    if _TABLE in {key.rpartition(".")[0] for key in known}:
        _check_table(_value(values, _TABLE))
    held = flatten(values)
    for key, default in known.items():
        own = key.startswith(_OPEN) and key != f"{_OPEN}name" and key not in held
        if not own and not key.startswith(f"{_TABLE}."):
            _check_value(key, _value(values, key), default, ranges.get(key))


def _value(values: Mapping, key: str) -> object:
    """Returns the value of a dotted key, which has to be there."""
    found: object = values
    *sections, name = key.split(".")
    for depth, section in enumerate([*sections, name]):
        if not isinstance(found, Mapping):
            above = ".".join(key.split(".")[:depth])
            raise ConfigError(f"config.{above}={shown(found)} has no keys; expected a section, config.{key} among it")
        if section not in found:
            raise ConfigError(f"config.{key} is missing; a recipe starts from mixer_jax.config.base.get_config()")
        found = found[section]
    return found


def _check_table(splits: object) -> None:
    if not isinstance(splits, Mapping):
        raise ConfigError(f"config.{_TABLE}={shown(splits)}; expected names of splits, such as {{'test': 'test'}}")
    for name, split in splits.items():
        _check_value(f"{_TABLE}: name", name, "", None)
        _check_value(f"{_TABLE}.{name}", split, "", None)


def _check_value(key: str, value: object, default: object, numbers: Range | None) -> None:
    if expected := _expected(value, default, numbers):
        raise ConfigError(f"config.{key}={shown(value)}; expected {expected}")


def _expected(value: object, default: object, numbers: Range | None) -> str | None:
    """Returns what would be right in the place of a value, or None if the value is right."""
    if value is None and default is None:
        return None
    if isinstance(default, tuple):
        if isinstance(value, (tuple, list)) and not any(_expected(each, "", numbers) for each in value):
            return None
        return f"a tuple, of each {numbers or _TEXT}"
    if numbers:
        return None if numbers.holds(value) else str(numbers)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if default is None or isinstance(default, str):
        whole = isinstance(value, str) and len(value) <= _LONGEST_TEXT and "\0" not in value
        return None if whole else _TEXT
    return None
