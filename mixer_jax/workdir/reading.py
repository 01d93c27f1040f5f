"""Reading what lies in a work directory, whatever has become of it: one line of a reason instead of a hang."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_SEAL = "sha256"
_MOST_BYTES = 2**30  # of a text file; longer ones are none that a run writes


def read_bytes(path: Path) -> bytes:
    """Returns what is in a file.

    Raises:
      OSError: it cannot be read, or is no regular file: of a FIFO, an end would never come.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file", str(path))
    if status.st_size > _MOST_BYTES:
        raise OSError(0, f"it has {status.st_size:,} bytes", str(path))
    return path.read_bytes()


def parse_object(text: str | bytes) -> dict:
    """Returns the JSON object that a text holds; raises a ValueError with the reason if it holds none."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("is no JSON that a run writes (it is nested too deep)") from None
    except ValueError as error:  # of UTF-8, too
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"holds {type(value).__name__}; expected a JSON object")
    return value


def read_object(path: Path) -> dict:
    """Returns the JSON object in a file; raises an OSError or a ValueError as `read_bytes` and `parse_object` do."""
    return parse_object(read_bytes(path))


def sealed(record: dict) -> dict:
    """Returns a record, which JSON can hold, with the sum of all that is in it, for `check_seal`."""
    return {**record, _SEAL: _sum(record)}


def check_seal(record: object) -> dict:
    """Returns a record without its seal.

    Raises:
      ValueError: it is no JSON object, or not what was sealed. One without a seal, from before there were any, passes.
    """
    if not isinstance(record, dict):
        raise ValueError(f"holds {type(record).__name__}; expected a JSON object")
    content = {key: value for key, value in record.items() if key != _SEAL}
    if _SEAL in record and record[_SEAL] != _sum(content):
        raise ValueError("is not what was saved: its sum is another")
    return content


def _sum(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_files(folder: Path) -> None:
    """Raises an OSError that names what in a folder is neither a regular file nor a folder, before anybody opens it."""
    for path in _below(folder):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(0, "it is no regular file", str(path))


def _below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for name, folders, files in os.walk(folder, onerror=fail):
        yield from (Path(name, entry) for entry in [*folders, *files])
