r"""The names of classes: in which order they are numbered, and how a file holds them, one a line.

A name is any text, such as that of a folder, which may hold bytes that are no UTF-8, or a line break. What is not plain
printable text, or would be taken for something else, is written as a JSON string: "a\nb".
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mixer_jax.config.checks import suggest
from mixer_jax.config.paths import local_path
from mixer_jax.errors import ConfigError, cut, readable

BY_NAME, NATURAL = "name", "natural"


def ordered(names: Iterable[str], order: str, *, key: str) -> list[str]:
    """Returns names of classes in the order of their numbers.

    Args:
      names: of the classes of which there are images.
      order: "name"; "natural", numbers in them by their value, 2 before 10; or the path of a file of class names, which
        must hold all of `names` and may hold more.
      key: what messages call the order, such as "config.data.class_order".

    Raises:
      ConfigError: another order, or the file cannot be read, lacks a class or holds one twice.
    """
    if order == BY_NAME:
        return sorted(names)
    if order == NATURAL:
        return sorted(names, key=lambda name: (_natural(name), name))
    path = local_path(key, order)
    if not os.path.lexists(path):
        raise ConfigError(
            f"{key}={cut(repr(order), 80)}: {suggest(order, [BY_NAME, NATURAL])}, or the path of a file of class names"
        )
    known = read(path)
    if len(known) != len(set(known)):
        twice = next(name for number, name in enumerate(known) if name in known[:number])
        raise ConfigError(f"{key}: {readable(path)} names the class {_quoted(twice)} twice")
    if lacking := sorted(set(names) - set(known)):
        raise ConfigError(
            f"{key}: {readable(path)} lacks {len(lacking)} of the classes of which there are images, such as "
            f"{_quoted(lacking[0])}"
        )
    return known


def to_bytes(names: Sequence[str]) -> bytes:
    """Returns the content of a file of names, which `read` gives back: UTF-8, a line each."""
    return "".join(f"{to_line(name)}\n" for name in names).encode()


def read(path: Path) -> list[str]:
    """Reads a file of names; a byte order mark, carriage returns and empty lines at the end are none of them.

    Raises:
      ConfigError: it cannot be read, or is no such text.
    """
    try:
        if path.exists() and not path.is_file():  # or opening a pipe would wait for ever
            raise ConfigError(f"{readable(path)} is no file; expected the names of classes, one a line")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{readable(path)} cannot be read: {error.strerror}") from error
    if b"\0" in content:
        raise ConfigError(f"{readable(path)} is no text in UTF-8; expected the names of classes, one a line")
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")  # not at U+2028, too
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return [of_line(line) for line in lines]


def to_line(name: str) -> str:
    """Returns a name as a line without its end, of printable characters."""
    plain = name.isprintable() and name == name.strip() and name and not name.startswith('"')
    return name if plain else json.dumps(name)


def of_line(line: str) -> str:
    """Returns the name that a line holds."""
    if line.startswith('"'):
        try:
            return json.loads(line)
        except ValueError:
            pass
    return line


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns what to compare: text and numbers in turn; a number by its length without zeros, then its digits."""
    parts = re.split("([0-9]+)", name)
    digits = [part.lstrip("0") for part in parts[1::2]]
    key = [(0, part) for part in parts]
    key[1::2] = [(len(number), number) for number in digits]
    return key


def _quoted(name: str) -> str:
    return cut(repr(name), 80)
