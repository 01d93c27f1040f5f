"""What stops a run that began well."""


class RunError(RuntimeError):
    """A run cannot go on; the message says why and what to do, on one line, and needs no traceback."""
