"""The commands beside training: `python -m mixer_jax <command> --help`."""

import importlib
import inspect
import pkgutil
import re
import sys

from absl import app, flags

from mixer_jax import cli
from mixer_jax import commands as packages
from mixer_jax.errors import ConfigError
from mixer_jax.config.checks import one_of
from mixer_jax.errors import RunError


def run(argv: list[str]) -> None:
    """Hands the command line to the command's module, whose docstring is its help and whose flags are its own."""
    commands = sorted(module.name.replace("_", " ") for module in pkgutil.iter_modules(packages.__path__))
    if len(argv) < 2 or argv[1] in ("--help", "-h", "-help", "help"):
        print(f"usage: python -m mixer_jax <command> --help\ncommands: {', '.join(commands)}")
        sys.exit(0 if len(argv) > 1 else 2)
    command = next((name for name in (" ".join(argv[1:3]), argv[1]) if name in commands), argv[1])
    try:
        one_of("command", command, commands)
    except ConfigError as error:
        cli.fail(error)
    tool = importlib.import_module(f"mixer_jax.commands.{command.replace(' ', '_')}")  # only this one's flags and imports
    sys.argv[0] = f"mixer_jax {command}"  # what messages begin with
    sys.modules["__main__"].__doc__ = tool.__doc__  # what --help shows
    flags.adopt_module_key_flags(tool)

    def main(arguments):
        cli.set_up_logging()
        positional = arguments[1:] if inspect.signature(tool.main).parameters else None
        if len(arguments) > 1 and positional is None:
            raise app.UsageError(f"unexpected arguments {arguments[1:]}; flags are --<name>=<value>")
        try:
            tool.main() if positional is None else tool.main(positional)
        except (ConfigError, RunError) as error:
            cli.fail(error)

    arguments = argv[1 + len(command.split()) :]
    if hasattr(tool, "DEFAULT_CONFIG") and not any(re.match(r"--?config(=|$)", argument) for argument in arguments):
        arguments.insert(0, f"--config={tool.DEFAULT_CONFIG}")  # a default of the flag's own could not be overridden
    app.run(main, argv=[sys.argv[0], *arguments], flags_parser=cli.parse_flags)


if __name__ == "__main__":  # the processes that a command starts import this module too
    sys.argv[0] = "mixer_jax"
    run(sys.argv)
