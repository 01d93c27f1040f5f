"""Of which split and class each image is: by the folders that it lies in, or by a file that says it."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

from mixer_jax.data import folders
from mixer_jax.errors import ConfigError, readable
from mixer_jax.prepare import labels
from mixer_jax.prepare.examples import Example, Stored

KNOWN = (
    "expected <split>/<class>/<image>, <class>/<image>, or one tar archive of images for each class; --labels=<file of "
    "path,label> reads any other"
)
_IMAGES = "images"  # the folder of Tiny ImageNet in which the images of a class lie
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}  # what nobody calls a folder around all


def undo_tiny_imagenet(found: list[Stored], annotations: list[Stored], skipped: dict[str, str]) -> list[Stored]:
    """Gives the images of Tiny ImageNet the names that they would have in <split>/<class>/<image>.

    They are <split>/<class>/images/<image>, or <split>/images/<image> beside a file val_annotations.txt of classes.

    Args:
      found: the images.
      annotations: the files val_annotations.txt; without any, all images stay as they are.
      skipped: to this are added, with the reason, images of which no class is known.

    Raises:
      ConfigError: a file of annotations is damaged, or names an image that is not there.
    """
    if not annotations:
        return found
    beside = {_split(file.name)[0]: file for file in annotations}
    files = defaultdict(list)
    for image in found:
        folder, name = _split(image.name)
        files[folder].append(name)
    classes = {}
    for above, file in beside.items():
        title = f"--source: {readable(file.name)}"
        listed = labels.read_annotations(file.read(), title)
        classes[above] = labels.assign(files[_join(above, _IMAGES)], listed, title)
    depths = set(map(_count, beside))  # of the folders of splits
    renamed = []
    for image in found:
        folder, name = _split(image.name)
        above, last = _split(folder)
        label = classes[above].get(name) if last == _IMAGES and above in classes else None
        if label is not None:
            renamed.append(image._replace(name=_join(_join(above, label), name)))
        elif last == _IMAGES and _count(above) in depths:
            skipped[image.name] = "no file says of which class it is"
        else:
            renamed.append(image._replace(name=_join(above, name)) if last == _IMAGES else image)
    return renamed


def by_labels(found: list[Stored], classes: dict[str, str], title: str, split: str, skipped: dict) -> list[Example]:
    """Returns the images that a file of labels names, as examples of one split; the others are added to `skipped`."""
    assigned = labels.assign((image.name for image in found), classes, title)
    skipped.update(dict.fromkeys((image.name for image in found if image.name not in assigned), f"{title} lacks it"))
    return [
        Example(split, assigned[image.name], image.name, image.path, image.offset, image.size)
        for image in found
        if image.name in assigned
    ]


def by_folders(found: list[Stored], split: str | None, source: Path) -> list[Example]:
    """Returns the images as examples, of the splits and classes of the folders that they lie in; empties `found`.

    Args:
      found: the images.
      split: the one split, if there are no folders of splits; None: that of the folders, or train without any.
      source: what messages are about.

    Raises:
      ConfigError: they do not lie in folders of classes, or not all as deep.
    """
    depth = _depth(found, source)
    kept = 1 if split else min(2, depth)  # folders of a split and a class
    # What the first and the last have in common, all in between have.
    first, last = (end(image.name.split("/")[:-2] for image in found) for end in (min, max))
    shared = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    dropped = min(len(shared), max(0, depth - kept))  # such as one folder around all of an archive
    if depth - dropped != kept or not kept or (not split and _SPLITS & set(shared[:dropped])):
        raise _of_no_layout(found[0].name, source)
    examples: list[Example] = []
    strings: dict[str, str] = {}
    while found:  # taken away one by one, so that not all are in memory twice
        name, path, offset, size = found.pop()
        *inside, file = name.split("/")[dropped:]
        # One string for each name, not one for each image, of which there may be millions.
        of_split, label = (strings.setdefault(text, text) for text in ([split or "train", *inside])[-2:])
        examples.append(Example(of_split, label, file, path, offset, size))
    if {example.label for example in examples} == {_IMAGES}:
        raise ConfigError(
            f"--source={readable(source)} has images in folders called images alone, which are no classes; of Tiny "
            f"ImageNet, --source is the folder of train/ and of val/ with its {folders.ANNOTATIONS}"
        )
    return examples


def _depth(found: list[Stored], source: Path) -> int:
    """Returns in how many folders each image lies; raises a ConfigError that names one that differs from most."""
    depths = Counter(image.name.count("/") for image in found)
    depth = max(depths, key=lambda depth: (depths[depth], depth))
    if odd := sorted(image.name for image in found if image.name.count("/") != depth):
        raise ConfigError(
            f"--source={readable(source)}: {len(odd):,} of {len(found):,} images, such as {readable(odd[0])}, do not "
            f"lie in {depth} folders as the others do; move or remove what is amiss: {KNOWN}"
        )
    return depth


def _of_no_layout(name: str, source: Path) -> ConfigError:
    above = name.split("/")[:-2]
    deepest = readable(source.joinpath(*above))
    hint = f"; or name the folder of the classes, such as --source={deepest}" if above and source.is_dir() else ""
    lie = f"its images, such as {readable(name)}, lie in {name.count('/')} folders"
    return ConfigError(f"--source={readable(source)}: {lie}; {KNOWN}{hint}")


def _count(folder: str) -> int:
    """Returns how many names a folder's has."""
    return len(folder.split("/")) if folder else 0


def _split(name: str) -> tuple[str, str]:
    """Returns the folder and the last part of a name; the folder of a name without one is ""."""
    folder, _, last = name.rpartition("/")
    return folder, last


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
