"""Chooses a recipe's learning rate on held-out images, then trains with it on all and tests once.

  python -m mixer_jax sweep --config=configs/finetune.py:cifar10 [--workdir=<folder>]

It trains with each of config.sweep.learning_rates on config.sweep.train_split and takes the one of the highest top-1
accuracy on config.sweep.held_out_split. With that it trains as the rest of the config says, on config.data.split, and
prints a table and the accuracy on config.eval.splits. Each run has its folder in --workdir, by default
runs/<config name>-sweep, and what came of all is in sweep.json there. Stopped, the same command goes on.
"""

import sys

from absl import flags
from ml_collections import config_flags

from mixer_jax import cli
from mixer_jax.training import sweep

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe with config.sweep, such as configs/finetune.py:pets.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs go; runs/<config name>-sweep by default.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs the sweep, and prints its table."""
    filename = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = _WORKDIR.value or f"{cli.default_workdir(filename)}-sweep"
    result = sweep.sweep(_CONFIG.value, workdir)
    print(result.table())
    if result.signal:
        print(f"interrupted in {result.workdir}; the same command goes on")
        sys.exit(128 + result.signal)
