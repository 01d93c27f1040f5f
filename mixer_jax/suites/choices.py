"""What the config of an evaluation says: checked before anything runs, and what of it is another choice than ours."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from mixer_jax.config import ranges
from mixer_jax.config.checks import one_of
from mixer_jax.config.compare import differences
from mixer_jax.data.transforms import EVAL_CROPS
from mixer_jax.data.vtab import TASKS
from mixer_jax.errors import ConfigError, shown
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
_SAME = ("data.workers", "data.threads", "data.prefetch", "eval.batch_size")  # as in the base config
RANGES = {key: ranges.RANGES[key] for key in _SAME} | {
    "image_size": ranges.SIZE,
    "resize": ranges.SIZE,
    "fewshot.shots": ranges.SHOTS,
    "fewshot.seeds": ranges.SEED,
    "fewshot.l2": ranges.L2,
    "fewshot.constant": ranges.CONSTANT,
    "fewshot.resize": ranges.SIZE,
    "finetune.batch_size": ranges.RANGES["batch_size"],
    "finetune.steps": ranges.RANGES["steps"],
    "finetune.warmup_steps": ranges.RANGES["schedule.warmup_steps"],
    "finetune.learning_rates": ranges.LEARNING_RATE,
    "finetune.resize": ranges.Range(float, 1, 100, "in the size of the crop"),
    "vtab.small_size": ranges.SIZE,
    "vtab.large_size": ranges.SIZE,
}
_DTYPES = ("float32", "bfloat16")


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
    ranges.check_values(config, defaults.get_config(), RANGES)
    for key, value in changes(config).items():
        if key.split(".")[0] not in _READ_BY[suite]:
            read = ", ".join(f"config.{name}" for name in _READ_BY[suite])
            raise ConfigError(f"config.{key}={shown(value)} is not for the suite {suite}, which reads {read}")
    for key in ("crop", "fewshot.crop"):
        if (crop := _get(config, key)) is not None:
            one_of(f"config.{key}", crop, EVAL_CROPS)
    _check_different("fewshot.shots", config.fewshot.shots)
    _check_different("fewshot.seeds", config.fewshot.seeds)
    if config.finetune.learning_rates:
        _check_different("finetune.learning_rates", config.finetune.learning_rates)
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


def _check_different(key: str, values: Sequence) -> None:
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"config.{key}={shown(values)}; expected one or more, each once")
