"""The files of a source, and the members of its tar archives as ranges of bytes of the files that they lie in.

Nothing is extracted: an image is a range of bytes of a file on disk, be it an image file, a member of a tar archive or
a member of a tar archive in one.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mixer_jax.data import folders
from mixer_jax.data.decode import EXTENSIONS
from mixer_jax.errors import ConfigError, readable

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
_ENDING = re.compile("|".join(f"{re.escape(ending)}$" for ending in ARCHIVES), re.IGNORECASE)
LAYOUTS = (
    "expected <split>/<class>/<image>, <class>/<image>, one tar archive of images for each class, or "
    "--labels=<file of path,label>"
)


class File(NamedTuple):
    """A file of the input: an image, or an archive."""

    name: str  # relative to the source, with /
    path: str
    size: int
    modified: int  # nanoseconds


class Example(NamedTuple):
    """An encoded image: `size` bytes of the file `path` from `offset` on."""

    split: str
    label: str
    file: str
    path: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """What TFDS calls file_name: the class and the name of the image's file."""
        return f"{self.label}/{self.file}"

    def read(self) -> bytes:
        """Returns the encoded image."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            encoded = file.read(self.size)
        if len(encoded) != self.size:
            raise ConfigError(
                f"--source: {readable(self.path)} has become shorter since it was listed; it must not change"
            )
        return encoded


def find_files(source: Path) -> tuple[list[File], dict[str, str]]:
    """Returns the files of a source in the order of their names, and what else lies there: name -> why it is left out.

    Args:
      source: an archive, which is the one file, or a folder, of which it is the images and archives below it.

    Raises:
      ConfigError: there is nothing, or nothing that can be read.
    """
    if source.is_file():
        return [stated(source.name, str(source))], {}
    if not source.is_dir():
        what = "is no file or folder" if os.path.lexists(source) else "there is no such file or folder"
        raise ConfigError(f"--source={readable(source)}: {what}")
    found = folders.find(source, (*EXTENSIONS, *ARCHIVES))
    return sorted(stated(name, os.path.join(source, name)) for name in found.files), found.passed_over


def stated(name: str, path: str) -> File:
    """Returns a file with its size and time; raises a ConfigError if it cannot be read."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise ConfigError(f"--source: {readable(path)} cannot be read: {error.strerror}; mend or remove it") from error
    return File(name, path, stat.st_size, stat.st_mtime_ns)


def fingerprint(files: list[File]) -> str:
    """Returns a hash of the names, sizes and times of files."""
    lines = (os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n") for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def is_archive(name: str) -> bool:
    """Whether a name is that of an archive."""
    return folders.why_left_out(name, ARCHIVES) is None


def class_of(archive: str) -> str:
    """Returns the class whose images an archive of this name holds."""
    return _ENDING.sub("", archive)


def members(opened, title, start=0) -> Iterator[tuple[str, int, int | None, bool]]:
    """Yields (name, offset in the outermost file, size or None, in an inner archive?) of the files of an archive."""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Or the members of a large archive fill the memory. typeshed leaves this attribute out.
                archive.members.clear()  # type: ignore[attr-defined]
                name = os.path.normpath(member.name).lstrip("/").replace(os.sep, "/")
                if member.isreg() and is_archive(name):
                    if not name.lower().endswith(".tar"):
                        raise ConfigError(f"{title}: {name} in it is compressed; unpack the archives of classes first")
                    inner = members(archive.extractfile(member), f"{title}: {name}", start + member.offset_data)
                    yield from ((f"{class_of(name)}/{file}", at, size, True) for file, at, size, _ in inner)
                elif not member.isdir():
                    yield name, start + member.offset_data, member.size if member.isreg() else None, False
            # tarfile takes a damaged header for the end, and what follows would be lost without a word.
            opened.seek(archive.offset)
            if any(opened.read(tarfile.BLOCKSIZE)) or opened.tell() != archive.offset + tarfile.BLOCKSIZE:
                raise ConfigError(f"--source: {title} is cut short or damaged at byte {archive.offset} of it")
    except tarfile.TarError as error:
        raise ConfigError(f"--source: {title} cannot be read as a tar archive: {error}; {LAYOUTS}") from error
