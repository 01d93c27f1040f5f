"""What work directories hold of results: records of `evaluate`, and training runs."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from mixer_jax.config.checks import one_of
from mixer_jax.errors import ConfigError, shown
from mixer_jax.workdir import layout, reading

_SUITES = ("imagenet", "avg5", "vtab", "fewshot")
_SKIPPED = {layout.CHECKPOINTS, layout.PROFILE}  # many files, and none of what is looked for


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A record of `python -m mixer_jax evaluate`.

    Attributes:
      path: the file.
      model: name and attributes of the model, as in config.model.
      image_size: pixels of the images that it was evaluated on.
      source: the data set of the pre-training, as config.data.source, or the name of published weights.
      epochs: of the pre-training, or None if unknown.
      changes: keys of mixer_jax/suites/defaults.py that had another value than there.
      metrics: values by name; accuracies, whose names end in "top1" or "top5", are shares.
      missing: what could not be evaluated, and why.
      modified: when the file was written, in seconds.
    """

    path: Path
    model: Mapping
    image_size: int
    source: str
    epochs: float | None
    changes: Mapping[str, object]
    metrics: Mapping[str, float]
    missing: Mapping[str, str]
    modified: float


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A work directory.

    Attributes:
      path: the work directory.
      config: its config.json.
      finished: whether it has come to its end, as its result.json says; otherwise the rest is from metrics.jsonl.
      step: the last step; 0 if nothing tells of one.
      metrics: evaluation metrics of that step; a value that is not finite is None.
      core_days: core-days of its training steps up to there, or None if unknown.
      modified: when that file was written, in seconds.
    """

    path: Path
    config: Mapping
    finished: bool
    step: int
    metrics: Mapping[str, float | None]
    core_days: float | None
    modified: float


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that was read.

    Attributes:
      evaluations: records of evaluations, by path.
      runs: training runs, by path.
      problems: a line for every file that cannot be read.
    """

    evaluations: tuple[Evaluation, ...]
    runs: tuple[TrainingRun, ...]
    problems: tuple[str, ...]


def read(folder: Path) -> Findings:
    """Reads all evaluations and runs in a folder, at any depth.

    Args:
      folder: where the work directories are; may be one itself.

    Returns:
      What was found; a file that cannot be read is a line of `problems`.

    Raises:
      ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--runs={folder} is no folder; expected the one that holds the work directories")
    problems: list[str] = []
    evaluations, runs = [], []
    for directory, files in _walk(folder, problems):
        if directory.name == layout.EVALUATION and layout.CONFIG not in files:
            paths = [directory / name for name in files if name.endswith(".json")]
            evaluations += [record for path in paths if (record := _attempt(_evaluation, path, problems))]
        elif layout.CONFIG in files:
            run = _attempt(lambda path: _run(path, problems), directory, problems)
            runs += [run] if run else []
        elif layout.METRICS in files:
            problems.append(f"{directory / layout.METRICS}: left out, because there is no config.json beside it")
    return Findings(tuple(evaluations), tuple(runs), tuple(problems))


def _walk(folder: Path, problems: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yields every folder with the names of its files, in order; links are followed, each folder once."""

    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True, onerror=note):
        directory = Path(name)
        if directory.resolve() in seen:  # by a link, which may point to a folder above
            folders.clear()
            continue
        seen.add(directory.resolve())
        folders[:] = sorted(set(folders) - _SKIPPED)
        yield directory, sorted(files)


def _attempt(reader: Callable[[Path], object], path: Path, problems: list[str]):
    """Returns what a reader makes of a path, or None if it cannot be read, which is noted."""
    try:
        return reader(path)
    except OSError as error:
        problems.append(f"{error.filename or path}: cannot be read ({error.strerror})")
    except ValueError as error:
        problems.append(f"{path}: {error}")
    return None


def _evaluation(path: Path) -> Evaluation:
    record = reading.read_object(path)
    one_of("suite", _get(record, "suite", str), _SUITES)
    _get(record, "checkpoint", str)
    _get(record, "model.name", str)
    _get(record, "pretraining.source", str)
    _check_optional_number(record, "pretraining.epochs")
    metrics = dict(_get(record, "metrics", dict))
    if "img_sec_core" in record:
        metrics["img_sec_core"] = record["img_sec_core"]
    for name, value in metrics.items():
        if not _is_number(value):
            raise ValueError(f"metrics {name}={shown(value)}; expected a finite number")
        if is_share(name) and not 0 <= value <= 1:
            raise ValueError(f"metrics {name}={shown(value)}; expected a share in [0, 1]")
    return Evaluation(
        path=path,
        model=record["model"],
        image_size=_get(record, "image_size", int),
        source=record["pretraining"]["source"],
        epochs=record["pretraining"].get("epochs"),
        changes=_get(record, "changes", dict) if "changes" in record else {},
        metrics=metrics,
        missing=_get(record, "missing", dict) if "missing" in record else {},
        modified=path.stat().st_mtime,
    )


def is_share(metric: str) -> bool:
    """Returns whether a metric is a share in [0, 1], by its name."""
    return metric.endswith(("top1", "top5"))


def _run(workdir: Path, problems: list[str]) -> TrainingRun:
    path = workdir / layout.CONFIG
    try:
        config = reading.read_object(path)
        for key, of_type in (("model.name", str), ("data.source", str), ("data.image_size", int)):
            _get(config, key, of_type)
        for key in ("epochs", "steps"):
            _check_optional_number(config, key)
    except ValueError as error:
        raise ValueError(f"config.json is no run's: {error}") from error
    result, metrics = workdir / layout.RESULT, workdir / layout.METRICS
    if os.path.lexists(result):  # also a link that leads nowhere
        path, progress = result, _result(result)
    elif os.path.lexists(metrics):
        path, progress = metrics, _progress(_metric_lines(metrics, problems))
    else:
        progress = _progress([])
    return TrainingRun(path=workdir, config=config, finished=path == result, modified=path.stat().st_mtime, **progress)


def _result(path: Path) -> dict:
    try:
        record = reading.read_object(path)
        return {
            "step": _get(record, "step", int),
            "metrics": {name: _finite(value) for name, value in _get(record, "metrics", dict).items()},
            "core_days": _get(record, "core_days", (int, float)),
        }
    except ValueError as error:
        raise ValueError(f"{path.name} {error}") from error


def _progress(lines: list[dict]) -> dict:
    step = max((line["step"] for line in lines), default=0)
    last = {name: value for line in lines if line["step"] == step for name, value in line.items()}
    costs = [line["train/core_days"] for line in lines if _is_number(line.get("train/core_days"))]
    return {
        "step": step,
        "metrics": {name: _finite(value) for name, value in last.items() if name.startswith("eval/")},
        "core_days": costs[-1] if costs else None,
    }


def _metric_lines(path: Path, problems: list[str]) -> list[dict]:
    lines, damaged = [], []
    for number, text in enumerate(reading.read_bytes(path).splitlines(), start=1):
        try:
            line = reading.parse_object(text)
            _get(line, "step", int)
            lines.append(line)
        except ValueError as error:  # such as the last line, which a kill can cut short
            damaged.append(f"line {number} {error}")
    if damaged:
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        problems.append(f"{path}: left out what cannot be read: {damaged[0]}{more}")
    return lines


def _get(record: Mapping, key: str, of_type: type | tuple[type, ...]):
    """Returns the value of a dotted key; raises a ValueError if it is missing or of another type."""
    absent = object()
    value: Any = record
    for part in key.split("."):
        value = value.get(part, absent) if isinstance(value, dict) else absent
    if value is absent:
        raise ValueError(f"{key} is missing")
    if not isinstance(value, of_type) or isinstance(value, bool):
        raise ValueError(f"{key}={shown(value)}; expected {getattr(of_type, '__name__', 'a number')}")
    return value


def _check_optional_number(record: Mapping, key: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        record = record[section]
    if record.get(name) is not None and not _is_number(record[name]):
        raise ValueError(f"{key}={shown(record[name])}; expected a number or null")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _finite(value: object) -> int | float | None:
    return value if _is_number(value) else None
