"""Labels of images from a file: `--labels`, and the annotations of Tiny ImageNet."""

import csv
import io
import json
from pathlib import Path

from mixer_jax.data import folders
from mixer_jax.errors import ConfigError, cut, readable

_PATHS = ("path", "file", "filename", "file_name", "image", "imageid", "image_id", "id")
_LABELS = ("label", "class", "predictionstring")
_EXPECTED = "expected a CSV file of path,label, or a line of JSON for each image, such as {path: ..., label: ...}"
_MOST_BYTES = 2**32


def read(file: Path) -> dict[str, str]:
    """Reads a file of labels.

    Args:
      file: CSV, with or without a line of column names, or JSON lines. A path is relative to the source. Kaggle's
        LOC_val_solution.csv is read as it is: its column PredictionString begins with the class.

    Returns:
      Label by path. A path may lack the image's ending.

    Raises:
      ConfigError: it cannot be read, is of another form, or has two labels for one path.
    """
    key = f"--labels={readable(file)}"
    try:
        if not file.is_file():  # or opening a pipe would wait for ever
            raise ConfigError(f"{key}: there is no such file")
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{key} has {file.stat().st_size:,} bytes; {_EXPECTED}")
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}") from error
    try:
        rows = _of_json(text) if text.lstrip().startswith("{") else _of_csv(text)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, csv.Error) as error:
        raise ConfigError(f"{key} cannot be read ({type(error).__name__}: {error}); {_EXPECTED}") from error
    if not rows:
        raise ConfigError(f"{key} is empty; {_EXPECTED}")
    labels: dict[str, str] = {}
    for path, label in rows:
        if not label:
            raise ConfigError(f"{key}: {_shown(path)} has an empty label")
        if labels.setdefault(path, label) != label:
            raise ConfigError(f"{key}: {_shown(path)} has the labels {_shown(labels[path])} and {_shown(label)}")
    return labels


def annotations(folder: Path) -> dict[str, str] | None:
    """Returns class by file name of a split of Tiny ImageNet; None if the folder has no such annotations."""
    file = folder / folders.ANNOTATIONS
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    rows = [line.split("\t") for line in lines if line]
    if any(len(row) < 2 for row in rows):
        raise ConfigError(f"--source: {readable(file)} is damaged; expected lines of a file name, a tab and a class")
    return {row[0]: row[1] for row in rows}


def _of_json(text: str) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    return [(_normal(str(row["path"])), str(row["label"])) for row in rows]


def _of_csv(text: str) -> list[tuple[str, str]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    named = [name.strip().lower() for name in rows[0]] if rows else []
    path = next((named.index(name) for name in _PATHS if name in named), None)
    label = next((named.index(name) for name in _LABELS if name in named), None)
    if path is None or label is None:
        return [(_normal(row[0]), row[1]) for row in rows]
    several = named[label] == "predictionstring"  # a class and four numbers, for each object
    return [(_normal(row[path]), row[label].split(" ")[0] if several else row[label]) for row in rows[1:]]


def _normal(path: str) -> str:
    return path.removeprefix("./")


def _shown(text: str) -> str:
    return cut(repr(text), 80)
