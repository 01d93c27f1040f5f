"""Trains a model as a recipe says; started again, it goes on.

  mixer_jax train --config=digits [--workdir=<folder>] [--config.<key>=<value> ...]

The config is the name of a recipe that comes with mixer_jax, or a Python file with a function get_config; an argument
of it stands behind a colon, such as --config=mixer_b16_i1k:smoke. Every key can be changed on the command line.

The run goes to the work directory: checkpoints, metrics, config. The same command resumes it. Ctrl-C, SIGTERM, SIGHUP
and SIGUSR1 save a checkpoint and end it; a second Ctrl-C ends it at once. --extend trains a run longer than it was
meant to: config.steps, config.epochs and config.schedule may then differ from those of its checkpoint.
"""

import sys

import jax
from absl import flags
from ml_collections import config_flags

from mixer_jax import cli
from mixer_jax.runtime import hosts
from mixer_jax.training import run

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, such as digits, digits:smoke or my_recipe.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run goes; runs/<config name>/ by default.")
_EXTEND = flags.DEFINE_bool("extend", False, "Go on with a run to another length than it was started with.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "<host>:<port> of process 0, for several processes off TPUs.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes; needed with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0; needed with --coordinator.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs the training, and says on one line how it ended."""
    workdir = _WORKDIR.value
    if workdir is None:
        workdir = cli.default_workdir(config_flags.get_config_filename(flags.FLAGS["config"]))
    hosts.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    cli.label_logging(jax.process_index())
    result = run.train(_CONFIG.value, workdir, extend=_EXTEND.value)
    if jax.process_index() == 0:
        print(_summary(result))
    if result.signal:
        sys.exit(128 + result.signal)


def _summary(result: run.Result) -> str:
    if result.signal:
        saved = f"saved {result.checkpoint}" if result.checkpoint else "nothing to save yet"
        return f"interrupted at step {result.step}; {saved}; the same command resumes"
    accuracies = {name: value for name, value in result.metrics.items() if name.endswith("top1")}
    shown = list((accuracies or result.metrics).items())[:5]
    scores = ", ".join(f"{name} {value:.4f}" for name, value in shown)
    return f"finished step {result.step}: {scores or 'not evaluated'}; checkpoint {result.checkpoint}"
