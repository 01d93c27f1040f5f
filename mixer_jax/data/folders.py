"""Which files below a folder are images: one rule for `folder:`, `prepare`, `predict` and the names in archives.

Left out are hidden files, what systems leave behind, files of other endings, and whatever is no file that can be read.
Links are followed, but not into a folder that they lie in.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mixer_jax.data.decode import EXTENSIONS
from mixer_jax.errors import readable

ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet: the classes of the images in the folder images beside it
TO_NOWHERE = "it is a link to nowhere"
# What file systems, file managers and Python leave in folders. Copies of images may lie in it.
_LEFT_BEHIND = {
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "__pycache__",
}


class Found(NamedTuple):
    """What lies below a folder; names are relative to it, with /.

    Attributes:
      files: the files that are wanted, ordered by the parts of their names.
      passed_over: all others -> why they are left out; of a folder that is not entered, the folder.
    """

    files: list[str]
    passed_over: dict[str, str]


def find(root: str | Path, endings: tuple[str, ...] = EXTENSIONS) -> Found:
    """Returns the images below a folder, or the files with other endings, and what else there is."""
    found = Found([], {})
    for name, reason in _walk(os.fspath(root).rstrip("/") or "/"):
        if reason := reason or why_left_out(name, endings):
            found.passed_over[name] = reason
        else:
            found.files.append(name)
    return found


def why_left_out(name: str, endings: tuple[str, ...] = EXTENSIONS) -> str | None:
    """Returns why a file of this relative name is no image, in a folder or in an archive; None if it is one."""
    for part in name.split("/"):
        if reason := _why_hidden(part):
            return reason
    return None if name.lower().endswith(endings) else "its name is not that of an image"


def subfolders(root: str | Path) -> list[str]:
    """Returns the names of the folders in a folder, in order, without those that are left out.

    Raises:
      OSError: it cannot be read.
    """
    return sorted(entry.name for entry in _scan(os.fspath(root), "") if entry.is_folder)


def holds_image(folder: str | Path) -> bool:
    """Whether an image lies in a folder itself; no more of it is read than is needed to know."""
    entries = _scan(os.fspath(folder), "")
    try:
        return any(not (entry.is_folder or entry.reason or why_left_out(entry.name)) for entry in entries)
    except OSError:  # it may not be read
        return False


def in_a_line(passed_over: dict[str, str]) -> str:
    """Says how many entries are passed over, and names the first of them."""
    name, reason = next(iter(passed_over.items()))
    entries = "entry is" if len(passed_over) == 1 else "entries are"
    return f"{len(passed_over):,} {entries} passed over, such as {readable(name)}: {reason}"


class _Entry(NamedTuple):
    name: str  # relative to where the walk began
    is_folder: bool
    reason: str | None  # why it is left out


def _why_hidden(part: str) -> str | None:
    if part == "..":
        return "its name leads out of the archive"
    if part.startswith("."):
        return "its name begins with a dot"  # such as the ._*.jpg of macOS, which are no images
    return f"{part} is what a system has left behind" if part in _LEFT_BEHIND else None


def _walk(root: str) -> Iterator[tuple[str, str | None]]:
    """Yields the names of all files below a folder in the order of their parts, and why they are left out or None."""
    waiting = [_Entry("", True, None)]
    while waiting:
        entry = waiting.pop()
        if not entry.is_folder:
            yield entry.name, entry.reason
            continue
        try:
            within = sorted(_scan(root, entry.name), reverse=True)
        except OSError as error:
            yield entry.name or ".", f"it cannot be read: {error.strerror}"
            continue
        if not within:
            yield entry.name or ".", "it is an empty folder"
        waiting += within


def _scan(root: str, within: str) -> Iterator[_Entry]:
    """Yields what lies in the folder `within` of a root, in any order; raises an OSError if it cannot be read."""
    with os.scandir(os.path.join(root, within)) as entries:
        for entry in entries:
            name = f"{within}/{entry.name}" if within else entry.name
            is_folder, reason = False, _why_hidden(entry.name)
            if reason is None:
                try:
                    is_folder, reason = _look_at(entry, root)
                except OSError as error:  # such as a link to itself
                    reason = f"it cannot be read: {error.strerror}"
            yield _Entry(name, is_folder, reason)


def _look_at(entry: os.DirEntry, root: str) -> tuple[bool, str | None]:
    """Returns whether an entry is a folder to be entered, and why it is left out or None."""
    if entry.is_dir():
        loop = entry.is_symlink() and _leads_back(entry.path, root)
        return not loop, "it is a link to a folder that it lies in" if loop else None
    if entry.is_file():
        return False, None
    return False, "it is no file of data" if os.path.exists(entry.path) else TO_NOWHERE


def _leads_back(link: str, root: str) -> bool:
    """Whether a link to a folder leads to one that it lies in, by any of the paths between it and the root."""
    target = os.path.realpath(link)
    folder = os.path.dirname(link)
    while not Path(os.path.realpath(folder)).is_relative_to(target):
        if len(folder) <= len(root):
            return False
        folder = os.path.dirname(folder)
    return True
