"""The commands: a module each, with its flags and `main()`; its docstring is its help.

A command of two words, such as `benchmark data`, is the module `benchmark_data`.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

from absl import app, flags

from mixer_jax import __version__, cli
from mixer_jax.config.checks import one_of
from mixer_jax.errors import ConfigError, RunError


def run(argv: list[str], program: str) -> None:
    """Hands a command line to its command.

    Args:
      argv: the command line, program first.
      program: what usage and messages call the program; with the command behind it, unless that is main.py.
    """
    summaries = _summaries()
    if len(argv) < 2 or argv[1] in ("--help", "-h", "-help", "--helpfull", "help"):
        print(_usage(summaries))
        sys.exit(0 if len(argv) > 1 else 2)
    if argv[1] in ("--version", "version"):
        print(f"mixer_jax {__version__}")
        return
    sys.argv[0] = program  # what messages begin with
    name = next((name for name in (" ".join(argv[1:3]), argv[1]) if name in summaries), argv[1])
    try:
        one_of("command", name, summaries)
    except ConfigError as error:
        cli.fail(error)
    if program != "main.py":
        sys.argv[0] = f"{program} {name}"
    try:
        command = importlib.import_module(f"{__name__}.{name.replace(' ', '_')}")  # only this one's flags and imports
    except flags.Error as error:  # ml_collections reads it when --config is defined
        cli.fail(error)
    sys.modules["__main__"].__doc__ = command.__doc__  # what --help shows
    flags.adopt_module_key_flags(command)

    def main(arguments: list[str]) -> None:
        cli.set_up_logging()
        positional = arguments[1:] if inspect.signature(command.main).parameters else None
        if len(arguments) > 1 and positional is None:
            raise app.UsageError(
                f"unexpected arguments {arguments[1:]}; flags are --<name>=<value>, keys --config.<key>=<value>"
            )
        try:
            command.main() if positional is None else command.main(positional)
        except (ConfigError, RunError) as error:
            cli.fail(error)

    arguments = argv[1 + len(name.split()) :]
    if hasattr(command, "DEFAULT_CONFIG") and not any(re.match(r"--?config(=|$)", argument) for argument in arguments):
        arguments.insert(0, f"--config={command.DEFAULT_CONFIG}")  # a default of the flag's own could not be overridden
    app.run(main, argv=[sys.argv[0], *arguments], flags_parser=cli.parse_flags)


def _summaries() -> dict[str, str]:
    """Returns the first line of each command's docstring by its name; nothing is imported for that."""
    summaries = {}
    for module in pkgutil.iter_modules(__path__):
        source = Path(__path__[0], f"{module.name}.py").read_text(encoding="utf-8")
        summaries[module.name.replace("_", " ")] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return summaries


def _usage(summaries: dict[str, str]) -> str:
    width = max(map(len, summaries))
    listed = "\n".join(f"  {name:{width}}  {summary}" for name, summary in summaries.items())
    return (
        "usage: mixer_jax <command> [--<flag>=<value> ...]\n"
        "       mixer_jax <command> --help\n\n"
        f"commands:\n{listed}\n\n"
        "`python -m mixer_jax <command>` is the same, and `python main.py` in a checkout is `mixer_jax train`."
    )
