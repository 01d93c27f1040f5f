"""A report as Markdown, or as CSV."""

import csv
import io
from collections.abc import Iterable

from mixer_jax import paper
from mixer_jax.report.tables import HEADINGS, Line, NotRun, Report, columns

_CAPTIONS = {
    2: "Table 2: Mixer at 448 pixels, beside the best of others",
    3: "Table 3: by pre-training data, model and resolution",
}
_INTRODUCTION = f"""\
Published: {paper.SOURCE}, Tables 2 and 3. "Ours" is what the records and runs here hold. Accuracies are top-1 in
percent; core-days and img/s/core are the paper's of TPU v3, ours of the devices that were used. ‡: extrapolated by the
paper. The paper evaluates Table 2 with another crop than Table 3; a record of ours stands in both."""
_NOT_RUN = """\
`tfds:large`, in JFT-300M's place, is a large data set of your own. img/s/core, which
`python -m mixer_jax benchmark` measures, is not counted as missing."""


def markdown(report: Report) -> str:
    """Returns a report as Markdown."""
    parts = ["# Published and measured", _INTRODUCTION]
    for table, caption in _CAPTIONS.items():
        parts += [f"## {caption}", _published_table(table, [line for line in report.lines if line.row.table == table])]
    headings = ("where", "model", "data", "pixels", "length", "result")
    others = [(o.where, o.model, o.data, str(o.image_size), o.length, o.result) for o in report.others]
    parts += ["## Other runs", _table(headings, others) if others else "None."]
    parts += ["## Not run yet", *([_NOT_RUN, *map(_not_run, report.not_run)] if report.not_run else ["None."])]
    if report.notes:
        parts += ["## Notes", "\n".join(f"* {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def as_csv(report: Report) -> str:
    """Returns a report as one CSV table with a header.

    The column `section` is "2" or "3" for rows of the paper's tables, "other", "not run" or "note". Of "not run",
    `detail` holds the commands, one a line; an empty cell is one that is unknown or was not run.
    """
    pairs = [f"{column}_{whose}" for column in HEADINGS for whose in ("paper", "ours")]
    names = ["section", "pretraining", "model", "image_size", "epochs", *pairs, "where", "detail"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for line in report.lines:
        row = line.row
        cells = {f"{column}_paper": getattr(row, column) for column in HEADINGS}
        cells |= {f"{column}_ours": round(value, 4) for column, value in line.ours.items()}
        described = {"pretraining": row.pretraining, "model": row.model, "image_size": row.image_size}
        writer.writerow(
            {"section": row.table, **described, "epochs": row.epochs, **cells, "detail": _remarks(row) or None}
        )
    for other in report.others:
        described = {"pretraining": other.data, "model": other.model, "image_size": other.image_size}
        writer.writerow(
            {"section": "other", **described, "where": other.where, "detail": f"{other.length}; {other.result}"}
        )
    for item in report.not_run:
        described = {"pretraining": item.row.pretraining, "model": item.row.model, "image_size": item.image_size}
        detail = "\n".join(item.commands)
        writer.writerow({"section": "not run", **described, "epochs": item.epochs, "detail": detail})
    writer.writerows({"section": "note", "detail": note} for note in report.notes)
    return text.getvalue()


def _published_table(table: int, lines: Iterable[Line]) -> str:
    """Returns one of the paper's tables, with ours to the right of each of its columns."""
    shown = columns(table)
    setup = ("image", "epochs") if table == 3 else ()
    headings = ["pre-training", "model", *setup]
    for column in shown:
        headings += [HEADINGS[column], "ours"]
    rows = []
    for line in lines:
        row = line.row
        cells = [row.pretraining, row.model + (f" ({row.note})" if row.note else "")]
        cells += [str(row.image_size), str(row.epochs)] if setup else []
        for column in shown:
            mark = "‡" if column == "core_days" and row.extrapolated else ""
            cells += [_cell(column, getattr(row, column)) + mark, _cell(column, line.ours.get(column), ours=True)]
        rows.append(cells)
    return _table(headings, rows)


def _cell(column: str, value: float | None, ours: bool = False) -> str:
    if value is None:
        return "-"
    if column == "core_days":
        return f"{value:,.1f}" if ours else f"{value:,}"
    return f"{value:,.0f}" if column == "img_sec_core" else f"{value:.2f}"


def _remarks(row: paper.Row) -> str:
    return "; ".join(filter(None, [row.note, "core-days extrapolated" if row.extrapolated else None]))


def _not_run(item: NotRun) -> str:
    row = item.row
    setup = f"{row.model}, {row.pretraining}, {item.epochs} epochs, {item.image_size} pixels"
    text = f"{setup}: {', '.join(item.missing)}"
    if item.commands:
        text += "\n\n```bash\n" + "\n".join(item.commands) + "\n```"
    if item.weights:
        text += f"\n\nWithout pre-training, from the published weights: `--checkpoint={item.weights}`."
    return text


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
