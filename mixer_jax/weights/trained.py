"""Models that have been trained: weights with their head, and how to show them images. Nothing is new."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from mixer_jax.config.paths import local_path
from mixer_jax.data import class_names, imagenet, transforms
from mixer_jax.data.decode import Decoding
from mixer_jax.errors import ConfigError, readable
from mixer_jax.steps.infer_steps import scale_pixels
from mixer_jax.weights.load import from_config, load_weights
from mixer_jax.weights.weights import Weights
from mixer_jax.workdir import layout, saved


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
      source: what it was read from.
      weights: its weights, with its head if it has one.
      config: the config that it was trained with, complete, as nested dicts; None for a file or published weights.
      workdir: the work directory that it was read from, or None.
      names: what its classes are called, in the order of their numbers; None where nothing says so.
    """

    source: str
    weights: Weights = dataclasses.field(repr=False)
    config: dict | None = dataclasses.field(default=None, repr=False)
    workdir: Path | None = None
    names: tuple[str, ...] | None = dataclasses.field(default=None, repr=False)

    def model(self) -> nn.Module:
        """Returns the model; it computes as in training, or in float32 where it is not known how that was."""
        if self.config is None or "dtype" not in self.weights.family.defaults():
            return self.weights.create_model()
        return self.weights.create_model(dtype=self.config["model"]["dtype"])

    def logits(self, images: Sequence[bytes | np.ndarray] | np.ndarray | bytes) -> np.ndarray:
        """Applies the model to images, which are shown as in the evaluation of its training.

        Args:
          images: encoded files, or uint8 (height, width, 3) of any sizes; or one array of several.

        Returns:
          float32 (n, classes).

        Raises:
          ConfigError: the model has no head.
          ImageError: an image is neither of the two.
        """
        num_classes = self.require_head()
        if isinstance(images, bytes) or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ConfigError("logits expects a list of images; of one image, [image]")
        if len(images) == 0:
            return np.zeros((0, num_classes), np.float32)
        shown = [self._transform({"image": image, "label": -1})["image"] for image in images]
        return np.asarray(self._apply(self.weights.params, np.stack(shown)))

    @functools.cached_property
    def _transform(self) -> Callable[[dict], dict]:
        return transforms.make_eval_transform(**self.eval_transform())

    @functools.cached_property
    def _apply(self) -> Callable[[dict, np.ndarray], jax.Array]:
        model = self.model()
        return jax.jit(lambda params, images: model.apply({"params": params}, scale_pixels(images)))

    @property
    def loss(self) -> str:
        """The loss that it was trained with; "softmax" where that is not known."""
        return self.config["loss"]["name"] if self.config else "softmax"

    def eval_transform(self) -> dict:
        """Returns the arguments of `data.transforms.make_eval_transform` with which it is shown images.

        Those of its training; otherwise those of the paper's Table 3, the shorter side to 8/7 of the size, 256 to 224.
        """
        size = self.weights.image_size
        if not self.config:
            return {"size": size, "crop": "resmall", "resize": size * 8 // 7, "decoding": Decoding()}
        data = self.config["data"]
        return {"size": size, **data["evaluate"], "decoding": transforms.decoding_of(data)}

    def require_head(self) -> int:
        """Returns the number of its classes; raises a ConfigError if it has no head."""
        num_classes = self.weights.model["num_classes"]
        if num_classes is None:
            raise ConfigError(f"{self.source} has no head; fine-tune it first, with config.init_from={self.source!r}")
        return num_classes

    def class_names(self) -> list[str] | None:
        """Returns the names of its classes: those of its run, or ImageNet's where it has 1,000; None if unknown."""
        num_classes = self.require_head()
        if self.names is not None:
            return list(self.names)
        if (
            self.workdir and (file := layout.classes_file(self.workdir)).exists()
        ):  # of a run before checkpoints had them
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
        folder = os.path.expanduser(init_from)
        return _pretraining(init_from, saved.read_config(Path(folder)) if os.path.isdir(folder) else None)
    steps = config["steps"]  # takes precedence over the epochs
    return {"source": config["data"]["source"], "epochs": config["epochs"] if steps is None else None}


def load_trained(source: str | Path) -> Trained:
    """Reads a trained model.

    Args:
      source: as in `load_weights`.

    Raises:
      ConfigError: there is nothing of that name, or it cannot be read.
    """
    folder = Path(source) if "://" in str(source) else local_path("checkpoint", source)
    if not os.path.isdir(folder):  # pathlib's own raises of a name that is too long
        return Trained(str(source), load_weights(source))
    found = saved.locate(folder)  # once: a run that is going on may save another in the meantime
    run = saved.read_run(found)
    config = saved.config_of(run, found)
    return Trained(
        source=str(found),
        weights=from_config(saved.read_params(found), config, source=str(found)),
        config=config,
        workdir=layout.workdir_of(found),
        names=tuple(run["class_names"]) if "class_names" in run else None,
    )


def read_class_names(file: Path, num_classes: int) -> list[str]:
    """Returns the lines of a file as the names of so many classes; raises a ConfigError if there are more or fewer."""
    names = class_names.read(file)
    if len(names) != num_classes:
        raise ConfigError(f"{readable(file)} has {len(names)} lines; the model has {num_classes} classes")
    return names
