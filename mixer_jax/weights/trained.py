"""Models that have been trained: weights with their head, and how to show them images. Nothing is new."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn

from mixer_jax.config import base
from mixer_jax.config.compare import complete
from mixer_jax.data import imagenet
from mixer_jax.errors import ConfigError
from mixer_jax.weights.load import read_weights
from mixer_jax.weights.weights import Weights
from mixer_jax.workdir import checkpoints as checkpoint
from mixer_jax.workdir.layout import CLASSES_FILE


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      source: what it was read from.
      weights: its weights, with its head if it has one.
      config: the config that it was trained with, complete, as nested dicts; None for a file or published weights.
      workdir: the work directory that it was read from, or None.
    """

    source: str
    weights: Weights
    config: dict | None
    workdir: Path | None

    def model(self) -> nn.Module:
        """Returns the model; it computes as in training, or in float32 where it is not known how that was."""
        return self.weights.create_model(dtype=self.config["model"]["dtype"] if self.config else "float32")

    @property
    def loss(self) -> str:
        """The loss that it was trained with; "softmax" where that is not known."""
        return self.config["loss"]["name"] if self.config else "softmax"

    def eval_transform(self) -> dict:
        """Returns the arguments of `data.transforms.make_eval_transform` with which it is shown images.

        Those of its training; otherwise those of the paper's Table 3, the shorter side to 8/7 of the size, 256 to 224.
        """
        size = self.weights.image_size()
        if not self.config:
            return {"size": size, "crop": "resmall", "resize": size * 8 // 7, "exif_orientation": False}
        data = self.config["data"]
        return {"size": size, **data["evaluate"], "exif_orientation": data["exif_orientation"]}

    def require_head(self) -> int:
        """Returns the number of its classes; raises a ConfigError if it has no head."""
        num_classes = self.weights.attributes()["num_classes"]
        if num_classes is None:
            raise ConfigError(f"{self.source} has no head; fine-tune it first, with config.init_from={self.source!r}")
        return num_classes

    def class_names(self) -> list[str] | None:
        """Returns the names of its classes: those of its run, or ImageNet's where it has 1,000; None if unknown."""
        num_classes = self.require_head()
        if self.workdir and (file := self.workdir / CLASSES_FILE).exists():
            return read_class_names(file, num_classes)
        if not self.config and num_classes == len(names := imagenet.class_names()):
            return names
        return None

    def pretraining(self) -> dict:
        """Returns {"source": ..., "epochs": ...} of the first of the trainings that led to it.

        "source" is config.data.source, or the name of published weights or of a file; "epochs" is None where it is not
        known.
        """
        return _pretraining(self.source, self.config)


def _pretraining(source: str, config: dict | None) -> dict:
    if config is None:
        return {"source": source, "epochs": None}
    if init_from := config["init_from"]:
        folder = Path(init_from).expanduser()
        return _pretraining(init_from, _read_config(folder) if folder.is_dir() else None)
    steps = config["steps"]  # takes precedence over the epochs
    return {"source": config["data"]["source"], "epochs": config["epochs"] if steps is None else None}


def read(source: str) -> Trained:
    """Reads a trained model.

    Args:
      source: as in `read_weights`.

    Raises:
      ConfigError: there is nothing of that name, or it cannot be read.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return Trained(source, read_weights(source), config=None, workdir=None)
    found = checkpoint.locate(folder)  # once: a run that is going on may save another in the meantime
    workdir = found.parents[1] if found.parent.name == "checkpoints" else found
    return Trained(str(found), read_weights(str(found)), config=_read_config(found), workdir=workdir)


def _read_config(folder: Path) -> dict:
    saved = checkpoint.read_run(folder)["config"]
    return complete(saved, json.loads(base.get_config().to_json_best_effort()))


def read_class_names(file: Path, num_classes: int) -> list[str]:
    """Returns the lines of a file as the names of so many classes; raises a ConfigError if there are more or fewer."""
    try:
        names = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if len(names) != num_classes:
        raise ConfigError(f"{file} has {len(names)} lines; the model has {num_classes} classes")
    return names
