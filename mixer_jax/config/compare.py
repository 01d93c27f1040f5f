"""Configs as flat tables, and how two of them differ."""

from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict


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
