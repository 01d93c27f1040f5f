"""Prints the paper's Tables 2 and 3 with what was measured here beside every cell.

  python -m mixer_jax report [--runs=runs] [--format=markdown|csv] [--output=<file>]

It reads the work directories in --runs, at any depth: the records of `python -m mixer_jax evaluate`
(<workdir>/evaluation/*.json) and the training runs (config.json, result.json and metrics.jsonl). An evaluation belongs
to a row when model, image size, and data set and epochs of the pre-training are the row's. Core-days are those of
finished pre-training runs with a row's model, data set and epochs. Of two values for one cell the newer stands in the
table.

Behind the tables come the runs and metrics that belong to no row, the commands that would fill the cells that are
still missing, and a line for every file that cannot be read.
"""

from absl import flags

from mixer_jax.config.paths import local_path
from mixer_jax.errors import ConfigError
from mixer_jax.report import records, tables, text
from mixer_jax.workdir.layout import whole_file

_FORMATS = {"markdown": text.markdown, "csv": text.as_csv}

_RUNS = flags.DEFINE_string("runs", "runs", "Folder that holds the work directories.")
_FORMAT = flags.DEFINE_enum("format", "markdown", list(_FORMATS), "How the tables are written.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write; by default the report is printed.")


def main() -> None:
    """Prints or writes the report."""
    runs = local_path("--runs", _RUNS.value)
    report = _FORMATS[_FORMAT.value](tables.make(records.read(runs), runs))
    if _OUTPUT.value is None:
        print(report, end="")
        return
    output = local_path("--output", _OUTPUT.value)
    try:
        with whole_file(output) as file:
            file.write(report)
    except OSError as error:
        raise ConfigError(f"--output={output} cannot be written: {error.strerror}") from error
