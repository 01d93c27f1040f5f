"""What came of a suite, and the file that keeps it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mixer_jax.data.sources import Source
from mixer_jax.data.tfds import UnpreparedError
from mixer_jax.errors import RunError
from mixer_jax.weights.trained import Trained
from mixer_jax.workdir.layout import write_json


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a suite.

    Attributes:
      metrics: by name, such as "imagenet/top1"; accuracies are shares in [0, 1].
      missing: data set that was left out, because it is not prepared -> the command that would prepare it.
      crop: how the images were shown: config.data.evaluate.crop.
      image_size: height and width of the images, in pixels; None for those that the model was trained on.
      signal: the signal that interrupted the suite, or None.
    """

    metrics: dict[str, float]
    missing: dict[str, str]
    crop: str
    image_size: int | None = None
    signal: int | None = None

    def table(self) -> str:
        """Returns the metrics, and below what is missing, as Markdown."""
        lines = ["| metric | value |", "|---|---|"] if self.metrics else ["no data set of this suite is prepared"]
        for name, value in self.metrics.items():
            lines.append(f"| {name} | {value:.4f} |" if isinstance(value, float) else f"| {name} | {value:,} |")
        if self.missing:
            lines += ["", "Left out, because they are not prepared on this machine:", ""]
            lines += [f"* {name}: `{command}`" for name, command in self.missing.items()]
        return "\n".join(lines)


def open_all(openers: dict[str, Callable[[], Source]]) -> tuple[dict[str, Source], dict[str, str]]:
    """Opens the data sets that are prepared.

    Args:
      openers: by name of the data set, what opens it.

    Returns:
      Those that are prepared, and of the others the commands that would prepare them.
    """
    opened, missing = {}, {}
    for name, opener in openers.items():
        try:
            opened[name] = opener()
        except UnpreparedError as error:
            missing[name] = error.command
    return opened, missing


def write(path: Path, suite: str, trained: Trained, outcome: Outcome, changes: dict) -> None:
    """Writes what came of a suite as JSON, for `mixer_jax.report`.

    Args:
      path: the file; its folder is created if need be.
      suite: name of the suite.
      trained: the model.
      outcome: what came of it.
      changes: what of the config was another choice than that of mixer_jax/suites/defaults.py, by key.

    Raises:
      RunError: it cannot be written.
    """
    described = {
        "suite": suite,
        "checkpoint": trained.source,
        "model": {key: value for key, value in trained.weights.model.items() if key != "num_classes"},
        "image_size": outcome.image_size or trained.weights.image_size,
        "crop": outcome.crop,
        "pretraining": trained.pretraining(),
        "changes": changes,
        "metrics": outcome.metrics,
        "missing": outcome.missing,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, described)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
