"""Archives: a plain tar is read where it lies, and all other forms are unpacked once, to a plain tar.

Archives may lie in a tar, one for each class. Those must be plain ones, too.
"""

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from mixer_jax.data import folders
from mixer_jax.errors import ConfigError, cut, in_short, readable

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_FORMS = {rb"\x1f\x8b": "gz", rb"BZh[1-9]1AY&SY": "bz2", rb"\xfd7zXZ\0": "xz", rb"PK(\x03\x04|\x05\x06)": "zip"}
_DOS, _IN_UTF8 = 0, 0x800  # of a member of a zip: the system that it is from, and a flag
_OPENERS: dict[str | None, Callable[[IO[bytes]], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


class Member(NamedTuple):
    """What an archive holds under a name.

    Attributes:
      name: relative, with /; in an inner archive it begins with the name of that, without its ending.
      offset: where its bytes begin in the outermost file.
      size: how many they are.
      inner: whether it lies in an archive in the archive.
      reason: why it holds no data, or None.
    """

    name: str
    offset: int
    size: int
    inner: bool
    reason: str | None


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name, and is not left out for it."""
    return folders.why_left_out(name, ENDINGS) is None


def class_of(name: str) -> str:
    """Returns the name of an archive without its ending: the class of the images in it."""
    return re.sub("(" + "|".join(map(re.escape, ENDINGS)) + ")$", "", name, flags=re.IGNORECASE)


def form(path: str | Path) -> str | None:
    """Returns how a file is packed, whatever its name says: "gz", "bz2", "xz" or "zip"; None if it is none of these.

    Raises:
      ConfigError: it cannot be read.
    """
    try:
        with open(path, "rb") as opened:
            start = opened.read(10)
    except OSError as error:
        raise ConfigError(f"--source: {readable(path)} cannot be read: {error.strerror}") from error
    return next((name for magic, name in _FORMS.items() if re.match(magic, start)), None)


def unpacked_size(path: str | Path) -> int:
    """Estimates how many bytes a packed archive holds, never less than what it has itself.

    That of a zip is exact, and of gzip below 4 GiB. The others do not say it; but images hardly become smaller.
    """
    size = os.path.getsize(path)
    if form(path) == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                return max(size, sum(info.file_size + 3 * tarfile.BLOCKSIZE for info in archive.infolist()))
        except Exception as error:  # of damaged files, zipfile raises many types
            raise _damaged(path, error) from error
    if form(path) == "gz":
        with open(path, "rb") as opened:
            opened.seek(max(0, size - 4))
            modulo = int.from_bytes(opened.read(4), "little")
        # gzip keeps the size modulo 4 GiB: the first such size that is not below that of the compressed file.
        return modulo + -(-max(0, size - modulo) // 2**32) * 2**32
    return size


def unpack(path: str | Path, target: Path) -> None:
    """Unpacks an archive to a plain tar, in one pass; one that is there already is taken as it is.

    Raises:
      ConfigError: it is damaged or encrypted, or there is no room.
    """
    if target.exists():
        return
    temporary = target.with_suffix(".part")
    packing = form(path)
    try:
        with (
            open(path, "rb") as packed,
            tqdm.wrapattr(
                packed, "read", total=os.path.getsize(path), desc="unpack", disable=None, dynamic_ncols=True
            ) as seen,
            open(temporary, "wb") as plain,
        ):
            if packing == "zip":
                _copy_zip(seen, plain)
            else:
                with _OPENERS[packing](seen) as unpacking:
                    shutil.copyfileobj(unpacking, plain, 1 << 20)
            plain.flush()
            os.fsync(plain.fileno())
    except ConfigError:
        raise
    except Exception as error:  # of damaged files, the libraries raise many types
        if isinstance(error, OSError) and error.errno is not None:  # such as no room
            reason = f"unpacking --source={readable(path)} to {readable(target.parent)} has stopped: {error.strerror}"
            raise ConfigError(reason) from error
        raise _damaged(path, error) from error
    temporary.rename(target)


def _damaged(path, error):
    return ConfigError(
        f"--source={readable(path)} is cut short or damaged: {cut(in_short(error), 200)}; fetch it again"
    )


def _copy_zip(packed: IO[bytes], plain: IO[bytes]) -> None:
    with zipfile.ZipFile(packed) as archive, tarfile.open(fileobj=plain, mode="w") as tar:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise ConfigError(
                    f"--source: {readable(info.filename)} in {readable(packed.name)} is encrypted; unpack the archive"
                )
            if info.is_dir():
                continue
            member = tarfile.TarInfo(_name_in_zip(info))
            if stat.S_ISLNK(info.external_attr >> 16):
                member.type = tarfile.SYMTYPE
                tar.addfile(member)
                continue
            member.size = info.file_size
            with archive.open(info) as opened:
                tar.addfile(member, opened)
                opened.read(1)  # past the last byte the sum of all is checked


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Returns the name of a member as a folder would have it; zipfile takes bytes that nothing describes for cp437."""
    name = info.filename
    if info.create_system == _DOS:
        return name.replace("\\", "/")
    if not info.flag_bits & _IN_UTF8:
        name = name.encode("cp437").decode("utf-8", "surrogateescape")
    return name


def members(opened: IO[bytes], title: str, layouts: str, start: int = 0) -> Iterator[Member]:
    """Yields what a plain tar archive holds, without its folders.

    Args:
      opened: the archive.
      title: what messages call it.
      layouts: what messages say that a source should be.
      start: where it begins in the outermost file.

    Raises:
      ConfigError: it is no tar archive, cut short or damaged, or an archive in it is compressed.
    """
    try:
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Or the members of a large archive fill the memory. typeshed leaves this attribute out.
                archive.members.clear()  # type: ignore[attr-defined]
                name = os.path.normpath(member.name).lstrip("/").replace(os.sep, "/")
                if member.size < 0:  # tarfile would go back, and on without an end
                    raise tarfile.ReadError(f"{readable(name)} has {member.size} bytes")
                if member.isreg() and is_archive(name):
                    if not name.lower().endswith(".tar"):
                        raise ConfigError(f"{title}: {readable(name)} in it is compressed; unpack the archives first")
                    inner = archive.extractfile(member)
                    assert inner is not None  # it is a regular file
                    inside = members(inner, f"{title}: {readable(name)}", layouts, start + member.offset_data)
                    yield from (of._replace(name=f"{class_of(name)}/{of.name}", inner=True) for of in inside)
                elif not member.isdir():
                    yield Member(name, start + member.offset_data, member.size, False, _why_no_data(member))
            # tarfile takes a damaged header for the end, and what follows would be lost without a word.
            opened.seek(archive.offset)
            if any(opened.read(tarfile.BLOCKSIZE)) or opened.tell() != archive.offset + tarfile.BLOCKSIZE:
                raise ConfigError(f"--source: {title} is cut short or damaged at byte {archive.offset} of it")
    except ConfigError:
        raise
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:  # the others of damaged headers
        raise ConfigError(f"--source: {title} cannot be read as an archive: {in_short(error)}; {layouts}") from error


def _why_no_data(member: tarfile.TarInfo) -> str | None:
    """Returns why a member of a tar holds no bytes that lie in one piece, or None."""
    if member.issym() or member.islnk():
        return "it is a link in an archive"
    if not member.isreg():
        return "it is no file of data"
    return "it is stored with holes" if member.issparse() else None
