"""The door to all commands: `mixer_jax <command>`, or `python -m mixer_jax <command>`."""

import signal
import sys


def main(argv: list[str] | None = None, program: str = "mixer_jax") -> None:
    """Runs the command of a command line.

    Args:
      argv: the command line, program first; by default that of this process.
      program: what usage and messages call the program.
    """
    # Until a run takes Ctrl-C itself, it ends the process from outside Python: as an exception it would be lost
    # wherever a library that is being imported or called back ignores exceptions.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import fcntl  # noqa: F401
    except ImportError:
        sys.exit(f"{program}: mixer_jax runs on Linux, and in part on macOS; on Windows, use it in WSL 2")
    from mixer_jax import commands  # after the two above: it takes seconds

    commands.run(sys.argv if argv is None else argv, program)


if __name__ == "__main__":  # the processes that a command starts import this module too
    main()
