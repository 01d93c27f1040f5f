"""The published results: Tables 2 and 3 of the paper, read from paper.csv."""

import csv
import dataclasses
import functools
import importlib.resources

SOURCE = "arXiv 2105.01601v4"
_RECIPE_ENDINGS = {"ImageNet": "i1k", "ImageNet-21k": "i21k", "JFT-300M": "jft"}


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

    @property
    def recipe(self) -> str | None:
        """The recipe in configs/ that pre-trains it, such as "mixer_b16_i1k"; None where the model is no Mixer."""
        family, _, variant = self.model.partition("-")
        if family != "Mixer":
            return None
        return f"mixer_{variant.replace('/', '').lower()}_{_RECIPE_ENDINGS[self.pretraining]}"


_TYPES = {"table": int, "image_size": int, "epochs": int, "img_sec_core": int, "core_days": int}
_TYPES |= dict.fromkeys(("imagenet", "real", "avg5", "vtab"), float)


@functools.cache
def rows() -> tuple[Row, ...]:
    """Returns the rows of both tables, in the paper's order."""
    text = importlib.resources.files("mixer_jax").joinpath("paper.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(_row(cells) for cells in csv.DictReader(lines))


def _row(cells: dict[str, str]) -> Row:
    values = {name: _TYPES.get(name, str)(cell) if cell else None for name, cell in cells.items()}
    return Row(**values | {"extrapolated": cells["extrapolated"] == "yes"})
