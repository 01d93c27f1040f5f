"""What a path in a flag, a key or an argument means: one rule for all of them."""

import os
import re
from pathlib import Path

from mixer_jax.errors import ConfigError, readable, shown

# A URL, also one that `Path` has made of it: gs://a/b becomes gs:/a/b.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(name: str, value: str | Path) -> Path:
    """Returns the path that a flag or a key names; `~` is the home directory, and relative paths are of this folder.

    Args:
      name: what messages call it, such as "--workdir" or "config.data.data_dir".
      value: the path; one of an existing user's home directory, `~name/...`, is as good as any.

    Raises:
      ConfigError: it is a URL, empty, or of the home of a user who is not there, or no file can have that name.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(f"{name}={shown(value)}; expected a path")
    text = os.fsdecode(value)
    if _URL.match(text):
        raise ConfigError(f"{name}={readable(text)} is no local path; a local or mounted folder is needed")
    if not text:
        raise ConfigError(f"{name} is empty; expected a path")
    if not _can_be_a_path(text):
        raise ConfigError(f"{name}={shown(text)} is longer than a path, or a name in it, can be, or holds other bytes")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nosuchuser
        raise ConfigError(f"{name}={readable(text)}: {error}") from error


def utf8_path(name: str, value: str | Path) -> Path:
    """Returns a path as `local_path` does, for libraries in C++, which take paths in UTF-8 alone.

    Raises:
      ConfigError: as `local_path`, or the path from the root on is not in UTF-8.
    """
    path = local_path(name, value)
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}={readable(os.path.abspath(path))} is no path in UTF-8, which what is read and written there "
            "needs; rename it, or choose another"
        ) from None
    return path


def path_or_url(name: str, value: str) -> str:
    """Returns a path as `utf8_path` does, as text, and a URL as it is: for what other libraries open themselves."""
    return value if "://" in value else str(utf8_path(name, value))


def _can_be_a_path(text: str) -> bool:
    """Returns whether a system call would take a path; of others Python raises where it asks whether they exist."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return len(encoded) < 4096 and b"\0" not in encoded and all(len(name) <= 255 for name in encoded.split(b"/"))
