"""Trains as a config says: `python main.py --config=configs/digits.py`. Starting it again resumes."""

import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from mixer_jax import cli
from mixer_jax.runtime import hosts
from mixer_jax.training import run as train
from mixer_jax.errors import ConfigError
from mixer_jax.errors import RunError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, such as configs/digits.py or configs/digits.py:smoke."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run goes; runs/<config name>/ by default.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "<host>:<port> of process 0, for several processes off TPUs.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes; needed with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0; needed with --coordinator.")
flags.mark_flag_as_required("config")


def main(argv):
    """Runs the training, and says on one line how it ended."""
    cli.set_up_logging()
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; a config key is set by --config.<key>=<value>")
    workdir = _WORKDIR.value or cli.default_workdir(config_flags.get_config_filename(flags.FLAGS["config"]))
    try:
        path = cli.local_path("workdir", workdir)
        hosts.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        cli.label_logging(jax.process_index())
        result = train.run(_CONFIG.value, path)
    except (ConfigError, RunError) as error:
        cli.fail(error)
    except KeyboardInterrupt:  # the second one: the first asks the run to save and stop
        cli.fail("interrupted at once; the same command resumes from the last checkpoint")
    if jax.process_index() == 0:
        print(_summary(result))
    if result.signal:
        sys.exit(128 + result.signal)


def _summary(result: train.Result) -> str:
    if result.signal:
        saved = f"saved {result.checkpoint}" if result.checkpoint else "nothing to save yet"
        return f"interrupted at step {result.step}; {saved}; the same command resumes"
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items() if name.endswith("top1"))
    return f"finished step {result.step}: {scores or 'not evaluated'}; checkpoint {result.checkpoint}"


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse_flags)
