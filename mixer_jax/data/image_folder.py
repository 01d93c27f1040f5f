"""A data set of image files in folders of classes."""

import logging
import os

import numpy as np

from mixer_jax.config.checks import one_of
from mixer_jax.data import class_names, folders
from mixer_jax.data.decode import EXTENSIONS, ImageError
from mixer_jax.data.tfds import SPLIT_KEYS
from mixer_jax.errors import ConfigError, readable

logger = logging.getLogger("mixer_jax")


class Folder:
    """Image files at <path>/<split>/<class>/, in the order of their names; they are read when they are asked for.

    A class is a folder that holds an image in one split at least; a split may lack some. They are numbered over all
    splits, in the order of their names unless `class_order` says otherwise.
    """

    def __init__(self, path: str, *, split: str, class_order: str = class_names.BY_NAME):
        self._root = os.path.join(path, split)
        key = f"config.data.source='folder:{readable(path)}'"
        others = [os.path.join(path, other) for other in _splits(path, key, split) if other != split]
        found = folders.find(self._root)
        files = [name for name in found.files if name.count("/") == 1]
        elsewhere = [name for name in found.files if name.count("/") != 1]
        _check_layout(key, path, split, files, elsewhere)
        classes = {_class_of(file) for file in files}.union(*map(_classes, others))
        self.class_names = class_names.ordered(classes, class_order, key="config.data.class_order")
        self.num_classes = len(self.class_names)
        numbers = {name: number for number, name in enumerate(self.class_names)}
        files.sort(key=lambda file: numbers[_class_of(file)])  # stable: inside of a class by name
        self._files, self._labels = files, [numbers[_class_of(file)] for file in files]
        if left_out := found.passed_over | dict.fromkeys(elsewhere, "it does not lie at <class>/<image>"):
            logger.warning("%s: %s", readable(self._root), folders.in_a_line(left_out))

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


def _splits(path: str, key: str, split: str) -> list[str]:
    """Returns the folders of splits in a folder; raises a ConfigError unless `split` is one of them."""
    if not os.path.isdir(path):
        what = "is no folder" if os.path.lexists(path) else "there is no such folder"
        raise ConfigError(f"{key}: {what}; expected images at <path>/<split>/<class>/")
    try:
        splits = folders.subfolders(path)
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}") from error
    if not splits:
        raise ConfigError(f"{key} holds no folders; expected images at <path>/<split>/<class>/")
    if split not in splits and not any(_classes(os.path.join(path, name)) for name in splits):
        for name in splits:
            if folders.holds_image(os.path.join(path, name)):
                raise ConfigError(
                    f"{key} holds images at <class>/<image>, such as those in {readable(name)}; expected "
                    "<path>/<split>/<class>/: put a folder around them, train, and name the folder that it lies in"
                )
    return [*splits, one_of(f"the split of folder:{readable(path)} in {SPLIT_KEYS}", split, splits)]


def _classes(split: str) -> list[str]:
    try:
        return [name for name in folders.subfolders(split) if folders.holds_image(os.path.join(split, name))]
    except OSError:  # a split that may not be read, and is not
        return []


def _check_layout(key: str, path: str, split: str, files: list[str], elsewhere: list[str]) -> None:
    """Raises a ConfigError if a split holds no image, or more of them elsewhere than in folders of classes."""
    root = os.path.join(path, split)
    one_class = {_class_of(file) for file in files} == {"images"}
    if one_class and os.path.isfile(os.path.join(root, folders.ANNOTATIONS)):
        elsewhere, files = files, []
    if not files and not elsewhere:
        raise ConfigError(
            f"{key}: no image in {readable(root)}; expected <class>/<name> ending in {', '.join(EXTENSIONS)}"
        )
    if len(elsewhere) >= len(files):
        raise ConfigError(
            f"{key}: {len(elsewhere):,} of {len(elsewhere) + len(files):,} images of split {split}, such as "
            f"{readable(elsewhere[0])}, do not lie at <class>/<image>; `mixer_jax prepare --source={readable(path)}` "
            "reads Tiny ImageNet as it is, and any folder with --labels=<file of path,label>"
        )


def _class_of(file: str) -> str:
    return file.partition("/")[0]
