"""What can become of a file."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

DEEP_JSON = b"[" * 100_000 + b"]" * 100_000
_CONTENTS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "number": b"1e400",
    "text": b'"a text"',
    "deep JSON": DEEP_JSON,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "no UTF-8": b"\xff\xfe\x00\xd8" * 50,
    "NUL bytes": b"\0" * 4096,
    "long line": b"x" * 200_000,
}


def ways(chance: random.Random, *, flips: int = 3) -> dict[str, Callable[[Path], None]]:
    """Returns by name what damages a file in place; what is left to chance is drawn at once."""
    found = {name: _put(content) for name, content in _CONTENTS.items()}
    found |= {
        "deleted": _remove,
        "a folder": lambda path: (_remove(path), path.mkdir()),
        "a FIFO": lambda path: (_remove(path), os.mkfifo(path)),
        "a link to itself": lambda path: (_remove(path), path.symlink_to(path.name)),
        "a dangling link": lambda path: (_remove(path), path.symlink_to("nothing")),
        "appended": lambda path: path.write_bytes(path.read_bytes() + b"\0garbage\xff"),
        "twice": lambda path: path.write_bytes(path.read_bytes() * 2),
    }
    for _ in range(flips):
        found |= {f"{name} ({share:.4f})": way for name, share, way in _by_chance(chance)}
    return found


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Returns bytes with a few of them changed, taken out, doubled or set to extremes, or cut short."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        at = min(int(len(changed) * chance.random() ** chance.choice((1, 3))), len(changed) - 1)  # headers are first
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.randrange(256)
        elif kind == 2:
            size = chance.choice((1, 2, 4))
            changed[at : at + size] = chance.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * size
        elif kind == 3:
            del changed[at : at + chance.choice((1, 2, 16, 300))]
        elif kind == 4:
            changed[at:at] = changed[at : at + chance.choice((1, 2, 16, 300))]
        else:
            del changed[at:]
    return bytes(changed)


def mutation(seed: float) -> tuple[str, Callable[[Path], None]]:
    """Returns a way to damage a file by `mutated`, and its name."""
    return f"mutated ({seed:.6f})", lambda path: path.write_bytes(mutated(path.read_bytes(), random.Random(seed)))


def _by_chance(chance: random.Random):
    share = chance.random()
    bit = chance.randrange(8)

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[int(share * len(data))] ^= 1 << bit
        path.write_bytes(data)

    def truncate(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    def zero(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = int(share * len(data))
        data[at : at + 64] = bytes(len(data[at : at + 64]))
        path.write_bytes(data)

    return (("flipped", share, flip), ("truncated", share, truncate), ("zeroed", share, zero))


def _put(content: bytes) -> Callable[[Path], None]:
    return lambda path: (_remove(path), path.write_bytes(content))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
