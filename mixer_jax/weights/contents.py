"""What a file of weights holds, whatever its format, and the sum that tells whether it is what was written."""

import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mixer_jax.errors import ConfigError

_LONGEST = 80  # characters of a name or a value that a message repeats
_EXPANSION, _FREE = 100, 1 << 26  # an archive that unpacks to more than 100 times its own size, and 64 MiB


@dataclasses.dataclass(frozen=True)
class Contents:
    """What was read of a file.

    Attributes:
      arrays: by key.
      others: the keys of what is no array, such as "epoch".
    """

    arrays: dict[str, np.ndarray]
    others: tuple[str, ...] = ()


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256, in hexadecimal, of all arrays with their keys, types and shapes."""
    total = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        total.update(f"{key}\0{array.dtype.name}\0{arrays[key].shape}\0".encode("utf-8", "surrogatepass"))
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def shown(value: object) -> str:
    """Returns a name or a value of a file for a message: on one line, and of a readable length."""
    text = value if isinstance(value, str) else repr(value)
    if not text.isprintable():
        text = repr(text)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_unpacked_size(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises a ConfigError if a zip archive would need memory out of all proportion to its size."""
    needed, size = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if needed > _EXPANSION * size + _FREE:
        raise ConfigError(f"{path} has {size:,} bytes and would unpack to {needed:,}; that is not read")
