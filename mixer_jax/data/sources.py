"""Where examples come from: indexable sources, `source[i] -> {"image": ..., "label": ...}`.

An image is uint8 (height, width, 3) or the bytes of an encoded file; a label is a class number.
"""

import logging
import os
from typing import Protocol

import numpy as np

from mixer_jax import rng
from mixer_jax.config import ConfigError, one_of
from mixer_jax.data.decode import EXTENSIONS, ImageError

logger = logging.getLogger("mixer_jax")

_KINDS = ("digits", "synthetic:<number of examples>", "tfds:<name>", "folder:<path>")
_SPLIT_KEYS = "config.data.split or config.eval.splits"  # a source is not told which of them it is opened for


class Source(Protocol):
    """An indexable data set."""

    num_classes: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...

    def describe(self, index: int) -> str:
        """Returns what a message is to call an example."""
        ...


def create(source: str, *, split: str, data_dir: str | None, num_classes: int, image_size: int) -> Source:
    """Opens a data set.

    Args:
      source: "digits", "synthetic:<number of examples>", "tfds:<name>" for a prepared TFDS data set, or
        "folder:<path>" for image files at <path>/<split>/<class>/.
      split: name of the split; for TFDS also a slice of it, such as "train[:99%]".
      data_dir: where TFDS data sets lie; None for TFDS's own default.
      num_classes: number of classes that the model is made for.
      image_size: height and width of synthetic images, in pixels.

    Returns:
      The source, of `num_classes` classes.

    Raises:
      ConfigError: an unknown source or split, a data set that is not prepared, or another number of classes.
    """
    kind, _, name = source.partition(":")
    if kind == "digits" and not name:
        opened = Digits(split)
    elif kind == "synthetic" and name.isdecimal() and int(name):
        opened = Synthetic(int(name), split=split, num_classes=num_classes, image_size=image_size)
    elif kind == "tfds" and name:
        opened = Tfds(name, split=split, data_dir=data_dir)
    elif kind == "folder" and name:
        opened = Folder(name, split=split)
    else:
        raise ConfigError(f"config.data.source={source!r} is unknown; known: {', '.join(_KINDS)}")
    if opened.num_classes != num_classes:
        raise ConfigError(
            f"config.data.num_classes={num_classes}, but {source} has {opened.num_classes} classes: set it to that"
        )
    return opened


class Digits:
    """The UCI hand-written digits that come with scikit-learn: 1,797 scans of 8x8 pixels in 10 classes.

    Every fifth scan of each class is in the split "test" (355 scans), the others are in "train" (1,442).
    """

    num_classes = 10

    def __init__(self, split: str):
        from sklearn.datasets import load_digits  # a second of imports that no other source needs

        one_of(f"the split of digits in {_SPLIT_KEYS}", split, ("train", "test"))
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


class Folder:
    """Image files at <path>/<split>/<class>/, in the order of their names; they are read when they are asked for.

    The classes are numbered in the order of their names, over all splits: a split may lack some.
    """

    def __init__(self, path: str, *, split: str):
        key = f"config.data.source='folder:{path}'"
        if not os.path.isdir(path):
            raise ConfigError(f"{key}: there is no such folder; expected images at <path>/<split>/<class>/")
        splits = _folders(path)
        if not splits:
            raise ConfigError(f"{key} holds no folders; expected images at <path>/<split>/<class>/")
        one_of(f"the split of folder:{path} in {_SPLIT_KEYS}", split, splits)
        classes = sorted({name for known in splits for name in _folders(os.path.join(path, known))})
        self.num_classes = len(classes)
        self._root = os.path.join(path, split)
        self._files, self._labels, others = [], [], []
        for label, name in enumerate(classes):
            folder = os.path.join(self._root, name)
            entries = os.scandir(folder) if os.path.isdir(folder) else ()
            for entry in sorted(entries, key=lambda entry: entry.name):
                file = entry.name
                if file.startswith(".") or not file.lower().endswith(EXTENSIONS) or not entry.is_file():
                    others.append(os.path.join(name, file))
                else:
                    self._files.append(os.path.join(name, file))
                    self._labels.append(label)
        if not self._files:
            raise ConfigError(
                f"{key}: no image in {self._root}; expected <class>/<name> ending in {', '.join(EXTENSIONS)}"
            )
        if others:
            logger.warning("%s: %d entries are no image files, such as %s", self._root, len(others), others[0])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        try:
            with open(self.describe(index), "rb") as file:
                return {"image": file.read(), "label": np.int32(self._labels[index])}
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error

    def describe(self, index: int) -> str:
        """Returns the path of the file."""
        return os.path.join(self._root, self._files[index])


def _folders(path: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


class Tfds:
    """A prepared TFDS data set in ArrayRecord form; images stay encoded, and TensorFlow is not needed."""

    def __init__(self, name: str, *, split: str, data_dir: str | None):
        import tensorflow_datasets as tfds  # seconds of imports that no other source needs

        builder = _prepared_builder(name, data_dir)
        splits = builder.info.splits
        self._title = f"split {split!r} of tfds:{name}"
        self.num_classes = builder.info.features["label"].num_classes
        try:
            if splits[split].num_examples < 1:  # such as a slice [5:3]
                raise ValueError("it holds no examples")
            self._records = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}, file_format="array_record"
            )
        except ValueError as error:
            known = ", ".join(f"{known} ({splits[known].num_examples} examples)" for known in splits)
            raise ConfigError(f"{_SPLIT_KEYS}: {self._title} cannot be read: {error}; its splits: {known}") from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        record = self._records[index]
        label = np.int32(record["label"])
        if not 0 <= label < self.num_classes:  # -1 is how TFDS marks an example without a label
            raise ConfigError(f"{self.describe(index)} has label {label}; expected 0 to {self.num_classes - 1}")
        return {"image": record["image"], "label": label}

    def describe(self, index: int) -> str:
        """Returns "example <index> of split <split> of tfds:<name>"."""
        return f"example {index} of {self._title}"


def _prepared_builder(name: str, data_dir: str | None):
    """Returns the TFDS builder of a data set, after checking that its files are there and can be read."""
    import tensorflow_datasets as tfds

    key = f"config.data.source='tfds:{name}'"
    try:
        # The format is not asked for here: where another one lies on disk, TFDS's errors do not say what to do.
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError) as error:  # of the name or config, and of the version
        reason = str(error).strip().splitlines()[0].rstrip(" .:")
        raise ConfigError(
            f"{key} cannot be opened: {reason}; expected <name>[/<config>][:<version>] of a data set that TFDS knows "
            f"or that is prepared in config.data.data_dir={data_dir!r}"
        ) from error
    prepare = f"`tfds build {name} --file_format=array_record"
    if not builder.data_path.exists():
        raise ConfigError(
            f"{key} is not prepared: nothing at {builder.data_path}. Prepare it with {prepare}`, or set "
            f"config.data.data_dir={data_dir!r} to where it lies"
        )
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ConfigError(
            f"{key} is prepared as {', '.join(formats)} at {builder.data_path}, but ArrayRecord is needed. Prepare it "
            f"with {prepare} --data_dir=<another folder>`, and set config.data.data_dir={data_dir!r} to that folder"
        )
    features = dict(builder.info.features.items())
    if "image" not in features or not isinstance(features.get("label"), tfds.features.ClassLabel):
        received = ", ".join(f"{feature} ({type(features[feature]).__name__})" for feature in sorted(features))
        raise ConfigError(f"{key} has the features {received}; expected an image, and a label that is a ClassLabel")
    return builder
