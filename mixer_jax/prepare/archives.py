"""What a user has, folders or tar archives of images, as one listing of encoded images with their classes.

Nothing is extracted: an image is a range of bytes of a file on disk, be it an image file, a member of a tar archive or
a member of a tar archive in one. A gzipped archive, which cannot be read from the middle, is unpacked once as a whole.
"""

import gzip
import hashlib
import itertools
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from mixer_jax.data.decode import EXTENSIONS
from mixer_jax.errors import ConfigError

_TARS = (".tar", ".tar.gz", ".tgz")
_LAYOUTS = "expected <split>/<class>/<image>, <class>/<image>, or one tar archive of images for each class"


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
            raise ConfigError(f"--source: {self.path} has become shorter since it was listed; it must not change")
        return encoded


class Listing(NamedTuple):
    """The examples by split, in random order inside each, and what else there was: name -> why it is left out."""

    examples: list[Example]
    skipped: dict[str, str]


def find_files(source: Path) -> list[File]:
    """Returns the files of a source in the order of their names: the archive itself, or all files of a folder."""
    if not source.exists():
        raise ConfigError(f"--source={source}: there is no such file or folder")
    if source.is_file():
        return [_stated(source.name, str(source))]
    found = []
    for folder, _, names in os.walk(source, followlinks=True):
        within = Path(folder).relative_to(source)
        found += [_stated((within / name).as_posix(), os.path.join(folder, name)) for name in names]
    return sorted(found)


def of_interest(files: list[File]) -> list[File]:
    """Returns those of a source's files that are not left out for their names."""
    return [file for file in files if len(files) == 1 or _skip_reason(file.name, (*EXTENSIONS, *_TARS)) is None]


def fingerprint(files: list[File]) -> str:
    """Returns a hash of the names, sizes and times of files."""
    lines = (os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n") for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def is_compressed(file: File) -> bool:
    """Whether a file is gzipped, whatever its name says."""
    with open(file.path, "rb") as opened:
        return opened.read(2) == b"\x1f\x8b"


def unpacked_size(file: File) -> int:
    """Estimates the size of what a gzipped file holds, in bytes; exact below 4 GiB, never below the file's own size."""
    with open(file.path, "rb") as opened:
        opened.seek(max(0, file.size - 4))
        modulo = int.from_bytes(opened.read(4), "little")
    # gzip keeps the size modulo 4 GiB: the first such size that is not below that of the compressed file.
    return modulo + -(-max(0, file.size - modulo) // 2**32) * 2**32


def unpack(file: File, target: Path) -> File:
    """Unpacks a gzipped archive to a plain one, in one pass; an archive that is there already is taken as it is."""
    if not target.exists():
        temporary = target.with_suffix(".part")
        try:
            with (
                open(file.path, "rb") as packed,
                tqdm.wrapattr(packed, "read", total=file.size, desc="unpack", disable=None, dynamic_ncols=True) as seen,
                gzip.open(seen) as unpacking,
                open(temporary, "wb") as plain,
            ):
                while chunk := unpacking.read(1 << 20):
                    plain.write(chunk)
                plain.flush()
                os.fsync(plain.fileno())
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ConfigError(f"--source={file.path} is cut short or damaged: {error}; fetch it again") from error
        except OSError as error:  # such as no room
            raise ConfigError(f"unpacking --source={file.path} to {target.parent} has stopped: {error}") from error
        temporary.rename(target)
    return _stated(file.name, str(target))


def list_examples(files: list[File], *, source: Path, split: str | None) -> Listing:
    """Lists the images of a source.

    Args:
      files: its files; an archive among them must not be compressed.
      source: what messages are about.
      split: name of the split, for a source without split folders; None takes split folders where there are any, and
        otherwise "full" for archives by class, and "train".

    Returns:
      Its examples, sorted by split and then by a hash of class and file name, the same whatever form the source has.

    Raises:
      ConfigError: there are no images, they do not lie in classes, or an archive cannot be read.
    """
    found: list[tuple[str, str, int, int]] = []
    skipped: dict[str, str] = {}
    archives = source.is_dir() and any(_skip_reason(file.name, _TARS) is None for file in files)
    for file in files:
        if source.is_dir() and _skip_reason(file.name, _TARS) is not None:
            _sort_out(found, skipped, file.name, file.path, 0, file.size)
            continue
        if source.is_dir() and is_compressed(file):
            raise ConfigError(f"--source={source}: {file.name} is compressed; unpack the archives of classes first")
        inside = _class_of(file.name) + "/" if source.is_dir() else ""
        with open(file.path, "rb") as opened:
            for name, offset, size, nested in _members(opened, file.path):
                archives |= nested
                _sort_out(found, skipped, inside + name, file.path, offset, size)
    if not found:
        others = f", but {len(skipped)} other files, such as {next(iter(skipped))}" if skipped else ""
        raise ConfigError(f"--source={source} holds no images ({', '.join(EXTENSIONS)}){others}; {_LAYOUTS}")
    examples = _layout(found, split or ("full" if archives else None), source)
    examples.sort()
    for one, other in itertools.pairwise(examples):
        if one[:3] == other[:3]:
            raise ConfigError(f"--source={source} holds {one.name} of split {one.split} twice; remove one")
    # Sorting is stable, so one key after the other: tuples of keys would take more memory than the listing.
    examples.sort(key=lambda example: _shuffled(example.name))
    examples.sort(key=lambda example: example.split)
    return Listing(examples, skipped)


def _stated(name, path):
    try:
        stat = os.stat(path)
    except OSError as error:  # such as a link to nowhere
        raise ConfigError(f"--source: {path} cannot be read: {error.strerror}; mend or remove it") from error
    return File(name, path, stat.st_size, stat.st_mtime_ns)


def _skip_reason(name, suffixes):
    if any(part.startswith(".") for part in name.split("/")):
        return "its name begins with a dot"  # such as the ._*.jpg of macOS, which are no images
    return None if name.lower().endswith(suffixes) else "its name is not that of an image"


def _sort_out(found, skipped, name, path, offset, size):
    if size is None:
        skipped[name] = "it is a link in an archive"
    elif reason := _skip_reason(name, EXTENSIONS):
        skipped[name] = reason
    else:
        found.append((name, path, offset, size))


def _shuffled(name):
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def _class_of(name):
    return re.sub(r"\.(tar|tar\.gz|tgz)$", "", name, flags=re.IGNORECASE)


def _members(opened, title, start=0) -> Iterator[tuple[str, int, int | None, bool]]:
    """Yields (name, offset in the outermost file, size or None, in an inner archive?) of the files of an archive."""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # Or the members of a large archive fill the memory. typeshed leaves this attribute out.
                archive.members.clear()  # type: ignore[attr-defined]
                name = os.path.normpath(member.name).lstrip("/").replace(os.sep, "/")
                if member.isreg() and _skip_reason(name, _TARS) is None:
                    if not name.lower().endswith(".tar"):
                        raise ConfigError(f"{title}: {name} in it is compressed; unpack the archives of classes first")
                    inner = _members(archive.extractfile(member), f"{title}: {name}", start + member.offset_data)
                    yield from ((f"{_class_of(name)}/{file}", at, size, True) for file, at, size, _ in inner)
                elif not member.isdir():
                    yield name, start + member.offset_data, member.size if member.isreg() else None, False
            # tarfile takes a damaged header for the end, and what follows would be lost without a word.
            opened.seek(archive.offset)
            if any(opened.read(tarfile.BLOCKSIZE)) or opened.tell() != archive.offset + tarfile.BLOCKSIZE:
                raise ConfigError(f"--source: {title} is cut short or damaged at byte {archive.offset} of it")
    except tarfile.TarError as error:
        raise ConfigError(f"--source: {title} cannot be read as a tar archive: {error}; {_LAYOUTS}") from error


def _layout(found, split, source):
    """Says of which split and class each image is, by the folders that it lies in; empties `found`."""
    deepest = max(name.count("/") for name, *_ in found) + 1
    kept = 2 if split else min(3, deepest)
    # What the first and the last have in common, all in between have.
    first, last = (end(name.split("/")[:-2] for name, *_ in found) for end in (min, max))
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    dropped = min(shared, max(0, deepest - kept))  # such as one folder around all of an archive
    examples: list[Example] = []
    strings: dict[str, str] = {}
    while found:  # taken away one by one, so that not all are in memory twice
        name, path, offset, size = found.pop()
        *folders, file = name.split("/")[dropped:]
        if len(folders) != kept - 1 or not folders:
            raise ConfigError(f"--source={source}: {name} lies in {name.count('/')} folders; {_LAYOUTS}")
        # One string for each name, not one for each image, of which there may be millions.
        of_split, label = (strings.setdefault(text, text) for text in ([split or "train", *folders])[-2:])
        examples.append(Example(of_split, label, file, path, offset, size))
    for name in {example.split for example in examples}:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name == "all":
            raise ConfigError(f"--source={source}: the split name {name!r} is not one that TFDS reads; rename it")
    for name in {example.label for example in examples}:
        if not name.isprintable():
            raise ConfigError(f"--source={source}: the class name {name!r} is not printable UTF-8; rename it")
    return examples
