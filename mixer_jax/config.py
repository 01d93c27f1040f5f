"""What a config may say: errors that name the key, durations in steps, comparison of two configs."""

import difflib
import math
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict


class ConfigError(ValueError):
    """A config key, flag or file is wrong; the message names it, the value received and what would be right."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Says which of the `known` names is nearest to `name`, and lists them all, for an error message."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def one_of(key: str, value: str, known: Iterable[str]) -> str:
    """Returns `value` if it is one of the `known` names; otherwise raises a ConfigError naming the config `key`."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"{key}={value!r} is unknown; {suggest(str(value), known)}")
    return value


def check_key(config: ConfigDict, key: str) -> None:
    """Raises a ConfigError that names the nearest existing key if the dotted `key` is not in the config."""
    known = list(flatten(config))
    sections = {name.rpartition(".")[0] for name in known}
    if key in known or key in sections:
        return

    def likeness(name):
        leaf, other = key.rpartition(".")[2], name.rpartition(".")[2]
        if leaf == "".join(word[0] for word in other.split("_")):  # lr, wd: what other projects call them
            return 1.0
        same = difflib.SequenceMatcher
        return max(same(None, key, name).ratio(), 0.9 * same(None, leaf, other).ratio())

    raise ConfigError(f"config.{key} does not exist; did you mean config.{max(known, key=likeness)}?")


def check_finite(config: Mapping) -> None:
    """Raises a ConfigError that names the first key whose value is not a number, or infinite."""
    for key, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"config.{key}={value}; expected a finite number")


def training_steps(*, steps: int | None, epochs: float | None, batch_size: int, num_examples: int) -> int:
    """Returns the number of training steps that a config asks for.

    Args:
      steps: config.steps; takes precedence when it is set.
      epochs: config.epochs, passes over the training data; the last part of a step is left out.
      batch_size: examples of a step, over all devices.
      num_examples: size of the training data.

    Raises:
      ConfigError: neither is set, or one is not positive.
    """
    if steps is None and epochs is None:
        raise ConfigError("config.steps and config.epochs are both None; set one of them")
    key, value = ("steps", steps) if steps is not None else ("epochs", epochs)
    if value <= 0:
        raise ConfigError(f"config.{key}={value}; expected a positive number")
    if steps is not None:
        return steps
    if (whole := int(epochs * num_examples / batch_size)) < 1:
        raise ConfigError(f"config.epochs={epochs} of {num_examples} examples is no step of {batch_size}; raise it")
    return whole


def flatten(config: Mapping, prefix: str = "") -> dict:
    """Returns the leaves of a nested mapping by dotted name, in order; an empty mapping is a leaf."""
    leaves = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ConfigDict)) and value:
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def complete(saved: Mapping, defaults: Mapping) -> dict:
    """Adds the keys that a saved config lacks, because they are newer, with their defaults.

    Args:
      saved: a config as nested dicts, from a checkpoint.
      defaults: the base config; its `splits` is a table of the user's, to which nothing is added.
    """
    completed = {**defaults, **saved}
    for key, value in saved.items():
        if isinstance(value, Mapping) and key in defaults and key != "splits":
            completed[key] = complete(value, defaults[key])
    return completed


def differences(ours: Mapping, theirs: Mapping, ignore: Iterable[str] = ()) -> dict[str, tuple]:
    """Returns {dotted key: (our value, their value)} where two configs differ.

    Args:
      ours: a config as nested dicts.
      theirs: the config to compare it with.
      ignore: dotted names of keys or whole sections that may differ.
    """
    ours, theirs = flatten(ours), flatten(theirs)
    absent = "(absent)"
    return {
        key: (ours.get(key, absent), theirs.get(key, absent))
        for key in sorted({*ours, *theirs})
        if ours.get(key, absent) != theirs.get(key, absent)
        and not any(key == name or key.startswith(f"{name}.") for name in ignore)
    }
