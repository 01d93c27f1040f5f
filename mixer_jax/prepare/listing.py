"""What a source holds as one listing: encoded images by split and class, and what else there is."""

import collections
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mixer_jax.data import folders
from mixer_jax.data.decode import EXTENSIONS
from mixer_jax.errors import ConfigError, readable
from mixer_jax.prepare import labels as label_files
from mixer_jax.prepare.archives import LAYOUTS, Example, File, class_of, is_archive, members
from mixer_jax.prepare.unpacking import is_compressed


class Listing(NamedTuple):
    """The examples by split, in random order inside each, and what else there was: name -> why it is left out."""

    examples: list[Example]
    skipped: dict[str, str]


class _Image(NamedTuple):
    """An image where it lies; its name is relative to the source, with /."""

    name: str
    path: str
    offset: int
    size: int


def list_examples(
    files: list[File],
    passed_over: Mapping[str, str],
    *,
    source: Path,
    split: str | None,
    labels: Mapping[str, str] | None = None,
) -> Listing:
    """Lists the images of a source.

    Args:
      files: its files; an archive among them must not be compressed.
      passed_over: what else lies there, and why it is left out.
      source: what messages are about.
      split: name of the split, for a source without split folders; None takes split folders where there are any, and
        otherwise "full" for archives by class, and "train".
      labels: class by path; all images that have one are in one split. None: the folders are the classes.

    Returns:
      Its examples, sorted by split and then by a hash of class and file name, the same whatever form the source has.

    Raises:
      ConfigError: there are no images, they do not lie in classes, or an archive cannot be read.
    """
    found: list[_Image] = []
    skipped = dict(passed_over)
    archives = source.is_dir() and any(is_archive(file.name) for file in files)
    for file in files:
        if source.is_dir() and not is_archive(file.name):
            found.append(_Image(file.name, file.path, 0, file.size))
            continue
        if source.is_dir() and is_compressed(file):
            raise ConfigError(f"--source={readable(source)}: {readable(file.name)} is compressed; unpack it first")
        inside = class_of(file.name) + "/" if source.is_dir() else ""
        with open(file.path, "rb") as opened:
            for name, offset, size, nested in members(opened, readable(file.path)):
                archives |= nested
                reason = "it is a link in an archive" if size is None else folders.why_left_out(name)
                if reason or size is None:
                    skipped[inside + name] = str(reason)
                else:
                    found.append(_Image(inside + name, file.path, offset, size))
    if not found:
        others = f", but {folders.in_a_line(skipped)}" if skipped else ""
        raise ConfigError(f"--source={readable(source)} holds no images ({', '.join(EXTENSIONS)}){others}; {LAYOUTS}")
    if labels is not None:
        examples = _labelled(found, skipped, labels, split or "train", source)
    else:
        if source.is_dir():
            found = _without_image_folders(found, skipped, source)
        examples = _by_folders(found, split or ("full" if archives else None), source)
    _check_split_names(examples, source)
    examples.sort()
    for one, other in itertools.pairwise(examples):
        if one[:3] == other[:3]:
            raise ConfigError(
                f"--source={readable(source)} holds {readable(one.name)} of split {one.split} twice; remove one"
            )
    # Sorting is stable, so one key after the other: tuples of keys would take more memory than the listing.
    examples.sort(key=lambda example: _shuffled(example.name))
    examples.sort(key=lambda example: example.split)
    return Listing(examples, skipped)


def _labelled(
    found: list[_Image], skipped: dict[str, str], labels: Mapping[str, str], split: str, source: Path
) -> list[Example]:
    """Takes the class of each image from a table; images that are not in it are skipped."""
    examples, unseen = [], set(labels)
    for name, path, offset, size in found:
        base = name.rpartition("/")[2]
        keys = (name, name.rpartition(".")[0], base, base.rpartition(".")[0])
        key = next((key for key in keys if key in labels), None)
        if key is None:
            skipped[name] = "it has no label in --labels"
            continue
        unseen.discard(key)
        examples.append(Example(split, labels[key], name.replace("/", "_"), path, offset, size))
    if unseen:
        raise ConfigError(
            f"--labels: {len(unseen):,} of {len(labels):,} images are not in --source={readable(source)}, such as "
            f"{readable(min(unseen))}"
        )
    return examples


def _without_image_folders(found: list[_Image], skipped: dict[str, str], source: Path) -> list[_Image]:
    """Returns the images of Tiny ImageNet as <split>/<class>/<image>, and those of other sources as they are.

    There, train/<class>/images/ holds images, and so does val/images/, whose classes stand in a file beside it.
    """
    tables = {name: table for name in folders.subfolders(source) if (table := label_files.annotations(source / name))}
    if not tables:
        return found
    moved = []
    for image in found:
        parts = image.name.split("/")
        if len(parts) == 3 and parts[1] == "images":
            label = tables.get(parts[0], {}).get(parts[2])
            if label is None:
                skipped[image.name] = f"there is no label of it in {parts[0]}/{folders.ANNOTATIONS}"
                continue
            parts[1] = label
        elif len(parts) == 4 and parts[2] == "images":
            del parts[2]
        moved.append(image._replace(name="/".join(parts)))
    return moved


def _by_folders(found: list[_Image], split: str | None, source: Path) -> list[Example]:
    """Says of which split and class each image is, by the folders that it lies in; empties `found`."""
    deepest = max(name.count("/") for name, *_ in found) + 1
    kept = 2 if split else min(3, deepest)
    # What the first and the last have in common, all in between have.
    first, last = (end(name.split("/")[:-2] for name, *_ in found) for end in (min, max))
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    dropped = min(shared, max(0, deepest - kept))  # such as one folder around all of an archive
    _check_depth([name for name, *_ in found], dropped + kept - 1, source)
    examples: list[Example] = []
    strings: dict[str, str] = {}
    while found:  # taken away one by one, so that not all are in memory twice
        name, path, offset, size = found.pop()
        *inner, file = name.split("/")[dropped:]
        # One string for each name, not one for each image, of which there may be millions.
        of_split, label = (strings.setdefault(text, text) for text in ([split or "train", *inner])[-2:])
        examples.append(Example(of_split, label, file, path, offset, size))
    return examples


def _check_depth(names: list[str], expected: int, source: Path) -> None:
    """Raises a ConfigError unless all images lie in so many folders; of a few that do not, it names one."""
    depths = collections.Counter(name.count("/") for name in names)
    if set(depths) == {expected} and expected > 0:
        return
    usual = depths.most_common(1)[0][0]
    if len(depths) > 1:
        odd = min(name for name in names if name.count("/") != usual)
        raise ConfigError(
            f"--source={readable(source)}: {readable(odd)} lies in {_counted(odd.count('/'))}, and {depths[usual]:,} "
            f"others in {_counted(usual)}: move or remove it; {LAYOUTS}"
        )
    if usual == 0:
        raise ConfigError(
            f"--source={readable(source)}: the images, such as {readable(names[0])}, lie in no folder; {LAYOUTS}"
        )
    raise ConfigError(
        f"--source={readable(source)}: the images, such as {readable(min(names))}, lie in {_counted(usual)}, of which "
        "it is not clear which names the class: let --source be a folder of folders of classes, or say it by "
        "--labels=<file of path,label>"
    )


def _counted(folders_: int) -> str:
    return f"{folders_} folder{'' if folders_ == 1 else 's'}"


def _check_split_names(examples: Iterable[Example], source: Path) -> None:
    for name in {example.split for example in examples}:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name == "all":
            raise ConfigError(
                f"--source={readable(source)}: the split name {readable(name)!r} is not one that TFDS reads; rename it"
            )


def _shuffled(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")
