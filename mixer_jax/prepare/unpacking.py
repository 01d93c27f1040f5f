"""Compressed sources as plain tar archives, whose members can be read where they lie."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tqdm import tqdm

from mixer_jax.errors import ConfigError, in_short, readable
from mixer_jax.prepare.archives import File, stated

_CHUNK = 1 << 20
_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {  # by a file's first bytes
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,  # type: ignore[dict-item]
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What the readers raise of files that are cut short, damaged, encrypted, or packed in a way that Python does not know.
_DAMAGED = (EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile)


def is_compressed(file: File) -> bool:
    """Whether a file is gzip, xz, bzip2 or zip, whatever its name says."""
    start = _start(file)
    return start.startswith((*_OPENERS, *_ZIP))


def unpacked_size(file: File) -> int:
    """Estimates the size of what a compressed file holds, in bytes; never below the file's own size.

    Of gzip it is exact below 4 GiB, and of zip always. Of xz and bzip2, which do not say, it is the file's own size:
    images hardly shrink.
    """
    if _start(file).startswith(_ZIP):
        with _naming(file), zipfile.ZipFile(file.path) as archive:
            return max(file.size, sum(member.file_size for member in archive.infolist()))
    if not _start(file).startswith(b"\x1f\x8b"):
        return file.size
    with open(file.path, "rb") as opened:
        opened.seek(max(0, file.size - 4))
        modulo = int.from_bytes(opened.read(4), "little")
    # gzip keeps the size modulo 4 GiB: the first such size that is not below that of the compressed file.
    return modulo + -(-max(0, file.size - modulo) // 2**32) * 2**32


def unpack(file: File, target: Path) -> File:
    """Unpacks a compressed archive to a plain tar, in one pass; one that is there already is taken as it is.

    Raises:
      ConfigError: the archive is cut short, damaged or encrypted, or there is no room.
    """
    if not target.exists():
        temporary = target.with_suffix(".part")
        with _naming(file):
            try:
                with open(temporary, "wb") as plain:
                    if _start(file).startswith(_ZIP):
                        _unzip(file, plain)
                    else:
                        _decompress(file, plain)
                    plain.flush()
                    os.fsync(plain.fileno())
            except OSError as error:  # such as no room
                if isinstance(error, gzip.BadGzipFile):
                    raise
                raise ConfigError(
                    f"unpacking --source={readable(file.path)} to {readable(target.parent)} has stopped: {error}"
                ) from error
        temporary.rename(target)
    return stated(file.name, str(target))


def _start(file: File) -> bytes:
    with open(file.path, "rb") as opened:
        return opened.read(6)


def _decompress(file: File, plain: IO[bytes]) -> None:
    opener = next(opener for start, opener in _OPENERS.items() if _start(file).startswith(start))
    with (
        open(file.path, "rb") as packed,
        tqdm.wrapattr(packed, "read", total=file.size, desc="unpack", disable=None, dynamic_ncols=True) as seen,
        opener(seen) as unpacking,
    ):
        while chunk := unpacking.read(_CHUNK):
            plain.write(chunk)


def _unzip(file: File, plain: IO[bytes]) -> None:
    """Copies the files of a zip archive into a tar archive; what their names say is sorted out when that is listed."""
    with zipfile.ZipFile(file.path) as archive, tarfile.open(fileobj=plain, mode="w") as tar:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in tqdm(members, desc="unpack", disable=None, dynamic_ncols=True):
            copied = tarfile.TarInfo(member.filename)
            copied.size = member.file_size
            with archive.open(member) as content:
                tar.addfile(copied, content)


class _naming:
    """Turns what is raised inside of a damaged archive into a ConfigError that names it."""

    def __init__(self, file: File):
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type, error: BaseException | None, _traceback) -> None:
        if isinstance(error, _DAMAGED) and not isinstance(error, ConfigError):
            raise ConfigError(
                f"--source={readable(self._file.path)} is cut short or damaged, or cannot be unpacked here: "
                f"{in_short(error)}"
            ) from error
