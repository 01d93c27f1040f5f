"""What a name or a key may be: errors that name the nearest one there is."""

import difflib
from collections.abc import Iterable
from typing import TypeVar

from ml_collections import ConfigDict

from mixer_jax.config.compare import flatten
from mixer_jax.errors import ConfigError, cut, shown

_Value = TypeVar("_Value")


def suggest(name: str, known: Iterable[str]) -> str:
    """Says which of the `known` names is nearest to `name`, and lists them all, for an error message."""
    known = list(known)
    name = cut(name, 200)  # to compare takes the square of the length
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def one_of(key: str, value: _Value, known: Iterable[str]) -> _Value:
    """Returns `value` if it is one of the `known` names; otherwise raises a ConfigError naming the config `key`."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"{key}={shown(value)} is unknown; {suggest(str(value), known)}")
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

    key = cut(key, 200)
    raise ConfigError(f"config.{key} does not exist; did you mean config.{max(known, key=likeness)}?")
