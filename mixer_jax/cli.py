"""What the project's commands share: the flag --config and its checks, and what they show on the terminal."""

import logging
import re
import sys
import traceback
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from mixer_jax.errors import ConfigError
from mixer_jax.config.checks import check_key


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a config file or key that does not exist is refused with the nearest one named.

    Args:
      argv: the command line, program name first; `--config` is a flag of ml_collections.

    Returns:
      What is left of it: the program name and positional arguments.
    """
    # The config is read without its overrides first, because ml_collections meets an unknown key with a traceback.
    alone = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, flag_values=alone, sys_argv=[])
    try:
        alone(argv, known_only=True)
        if config.value is not None:
            _check_overrides(argv, config.value, config_flags.get_config_filename(alone["config"]))
    except ConfigError as error:
        fail(error)
    except AttributeError as error:
        _refuse_misspelt_key(error)
        raise
    except flags.IllegalFlagValueError as error:
        text, _, refused = str(error).strip().rpartition("ConfigError: ")
        fail(refused if text else error)  # what a recipe itself refuses comes with a traceback around it
    return app.parse_flags_with_usage(argv)


def default_workdir(config: str) -> str:
    """Returns where the run of a config file goes: configs/digits.py:smoke -> runs/digits-smoke."""
    path, _, mode = config.partition(":")
    return f"runs/{Path(path).stem}" + (f"-{mode}" if mode else "")


def local_path(flag: str, value: str) -> Path:
    """Returns the path that a flag names, or raises a ConfigError if it is a URL."""
    if "://" in value:
        raise ConfigError(f"--{flag}={value} is no local path; a local or mounted folder is needed")
    return Path(value)


def fail(error: object) -> None:
    """Ends the program with an error on one line, without a traceback."""
    sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def set_up_logging() -> None:
    """Shows the project's own messages, and of the libraries' the warnings only, unless --verbosity asks for more."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("mixer_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
        # What Orbax logs as errors, with the tracebacks of several threads, it raises too. The writes that it leaves
        # unfinished then end in more of them, which nobody can catch.
        absl_logging.get_absl_logger().addFilter(
            lambda record: record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts
        )
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda what: logger.debug("ignored: %r", what.exc_value)


def label_logging(process: int) -> None:
    """Leaves it to the first of several processes to report: of another, warnings alone are shown, with its number."""
    if process:
        logger = logging.getLogger("mixer_jax")
        logger.setLevel(logging.WARNING)
        for handler in logger.handlers:
            handler.setFormatter(logging.Formatter(f"%(asctime)s process {process}: %(message)s", datefmt="%H:%M:%S"))


def _refuse_misspelt_key(error: AttributeError) -> None:
    """Says on one line where a recipe sets a key that its locked config does not have."""
    key = re.search(r'^.?Key "(\w+)" does not exist', str(error))
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "get_config"]
    if key and lines:
        nearest = re.search(r'Did you mean "(\w+)"', str(error))
        hint = f"; did you mean {nearest[1]}?" if nearest else ""
        fail(f"{lines[-1].filename}:{lines[-1].lineno}: there is no config key {key[1]}{hint}")


def _check_overrides(argv, config, filename):
    if not Path(filename.partition(":")[0]).is_file():
        raise ConfigError(f"--config={filename}: there is no such file")
    for argument in argv[1:]:
        name = argument.split("=")[0].lstrip("-").removeprefix("no")  # --noconfig.<key> sets a key to False
        if argument.startswith("-") and name.startswith("config."):
            check_key(config, name.removeprefix("config."))
