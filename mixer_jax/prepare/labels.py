"""Files that say of which class each image is, where the folders do not."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mixer_jax.errors import ConfigError, in_short, readable, shown
from mixer_jax.workdir import reading

_EXPECTED = "expected lines path,label, or JSON lines with these two keys"
_HEADER, _KAGGLE = ("path", "label"), ("imageid", "predictionstring")


def read(path: Path) -> dict[str, str]:
    """Reads a file of labels.

    Args:
      path: a CSV file with the columns path and label, or of two columns without a header; that of Kaggle's ILSVRC,
        ImageId,PredictionString, of which the class is the first word; or JSON lines with the keys path and label.

    Returns:
      The class of each path, which is relative to the source and may lack its ending.

    Raises:
      ConfigError: the file cannot be read or is no such file, or names a path twice.
    """
    title = f"--labels={readable(path)}"
    try:
        content = reading.read_bytes(path)
    except OSError as error:
        raise ConfigError(f"{title} cannot be read: {error.strerror}") from error
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")  # bytes of a name stay as they are
    if "\0" in text:
        raise ConfigError(f"{title} is no text in UTF-8; {_EXPECTED}")
    rows = _json_rows(text, title) if text.lstrip().startswith("{") else _csv_rows(text, title)
    labels: dict[str, str] = {}
    for line, name, label in rows:
        if not label or not _is_a_name(label):
            raise ConfigError(f"{title}: line {line} has the label {shown(label)}; {_EXPECTED}")
        name = os.path.normpath(name)
        if name in labels:
            raise ConfigError(f"{title}: line {line} names {readable(name)} again; expected each image once")
        labels[name] = label
    if not labels:
        raise ConfigError(f"{title} names no images; {_EXPECTED}")
    return labels


def read_annotations(content: bytes, title: str) -> dict[str, str]:
    """Reads what Tiny ImageNet says of its validation images: a line <file> <class> <box> for each."""
    lines = content.decode("utf-8", "surrogateescape").splitlines()
    words = [line.split() for line in lines if line.strip()]
    if short := next((line for line in words if len(line) < 2), None):
        raise ConfigError(f"{title} has the line {shown(' '.join(short))}; expected <file> <class>")
    return {line[0]: line[1] for line in words}


def assign(names: Iterable[str], labels: dict[str, str], title: str) -> dict[str, str]:
    """Returns the classes of those images that a file of labels names.

    Args:
      names: of all images there are.
      labels: the class of each image named in the file, which may lack its ending.
      title: what messages call the file.

    Raises:
      ConfigError: a named image is not there, or more than one could be meant.
    """
    there = set(names)
    without_ending = defaultdict(list)
    if not labels.keys() <= there:
        for name in there:
            without_ending[os.path.splitext(name)[0]].append(name)
    assigned: dict[str, str] = {}
    missing = []
    for listed, label in labels.items():
        meant = [listed] if listed in there else without_ending.get(listed, [])
        if len(meant) > 1 or (meant and meant[0] in assigned):
            raise ConfigError(f"{title}: {readable(listed)} stands for an image that is named twice, or for two images")
        if meant:
            assigned[meant[0]] = label
        else:
            missing.append(listed)
    if missing:
        example = f", which has images such as {readable(min(there))}" if there else ""
        raise ConfigError(
            f"{title}: {len(missing):,} of {len(labels):,} paths, such as {readable(missing[0])}, are of no image in "
            f"the source{example}; expected paths relative to it"
        )
    return assigned


def _is_a_name(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False
    return True


def _json_rows(text, title):
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = reading.parse_object(line)
        except ValueError as error:
            raise ConfigError(f"{title}: line {number} {error}; {_EXPECTED}") from error
        name, label = row.get("path"), row.get("label")
        if not isinstance(name, str) or isinstance(label, bool) or not isinstance(label, (str, int)):
            raise ConfigError(f"{title}: line {number} is {shown(row)}; {_EXPECTED}")
        yield number, name, str(label)


def _csv_rows(text, title):
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns, kaggle, width = [0, 1], False, 2
    try:
        for index, row in enumerate(row for row in rows if row):
            heads = [name.strip().lower() for name in row] if index == 0 else []
            known = next((header for header in (_HEADER, _KAGGLE) if set(header) <= set(heads)), None)
            if known:
                columns, kaggle, width = [heads.index(name) for name in known], known == _KAGGLE, len(heads)
                continue
            if len(row) != width:
                raise ConfigError(f"{title}: line {rows.line_num} has {len(row)} columns of {width}; {_EXPECTED}")
            name, label = (row[column] for column in columns)
            yield rows.line_num, name, (label.split() or [""])[0] if kaggle else label
    except csv.Error as error:
        raise ConfigError(f"{title}: line {rows.line_num} is no CSV ({in_short(error)}); {_EXPECTED}") from error
