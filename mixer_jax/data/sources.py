"""Where examples come from: indexable sources, `source[i] -> {"image": ..., "label": ...}`.

An image is uint8 (height, width, 3) or the bytes of an encoded file; a label is a class number.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mixer_jax import rng
from mixer_jax.config.checks import one_of
from mixer_jax.config.extensions import is_extension, resolve_function
from mixer_jax.config.paths import local_path, path_or_url
from mixer_jax.data import class_names, vtab
from mixer_jax.data.image_folder import Folder
from mixer_jax.data.tfds import SPLIT_KEYS, Tfds
from mixer_jax.errors import ConfigError, RunError, cut

_KINDS = (
    "digits",
    "synthetic:<number of examples>",
    "tfds:<name>",
    "folder:<path>",
    "vtab:<task>",
    "package.module:name",
)
_OF_A_SOURCE = ("__len__", "__getitem__", "num_classes", "class_names", "describe")
_PREFIXES = {kind.partition(":")[0] for kind in _KINDS} - {"package.module"}


class Examples(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...

    def describe(self, index: int) -> str:
        """Returns what a message is to call an example."""
        ...


class Source(Examples, Protocol):
    """An indexable data set; its classes are named in the order of their numbers."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """What they are called."""
        ...


def open_with_classes(source: str, *, num_classes: int, **how: Any) -> Source:
    """Opens a data set for a model of so many classes.

    Args:
      source: as in `open_source`.
      num_classes: number of classes that the model is made for.
      **how: the other arguments of `open_source`.

    Returns:
      The source, of `num_classes` classes.

    Raises:
      ConfigError: as `open_source`, or the data set has another number of classes.
    """
    opened = open_source(source, num_classes=num_classes, **how)
    if opened.num_classes != num_classes:
        raise ConfigError(
            f"config.data.num_classes={num_classes}, but {source} has {opened.num_classes} classes: set it to that"
        )
    return opened


def open_source(
    source: str,
    *,
    split: str,
    data_dir: str | None,
    num_classes: int,
    image_size: int,
    class_order: str = class_names.BY_NAME,
) -> Source:
    """Opens a data set.

    Args:
      source: "digits", "synthetic:<number of examples>", "tfds:<name>" for a prepared TFDS data set,
        "folder:<path>" for image files at <path>/<split>/<class>/, "vtab:<task>" for a task of `vtab.TASKS`, or
        "package.module:name" of a function or class that is called with split= and data_dir= and returns a `Source`.
      split: name of the split; for TFDS also a slice of it, such as "train[:99%]"; for VTAB one of `vtab.SPLITS`.
      data_dir: where TFDS data sets lie; None for TFDS's own default.
      num_classes: number of classes of synthetic images; all others have their own.
      image_size: height and width of synthetic images, in pixels.
      class_order: in which order the classes of a folder are numbered, as in `class_names.ordered`; the others have an
        order of their own.

    Raises:
      UnpreparedError: a TFDS data set is not prepared, or not in ArrayRecord form.
      ConfigError: an unknown source or split, or one that cannot be read.
    """
    data_dir = path_or_url("config.data.data_dir", data_dir) if data_dir else None
    kind, _, name = source.partition(":")
    if kind == "folder" and name:
        path = str(local_path("config.data.source: folder", name))
        return Folder(path, split=split, class_order=class_order)
    if class_order != class_names.BY_NAME:
        raise ConfigError(
            f"config.data.class_order={cut(repr(class_order), 80)} is for folder:<path> alone; the classes of "
            f"config.data.source={source!r} have their numbers already, those of a prepared data set by "
            "`mixer_jax prepare --class_order`"
        )
    if kind == "digits" and not name:
        return Digits(split)
    if kind == "synthetic" and name.isdecimal() and len(name) < 10 and int(name):  # places in 32 bits
        return Synthetic(int(name), split=split, num_classes=num_classes, image_size=image_size)
    if kind == "tfds" and name:
        return Tfds(name, split=split, data_dir=data_dir)
    if kind == "vtab" and name:
        return vtab.open_task(name, split=split, data_dir=data_dir)
    if kind not in _PREFIXES and is_extension(source):
        return Own(source, resolve_function("config.data.source", source)(split=split, data_dir=data_dir))
    raise ConfigError(f"config.data.source={source!r} is unknown; known: {', '.join(_KINDS)}")


class Own:
    """A data set of the user's own: checked when it is opened, and its labels when they are read."""

    def __init__(self, source: str, opened: Source):
        key = f"config.data.source={source!r}"
        if lacking := [name for name in _OF_A_SOURCE if not hasattr(opened, name)]:
            raise ConfigError(f"{key} returned a {type(opened).__name__} without {', '.join(lacking)}")
        if len(opened) < 1:
            raise ConfigError(f"{key} holds no examples")
        if len(opened.class_names) != opened.num_classes:
            raise ConfigError(f"{key} has {opened.num_classes} classes, and {len(opened.class_names)} class_names")
        self._opened = opened
        self.num_classes, self.class_names = opened.num_classes, tuple(map(str, opened.class_names))

    def __len__(self) -> int:
        return len(self._opened)

    def __getitem__(self, index: int) -> dict:
        record = self._opened[index]
        label = record.get("label")
        if not isinstance(label, (int, np.integer)) or not 0 <= label < self.num_classes:
            raise RunError(f"{self.describe(index)} has label {label!r}; expected 0 to {self.num_classes - 1}")
        return record

    def describe(self, index: int) -> str:
        """Returns what the user's own data set calls an example."""
        return self._opened.describe(index)


class Digits:
    """The UCI hand-written digits that come with scikit-learn: 1,797 scans of 8x8 pixels in 10 classes.

    Every fifth scan of each class is in the split "test" (355 scans), the others are in "train" (1,442).
    """

    num_classes = 10
    class_names = tuple("0123456789")

    def __init__(self, split: str):
        from sklearn.datasets import load_digits  # a second of imports that no other source needs

        one_of(f"the split of digits in {SPLIT_KEYS}", split, ("train", "test"))
        scans = load_digits()
        place_in_class = np.zeros(len(scans.target), int)
        for label in range(self.num_classes):
            of_class = scans.target == label
            place_in_class[of_class] = np.arange(of_class.sum())
        chosen = (place_in_class % 5 == 4) == (split == "test")
        pixels = np.round(scans.images[chosen] * (255 / 16)).astype(np.uint8)  # the scans have values 0..16
        self._images = np.repeat(pixels[..., None], 3, axis=-1)  # (n, 8, 8) -> (n, 8, 8, 3)
        self._labels = scans.target[chosen].astype(np.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._images[index], "label": self._labels[index]}

    def describe(self, index: int) -> str:
        """Returns "scan <index> of the digits"."""
        return f"scan {index} of the digits"


class Synthetic:
    """Noise, labelled in turn: needs no files, and costs almost nothing to read."""

    _POOL = 16  # distinct images; more would only take memory

    def __init__(self, size: int, *, split: str, num_classes: int, image_size: int):
        for key, value in (("num_classes", num_classes), ("image_size", image_size)):
            if value < 1:
                raise ConfigError(f"config.data.{key}={value}; expected a positive number")
        self.num_classes = num_classes
        self.class_names = tuple(map(str, range(num_classes)))
        self._size = size
        noise = rng.generator(0, f"synthetic/{split}")
        self._images = noise.integers(0, 256, (self._POOL, image_size, image_size, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict:
        index = range(self._size)[index]  # an IndexError past the end, without which iteration would not end
        return {"image": self._images[index % self._POOL], "label": np.int32(index % self.num_classes)}

    def describe(self, index: int) -> str:
        """Returns "synthetic example <index>"."""
        return f"synthetic example {index}"
