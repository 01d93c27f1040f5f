"""Classes of image files, by name."""

import csv
import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mixer_jax.config import base
from mixer_jax.config.paths import local_path
from mixer_jax.data import folders, transforms
from mixer_jax.data.decode import EXTENSIONS, ImageError
from mixer_jax.errors import ConfigError, printable, readable
from mixer_jax.evaluators import predictions
from mixer_jax.evaluators.examples import UndecodableError
from mixer_jax.runtime import mesh, numerics
from mixer_jax.steps.infer_steps import make_predict_step
from mixer_jax.training.input import eval_batches
from mixer_jax.weights import trained
from mixer_jax.weights.trained import Trained
from mixer_jax.workdir.layout import whole_file, write_json

logger = logging.getLogger("mixer_jax")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model takes an image for.

    Attributes:
      file: the image.
      classes: class numbers, most probable first; empty if the file cannot be read.
      names: what these are called.
      probabilities: of each of them.
      error: why the file cannot be read, or None.
    """

    file: str
    classes: list[int]
    names: list[str]
    probabilities: list[float]
    error: str | None = None


def find_images(paths: list[str]) -> list[Path]:
    """Returns the images that are named, and of folders all below them, in the order of their names.

    Raises:
      ConfigError: no path is given, there is no file at one, or a folder has no images.
    """
    if not paths:
        raise ConfigError("no images: name files or folders, python -m mixer_jax predict --checkpoint=... image.jpg")
    files = []
    for path in (local_path("image", path) for path in paths):
        if os.path.isdir(path):
            found = folders.find(path)
            left_out = folders.in_a_line(found.passed_over) if found.passed_over else ""
            if not found.files:
                expected = f"expected files ending in {', '.join(EXTENSIONS)}"
                raise ConfigError(f"{readable(path)} has no images; {expected}" + (left_out and f"; {left_out}"))
            if left_out:
                logger.warning("%s: %s", readable(path), left_out)
            files += [path / name for name in found.files]
        elif os.path.isfile(path):
            files.append(path)
        else:
            what = "is no file that can be read" if os.path.exists(path) else "there is no such file or folder"
            raise ConfigError(f"{readable(path)}: {what}")
    return files


def names_of(model: Trained, file: Path | None) -> list[str]:
    """Returns the names of a model's classes: those of a file, or its own; where these are not known, their numbers."""
    if file:
        return trained.read_class_names(file, model.require_head())
    names = model.class_names()
    if names is None:
        logger.warning("the names of the classes of %s are not known: --class_names=<file> gives them", model.source)
        names = [f"class {number}" for number in range(model.require_head())]
    return names


@numerics.pinned()
def predict(
    model: Trained, files: list[Path], names: list[str], *, top: int = 5, batch_size: int | None = None
) -> list[Prediction]:
    """Predicts the classes of images, in batches; a progress bar shows on a terminal.

    Args:
      model: a model with a head.
      files: the images.
      names: of the model's classes.
      top: how many classes of each.
      batch_size: images of a batch over all devices; None: 32 for each.

    Returns:
      A prediction for each file, in order.

    Raises:
      ConfigError: the model has no head, or the batch does not divide over the devices.
    """
    device_mesh = mesh.create_mesh()
    everywhere = mesh.replicated(device_mesh)
    step = make_predict_step(model.model(), loss=model.loss, top=top)
    batch_size = 32 * device_mesh.size if batch_size is None else batch_size
    config = ConfigDict(
        {"data": base.get_config().data, "eval": {"batch_size": batch_size, "undecodable": "skip"}},
    )
    transform = transforms.make_eval_transform(**model.eval_transform())
    batches = eval_batches(config, _Files(files), transform, device_mesh)
    parts = predictions.over(
        jax.jit(predictions.labelled(step), out_shardings=everywhere),
        jax.device_put(model.weights.params, everywhere),
        batches,
        title="predict",
    )
    try:
        rows = [row for part in parts for row in zip(part["classes"], part["probabilities"], strict=True)]
    except UndecodableError:  # not one can be
        rows = []
    found = []
    seen = iter(rows)
    for index, file in enumerate(files):
        if index in batches.undecodable:
            found.append(Prediction(str(file), [], [], [], batches.undecodable[index]))
            continue
        classes, probabilities = (row.tolist() for row in next(seen))
        found.append(Prediction(str(file), classes, [names[number] for number in classes], probabilities))
    return found


class _Files:
    """Image files, one after the other."""

    def __init__(self, files: list[Path]):
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        try:
            return {"image": self._files[index].read_bytes(), "label": -1}
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error

    def describe(self, index: int) -> str:
        """Returns the path of the file."""
        return str(self._files[index])


def print_table(found: list[Prediction]) -> None:
    """Prints a line for each image that could be read, and below it its classes with their probabilities."""
    for prediction in found:
        if prediction.error is None:
            print(printable(prediction.file))
        for name, probability in zip(prediction.names, prediction.probabilities, strict=True):
            print(f"  {probability:7.2%}  {printable(name)}")


def writer(path: Path) -> Callable[[list[Prediction]], None]:
    """Returns what writes predictions to a file; raises a ConfigError if it is neither .csv nor .json, or no place."""
    writers = {".csv": _write_csv, ".json": _write_json}
    if path.suffix not in writers:
        raise ConfigError(f"--output={readable(path)}; expected a file ending in .csv or .json")
    try:
        if path.exists() and not path.is_file():  # or opening a pipe would wait for ever
            raise ConfigError(f"--output={readable(path)} is no file; expected one that can be written")
        path.open("a").close()  # before the work, not after it
    except OSError as error:
        raise ConfigError(f"--output={readable(path)} cannot be written: {error.strerror}") from error
    return functools.partial(writers[path.suffix], path)


def _write_csv(path: Path, found: list[Prediction]) -> None:
    with whole_file(path) as file:
        rows = csv.writer(file)
        rows.writerow(["file", "rank", "class", "name", "probability", "error"])
        for prediction in found:
            if prediction.error:
                rows.writerow([prediction.file, "", "", "", "", prediction.error])
            ranked = zip(prediction.classes, prediction.names, prediction.probabilities, strict=True)
            for rank, (number, name, probability) in enumerate(ranked, start=1):
                rows.writerow([prediction.file, rank, number, name, f"{probability:.6g}", ""])


def _write_json(path: Path, found: list[Prediction]) -> None:
    write_json(path, [dataclasses.asdict(prediction) for prediction in found])
