"""What the paper and its sources state: Tables 2 and 3, read from paper.csv, and the data sets of the pre-trainings."""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

SOURCE = "arXiv 2105.01601v4"
PRETRAINING_SIZE = 224  # pixels

# config.data.source of the recipes -> the paper's data set. The recipes call a large data set of one's own by the last.
DATA_SETS = {"tfds:imagenet2012": "ImageNet", "tfds:imagenet21k": "ImageNet-21k", "tfds:large": "JFT-300M"}
# Splits that count as all of a data set's training images.
WHOLE_SPLITS = {"tfds:imagenet2012": ("train[:99%]", "train"), "tfds:imagenet21k": ("full[51200:]", "full")}
# Names of published weights begin with these; all were trained for 300 epochs.
PUBLISHED_WEIGHTS = {"imagenet1k": "ImageNet", "imagenet21k": "ImageNet-21k"}
PUBLISHED_EPOCHS = 300
# Examples by (config.data.source, config.data.split), where the data set is not at hand: ILSVRC-2012, ImageNet-21k
# (fall 2011) as image-net.org counts them, and JFT-300M as the ViT paper does (arXiv 2010.11929, section 4.1).
EXAMPLES = {
    ("tfds:imagenet2012", "train[:99%]"): 1_268_355,
    ("tfds:imagenet21k", "full[51200:]"): 14_145_922,
    ("tfds:large", "train"): 303_000_000,
}
# What Table 2 does not print, (pixels, epochs) of its Mixers; the epochs are those of the same core-days in Table 3.
_OF_TABLE_2 = {"Mixer-L/16": (448, 300), "Mixer-H/14": (448, 14)}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table 2 or 3; None where the paper prints nothing.

    Attributes:
      table: 2 or 3.
      pretraining: the data set of the pre-training, such as "ImageNet-21k".
      model: as printed, such as "Mixer-B/16".
      image_size: pixels of the fine-tuning.
      epochs: of the pre-training.
      imagenet: top-1 on ImageNet, in percent, as the next three.
      real: on ImageNet with ReaL labels.
      avg5: mean over ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers.
      vtab: mean over the 19 tasks of VTAB-1k.
      img_sec_core: images a second and TPU v3 core in inference, the best over batch sizes.
      core_days: TPU v3 core-days of the pre-training, two cores a chip; printed in thousands, rounded to tens.
      extrapolated: whether the core-days are extrapolated from a run without extra regularization.
      note: where the row is from, or which network it is.
    """

    table: int
    pretraining: str
    model: str
    image_size: int | None
    epochs: int | None
    imagenet: float | None
    real: float | None
    avg5: float | None
    vtab: float | None
    img_sec_core: int | None
    core_days: int | None
    extrapolated: bool
    note: str | None


_TYPES: dict[str, Callable[[str], float]] = {
    "table": int,
    "image_size": int,
    "epochs": int,
    "img_sec_core": int,
    "core_days": int,
}
_TYPES |= dict.fromkeys(("imagenet", "real", "avg5", "vtab"), float)


@functools.cache
def rows() -> tuple[Row, ...]:
    """Returns the rows of both tables, in the paper's order."""
    text = importlib.resources.files("mixer_jax").joinpath("paper.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(_row(cells) for cells in csv.DictReader(lines))


def _row(cells: dict[str, str]) -> Row:
    values: dict[str, Any] = {name: _TYPES.get(name, str)(cell) if cell else None for name, cell in cells.items()}
    return Row(**values | {"extrapolated": cells["extrapolated"] == "yes"})


def setup_of(row: Row) -> tuple[int | None, float | None] | None:
    """Returns pixels and epochs of a row, also where Table 2 does not print them; None where they are unknown."""
    if row.table == 2:
        return _OF_TABLE_2.get(row.model)
    return row.image_size, row.epochs


def pretraining(model: str | None, source: str, epochs: float | None) -> Row | None:
    """Returns the row of Table 3 of a pre-training at 224 pixels, or None if the paper has none.

    Args:
      model: as printed, such as "Mixer-B/16".
      source: config.data.source.
      epochs: config.epochs.
    """
    for row in rows():
        setup = (row.table, row.image_size, row.model, row.pretraining, row.epochs)
        if setup == (3, PRETRAINING_SIZE, model, DATA_SETS.get(source), epochs):
            return row
    return None
