"""What the commands share: the flag --config and its checks, and what they show on the terminal."""

import io
import logging
import sys
from pathlib import Path
from typing import NoReturn

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from mixer_jax.config import recipes
from mixer_jax.config.checks import check_key
from mixer_jax.errors import ConfigError, one_line

_HELP = ("--help", "-help", "-h", "-?", "--helpshort", "-helpshort", "--helpfull", "-helpfull", "--helpxml")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a recipe or key that does not exist is refused with the nearest one named.

    Beside what absl and ml_collections read, `--config` takes the bare name of a recipe, and `--config.<key>=None` sets
    a key that may be None to it.

    Args:
      argv: the command line, program name first; `--config` is a flag of ml_collections.

    Returns:
      What is left of it: the program name and positional arguments.
    """
    # The config is read without its overrides first, because ml_collections meets an unknown key with a traceback.
    absent: list[str] = []
    try:
        arguments = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)  # what is in a --flagfile counts, too
        arguments, recipe = _find_recipe(arguments)
        if recipe is not None:
            arguments, absent = _check_overrides(arguments, recipes.read(recipe))
    except (ConfigError, flags.Error) as error:
        fail(error)
    try:
        positional = flags.FLAGS([argv[0], *arguments])
    except flags.Error as error:
        fail(f"{error}; --help shows all flags")
    except SystemExit as end:
        if any(argument in _HELP for argument in arguments):
            sys.exit(0)  # absl shows its help with an exit code of 1
        raise end
    for key in absent:
        recipes.set_key(flags.FLAGS["config"].value, key, None)
    return positional


def default_workdir(config: str) -> str:
    """Returns where the run of a config file goes: configs/digits.py:smoke -> runs/digits-smoke."""
    path, _, mode = config.partition(":")
    return f"runs/{Path(path).stem}" + (f"-{mode}" if mode else "")


def fail(error: object) -> NoReturn:
    """Ends the program with an error on one line, without a traceback."""
    sys.exit(f"{Path(sys.argv[0]).name}: {one_line(error)}")


def set_up_logging() -> None:
    """Shows the project's own messages, and of the libraries' the warnings only, unless --verbosity asks for more."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # paths and names of classes may hold bytes that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
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


def _find_recipe(arguments: list[str]) -> tuple[list[str], str | None]:
    """Returns the arguments with the path of the recipe in the place of its name, and that path: of several the last's.

    The recipe is a path[:argument], or None if there is no --config.
    """
    found, recipe = list(arguments), None
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        if equals:
            recipe = recipes.find(value)
            found[place] = f"{flag}={recipe}"
        elif place + 1 < len(arguments):
            found[place + 1] = recipe = recipes.find(arguments[place + 1])
    return found, recipe


def _check_overrides(arguments: list[str], config: ConfigDict) -> tuple[list[str], list[str]]:
    """Refuses keys that do not exist; returns the arguments that set no key to None, and the keys that others do."""
    kept: list[str] = []
    absent: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        name = name.lstrip("-").removeprefix("no")  # --noconfig.<key> sets a key to False
        if not (argument.startswith("-") and name.startswith("config.")):
            kept.append(argument)
            continue
        key = name.removeprefix("config.")
        check_key(config, key)
        absent = [other for other in absent if other != key]  # the last one counts
        if value == "None":
            if key not in recipes.optional_keys(config):
                raise ConfigError(f"config.{key}=None; it needs a value")
            absent.append(key)
        else:
            kept.append(argument)
    return kept, absent
