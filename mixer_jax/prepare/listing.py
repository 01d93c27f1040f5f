"""What a user has, folders or archives of images, as one listing of encoded images with their classes."""

import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple

from mixer_jax.data import folders
from mixer_jax.data.decode import EXTENSIONS
from mixer_jax.errors import ConfigError, readable, shown
from mixer_jax.prepare import archives, labels, layouts
from mixer_jax.prepare.examples import Example, Stored


class File(NamedTuple):
    """A file of the input: an image, an archive, or one that says the classes of images."""

    name: str  # relative to the source, with /
    path: str
    size: int
    modified: int  # nanoseconds


class Listing(NamedTuple):
    """The examples by split, in random order inside each, and what else there was: name -> why it is left out."""

    examples: list[Example]
    skipped: dict[str, str]


def find_files(source: Path) -> tuple[list[File], dict[str, str]]:
    """Returns the files of a source and what else there is, name -> why it is left out.

    Args:
      source: an archive, or a folder of images and archives.

    Raises:
      ConfigError: it is neither.
    """
    if os.path.isfile(source):
        return [stated(source.name, str(source))], {}
    if not os.path.isdir(source):
        what = "is no file that can be read" if os.path.lexists(source) else "there is no such file or folder"
        raise ConfigError(f"--source={readable(source)}: {what}; expected a folder or an archive of images")
    found = folders.find(source, (*EXTENSIONS, *archives.ENDINGS, folders.ANNOTATIONS))
    return sorted(stated(name, os.path.join(source, name)) for name in found.files), found.passed_over


def stated(name: str, path: str) -> File:
    """Returns a file with its size and time; raises a ConfigError if it is not there."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise ConfigError(f"--source: {readable(path)} cannot be read: {error.strerror}; mend or remove it") from error
    return File(name, path, stat.st_size, stat.st_mtime_ns)


def fingerprint(files: list[File]) -> str:
    """Returns a hash of the names, sizes and times of files."""
    lines = (os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n") for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def list_examples(
    files: list[File], skipped: dict[str, str], *, source: Path, split: str | None, labels_file: Path | None = None
) -> Listing:
    """Lists the images of a source.

    Args:
      files: its files; an archive among them must not be compressed.
      skipped: what was left out already.
      source: what messages are about.
      split: name of the split, for a source without split folders; None takes split folders where there are any, and
        otherwise "full" for archives by class, and "train".
      labels_file: says the classes of images, as in `labels.read`; None: the folders do.

    Returns:
      Its examples, sorted by split and then by a hash of class and file name, the same whatever form the source has.

    Raises:
      ConfigError: there are no images, they have no classes, or an archive cannot be read.
    """
    found: list[Stored] = []
    annotations: list[Stored] = []
    skipped = dict(skipped)
    by_archives = False
    for file in files:
        if source.is_dir() and not archives.is_archive(file.name):
            _sort_out(Stored(file.name, file.path, 0, file.size), None, found, annotations, skipped)
            continue
        if source.is_dir() and archives.form(file.path):
            raise ConfigError(
                f"--source={readable(source)}: {readable(file.name)} is compressed; unpack archives in a folder first"
            )
        by_archives |= source.is_dir()
        inside = archives.class_of(file.name) + "/" if source.is_dir() else ""
        with open(file.path, "rb") as opened:
            for member in archives.members(opened, readable(file.path), layouts.KNOWN):
                by_archives |= member.inner
                stored = Stored(inside + member.name, file.path, member.offset, member.size)
                _sort_out(stored, member.reason, found, annotations, skipped)
    if not found:
        raise _no_images(source, skipped)
    if labels_file:
        title = f"--labels={readable(labels_file)}"
        examples = layouts.by_labels(found, labels.read(labels_file), title, split or "train", skipped)
    else:
        found = layouts.undo_tiny_imagenet(found, annotations, skipped)
        if not found:
            raise _no_images(source, skipped)
        examples = layouts.by_folders(found, split or ("full" if by_archives else None), source)
    return Listing(_in_order(examples, source), skipped)


def _sort_out(stored, reason, found, annotations, skipped):
    says_classes = stored.name.rpartition("/")[2] == folders.ANNOTATIONS
    reason = reason or folders.why_left_out(stored.name, (folders.ANNOTATIONS,) if says_classes else EXTENSIONS)
    if reason:
        skipped[stored.name] = reason
    else:
        (annotations if says_classes else found).append(stored)


def _no_images(source, skipped):
    others = f", but {folders.in_a_line(skipped)}" if skipped else ""
    return ConfigError(
        f"--source={readable(source)} holds no images ({', '.join(EXTENSIONS)}){others}; {layouts.KNOWN}"
    )


def _in_order(examples: list[Example], source: Path) -> list[Example]:
    for name in {example.split for example in examples}:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name == "all":
            raise ConfigError(
                f"--source={readable(source)}: the split name {shown(name)} is not one that TFDS reads; rename it, or "
                f"{layouts.KNOWN}"
            )
    examples.sort()
    for one, other in itertools.pairwise(examples):
        if one[:3] == other[:3]:
            raise ConfigError(
                f"--source={readable(source)} holds {readable(one.name)} of split {one.split} twice; remove one"
            )
    # Sorting is stable, so one key after the other: tuples of keys would take more memory than the listing.
    examples.sort(key=lambda example: _shuffled(example.name))
    examples.sort(key=lambda example: example.split)
    return examples


def _shuffled(name):
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")
