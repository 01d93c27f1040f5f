"""Trains as a config says: `python main.py --config=configs/digits.py`. Starting it again resumes."""

import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mixer_jax import train
from mixer_jax.config import ConfigError, check_key

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, such as configs/digits.py or configs/digits.py:smoke."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run goes; runs/<config name>/ by default.")
flags.mark_flag_as_required("config")


def main(argv):
    """Runs the training, and says on one line how it ended."""
    set_up_logging()
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; a config key is set by --config.<key>=<value>")
    workdir = Path(_WORKDIR.value or default_workdir(config_flags.get_config_filename(flags.FLAGS["config"])))
    try:
        result = train.run(_CONFIG.value, workdir)
    except ConfigError as error:
        sys.exit(f"main.py: {error}")
    if result.signal:
        print(f"interrupted at step {result.step}; saved {result.checkpoint}; the same command resumes")
        sys.exit(128 + result.signal)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items() if name.endswith("top1"))
    print(f"finished step {result.step}: {scores}; checkpoint {result.checkpoint}")


def default_workdir(config: str) -> str:
    """Returns where the run of a config file goes: configs/digits.py:smoke -> runs/digits-smoke."""
    path, _, mode = config.partition(":")
    return f"runs/{Path(path).stem}" + (f"-{mode}" if mode else "")


def parse_flags(argv):
    """Parses the command line; a config file or key that does not exist is refused with its name."""
    # The config is read without its overrides first, because ml_collections meets an unknown key with a traceback.
    alone = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, flag_values=alone, sys_argv=[])
    try:
        alone(argv, known_only=True)
        if config.value is not None:
            check_overrides(argv, config.value, config_flags.get_config_filename(alone["config"]))
    except flags.IllegalFlagValueError as error:  # of a recipe's own check it holds the whole traceback
        sys.exit(
            f"main.py: {str(error).strip()}"
            if "ConfigError: " not in str(error)
            else f"main.py: {str(error).strip().rpartition('ConfigError: ')[2]}"
        )
    except ConfigError as error:
        sys.exit(f"main.py: {error}")
    return app.parse_flags_with_usage(argv)


def check_overrides(argv, config, filename):
    """Raises a ConfigError if the config file does not exist, or has no key that a flag `--config.<key>` sets."""
    if not Path(filename.partition(":")[0]).is_file():
        raise ConfigError(f"--config={filename}: there is no such file")
    for argument in argv[1:]:
        name = argument.split("=")[0].lstrip("-").removeprefix("no")
        if argument.startswith("-") and name.startswith("config."):
            check_key(config, name.removeprefix("config."))


def set_up_logging():
    """Shows the project's own messages, and of the libraries' the warnings only, unless --verbosity asks for more."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("mixer_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
