"""What is raised where the input is wrong, or where a run that began well cannot go on."""

_LONGEST_VALUE = 80  # characters of a value that a message repeats
_LONGEST_WORD = 500  # longer than any path that a file system takes in one piece
_LONGEST = 2000


class ConfigError(ValueError):
    """A config key, flag or file is wrong; the message names it, the value received and what would be right."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


class RunError(RuntimeError):
    """A run cannot go on; the message says why and what to do, on one line, and needs no traceback."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(message))


def in_short(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def shown(value: object) -> str:
    """Returns a value as Python writes it, cut to a readable length."""
    try:
        text = repr(value).strip()
    except Exception as error:  # an integer of more digits than Python converts, or an object of somebody's own
        text = f"<{type(value).__name__}: {in_short(error)}>"
    return cut(text, _LONGEST_VALUE)


def cut(text: str, longest: int) -> str:
    """Returns the beginning and the end of a text that is too long, and how long it was."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end]}...{text[-end:]} ({len(text):,} characters)"


def one_line(message: object) -> str:
    """Returns a message on one line of printable characters; what is too long to be read is cut."""
    words = [cut(word, _LONGEST_VALUE) if len(word) > _LONGEST_WORD else word for word in str(message).split(" ")]
    lines = [line.strip() for line in " ".join(words).splitlines()]
    return cut(printable(" ".join(line for line in lines if line)), _LONGEST)


def printable(text: object) -> str:
    """Returns a text on one line of printable characters; of others it holds what Python would write."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def readable(path: object) -> str:
    """Returns a path, or a name, as a message shows it: printable, and each name of it cut to a readable length."""
    return cut("/".join(cut(name, _LONGEST_VALUE) for name in printable(path).split("/")), 400)
