"""ImageNet's other labels and its classes' names."""

from importlib import resources

import numpy as np

from mixer_jax.data.tfds import Labels, Tfds

_MOST_LABELS = 16  # of an image in ReaL; there it is 9


def class_names() -> list[str]:
    """Returns what the 1,000 classes of ILSVRC-2012 are called: all words of each one's synset in WordNet 3.0."""
    text = resources.files("mixer_jax.data").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def open_real(*, data_dir: str | None) -> Tfds:
    """Opens the validation images of ImageNet with their ReaL labels, the TFDS data set imagenet2012_real.

    The "label" of an example is int32 (16,), the classes that are seen in the image, filled up with -1; of 3,163 of
    the 50,000 images there are none.

    Args:
      data_dir: where TFDS data sets lie; None for TFDS's own default.

    Raises:
      ConfigError: the data set is not prepared.

    Source: "Are we done with ImageNet?" (arXiv 2006.07159).
    """
    labels = Labels(tuple(class_names()), ("real_label",), lambda record: _filled_up(record["real_label"]))
    return Tfds("imagenet2012_real", split="validation", data_dir=data_dir, labels=labels)


def _filled_up(labels) -> np.ndarray:
    filled = np.full(_MOST_LABELS, -1, np.int32)
    filled[: len(labels)] = labels
    return filled
