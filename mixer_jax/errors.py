"""What is raised where the input is wrong, or where a run that began well cannot go on."""


class ConfigError(ValueError):
    """A config key, flag or file is wrong; the message names it, the value received and what would be right."""


class RunError(RuntimeError):
    """A run cannot go on; the message says why and what to do, on one line, and needs no traceback."""


def in_short(error: Exception) -> str:
    """Returns the type of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
