"""The files of a work directory: their names, and how each is written whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CONFIG, CLASSES, RESULT, METRICS, LOCK = "config.json", "classes.txt", "result.json", "metrics.jsonl", "lock"
CHECKPOINTS = "checkpoints"  # a folder for each step, by its number
EVALUATION = "evaluation"  # records of `evaluate`
PROFILE = "plugins"  # TensorBoard's profile plugin looks there
SWEEP, FINAL_RUN = "sweep.json", "final"  # of a sweep's folder


def checkpoints_folder(workdir: Path) -> Path:
    """Returns where the checkpoints of a run lie."""
    return workdir / CHECKPOINTS


def classes_file(workdir: Path) -> Path:
    """Returns the file of the names of a run's classes, one a line, in the order of their numbers."""
    return workdir / CLASSES


def workdir_of(checkpoint: Path) -> Path:
    """Returns the work directory that a checkpoint lies in; of one that was copied elsewhere, the checkpoint itself."""
    return checkpoint.parents[1] if checkpoint.parent.name == CHECKPOINTS else checkpoint


def trial_folder(workdir: Path, learning_rate: float) -> Path:
    """Returns where a sweep trains with a learning rate."""
    return workdir / f"learning_rate={learning_rate:g}"


@contextlib.contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO]:
    """Opens a file to write that is there when the context has ended well, and as it was before until then.

    Args:
      path: the file; an existing one is replaced. Its folder exists.
      mode: "w" for text in UTF-8, in which bytes of names that are none stay as they are, or "wb".

    Raises:
      OSError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    encoding, errors, newline = (None, None, None) if "b" in mode else ("utf-8", "surrogateescape", "")
    try:
        with unfinished.open(mode, encoding=encoding, errors=errors, newline=newline) as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file whole; raises an OSError if it cannot be written."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2) + "\n")
