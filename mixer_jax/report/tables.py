"""The published tables with what was measured here, and all that belongs to none of their rows."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from mixer_jax import paper
from mixer_jax.report import matching
from mixer_jax.report import missing as missing_cells
from mixer_jax.report.records import Evaluation, Findings, TrainingRun, is_share

# Columns, as attributes of `paper.Row`, with their headings.
HEADINGS = {
    "imagenet": "ImNet",
    "real": "ReaL",
    "avg5": "Avg 5",
    "vtab": "VTAB-1k",
    "img_sec_core": "img/s/core",
    "core_days": "core-days",
}
_METRICS = {"imagenet": "imagenet/top1", "real": "real/top1", "avg5": "avg5/top1", "vtab": "vtab/top1"}
_METRICS["img_sec_core"] = "img_sec_core"


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the paper, and ours.

    Attributes:
      row: the published row.
      ours: what was measured here, by column; accuracies in percent.
    """

    row: paper.Row
    ours: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Other:
    """A run, or metrics of an evaluation, that no row has a place for.

    Attributes:
      where: the work directory or the record.
      model: config.model.name.
      data: the data set that was trained on; of an evaluation, the one of the pre-training.
      image_size: pixels.
      length: epochs or steps of the training.
      result: what came of it.
    """

    where: str
    model: str
    data: str
    image_size: int
    length: str
    result: str


@dataclasses.dataclass(frozen=True)
class NotRun:
    """A row of Mixer with cells that are missing.

    Attributes:
      row: the row; of two rows for one model the first.
      image_size: pixels.
      epochs: of the pre-training.
      missing: headings of the cells.
      commands: what would fill them, one after the other.
      weights: name of published weights, which could be evaluated without a run; None if there are none, or no need.
    """

    row: paper.Row
    image_size: int
    epochs: float
    missing: tuple[str, ...]
    commands: tuple[str, ...]
    weights: str | None


@dataclasses.dataclass(frozen=True)
class Report:
    """All that there is to say; `notes` are lines about what was replaced, is missing, or cannot be read."""

    lines: tuple[Line, ...]
    others: tuple[Other, ...]
    not_run: tuple[NotRun, ...]
    notes: tuple[str, ...]


def columns(table: int) -> tuple[str, ...]:
    """Returns the columns of Table 2 or 3 that hold results; Table 3 has no VTAB-1k."""
    return tuple(column for column in HEADINGS if table == 2 or column != "vtab")


def make(findings: Findings, runs: Path) -> Report:
    """Puts what was found beside what is published.

    Args:
      findings: evaluations and runs.
      runs: the folder that they are from, for the commands.

    Returns:
      The report; of two values for one cell it takes the newer, and notes so.
    """
    notes, lines, placed = [], [], set()
    for row in paper.rows():
        ours = {}
        for column in columns(row.table):
            candidates = _candidates(row, column, findings)
            placed |= {(path, metric) for _, path, metric, _ in candidates}
            if candidates:
                *older, newest = candidates
                ours[column] = newest[-1]
                notes += [_replaced(row, column, newest, old) for old in older]
        lines.append(Line(row, ours))
    notes += _missing(findings.evaluations, lines)
    others = [*_other_runs(findings.runs, placed), *_other_metrics(findings.evaluations, placed)]
    # Two rows of one model share their values, and so what is to be said of them.
    return Report(
        lines=tuple(lines),
        others=tuple(sorted(others, key=lambda other: other.where)),
        not_run=tuple(_not_run(lines, findings.runs, runs)),
        notes=tuple(dict.fromkeys([*notes, *findings.problems])),
    )


def _candidates(row: paper.Row, column: str, findings: Findings) -> list[tuple[float, Path, str, float]]:
    """Returns (time, file, metric, value) of all that would fill a cell, the newest last."""
    if column == "core_days":
        return sorted(
            (run.modified, run.path, column, run.core_days)
            for run in findings.runs
            if _pretrained(row, run) and run.core_days is not None
        )
    metric = _METRICS[column]
    fitting = [r for r in findings.evaluations if metric in r.metrics and matching.has_evaluation(row, r)]
    return sorted((r.modified, r.path, metric, _in_table(metric, r.metrics[metric])) for r in fitting)


def _pretrained(row: paper.Row, run: TrainingRun) -> bool:
    return run.finished and matching.has_pretraining(row, run)


def _in_table(metric: str, value: float) -> float:
    return 100 * value if is_share(metric) else value


def _replaced(row: paper.Row, column: str, newest: tuple, older: tuple) -> str:
    image_size, epochs = matching.setup_of(row)
    where = "" if column == "core_days" else f", {image_size} pixels"
    return (
        f"{HEADINGS[column]} of {row.model}, {row.pretraining}, {epochs} epochs{where}: {newest[1]} ({newest[-1]:.2f}) "
        f"is newer than {older[1]} ({older[-1]:.2f}), which is left out"
    )


def _missing(evaluations: Iterable[Evaluation], lines: Iterable[Line]) -> list[str]:
    """Returns a line for all that records name as missing, unless another record has filled its cell."""

    def is_filled(record, key):
        return any(key in line.ours and matching.has_evaluation(line.row, record) for line in lines)

    return [
        f"{record.path}: {key} is missing: {' '.join(str(why).split())}"
        for record in evaluations
        for key, why in record.missing.items()
        if not is_filled(record, key)
    ]


def _other_runs(runs: Iterable[TrainingRun], placed: set) -> Iterable[Other]:
    for run in runs:
        if (run.path, "core_days") in placed:
            continue
        epochs, steps = run.config.get("epochs"), run.config.get("steps")
        metrics = {name.removeprefix("eval/"): value for name, value in run.metrics.items()}
        yield Other(
            where=str(run.path),
            model=run.config["model"]["name"],
            data=run.config["data"]["source"],
            image_size=run.config["data"]["image_size"],
            length=_length(epochs) if steps is None else f"{steps:,} steps",
            result=f"{'' if run.finished else 'unfinished: '}step {run.step:,}{_listed(metrics)}",
        )


def _other_metrics(evaluations: Iterable[Evaluation], placed: set) -> Iterable[Other]:
    for record in evaluations:
        metrics = {name: value for name, value in record.metrics.items() if (record.path, name) not in placed}
        if record.metrics and not metrics:
            continue
        yield Other(
            where=str(record.path),
            model=record.model["name"],
            data=record.source,
            image_size=record.image_size,
            length=_length(record.epochs),
            result=(_listed(metrics).removeprefix(": ") or "nothing was evaluated") + _changed(record),
        )


def _changed(record: Evaluation) -> str:
    """Returns the choices of an evaluation that were not the default ones."""
    changed = ", ".join(f"config.{key}={value}" for key, value in record.changes.items())
    return f" (with {changed})" if changed else ""


def _length(epochs: float | None) -> str:
    return "unknown" if epochs is None else f"{epochs:g} epochs"


def _listed(metrics: Mapping[str, float | None]) -> str:
    """Returns metrics as text, shares in percent, behind a colon."""

    def shown(name, value):
        if value is None:
            return "not finite"
        if is_share(name):
            return f"{100 * value:.2f}"
        return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"

    # Of several draws their mean is enough here.
    means = {name: value for name, value in metrics.items() if "/seed_" not in name}
    return ": " * bool(means) + ", ".join(f"{name} {shown(name, value)}" for name, value in means.items())


def _not_run(lines: Iterable[Line], training_runs: Iterable[TrainingRun], runs: Path) -> Iterable[NotRun]:
    # (recipe, pixels, epochs) -> row, columns; what Tables 2 and 3 share comes once
    missing: dict[tuple[str, int, float], tuple[paper.Row, dict[str, None]]] = {}
    for line in lines:
        if recipe := matching.recipe_of(line.row):
            _, absent = missing.setdefault((recipe, *matching.setup_of(line.row)), (line.row, {}))
            wanted = (column for column in columns(line.row.table) if column != "img_sec_core")  # no record is of it
            absent.update(dict.fromkeys(column for column in wanted if column not in line.ours))
    for (_, image_size, epochs), (row, absent) in missing.items():
        if absent:
            finished = [run for run in training_runs if _pretrained(row, run)]
            pretrained = max(finished, key=lambda run: (run.modified, run.path), default=None)
            yield NotRun(
                row=row,
                image_size=image_size,
                epochs=epochs,
                missing=tuple(HEADINGS[column] for column in HEADINGS if column in absent),
                commands=tuple(missing_cells.that_fill(row, absent, pretrained, runs)),
                weights=None if pretrained or set(absent) == {"core_days"} else missing_cells.published_weights(row),
            )
