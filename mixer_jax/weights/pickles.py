"""Pickles as plain data: nothing is imported, called or made, so a pickle from anywhere can be read.

Python's own `pickle` runs whatever a file names; refusing names is not enough, since some opcodes allocate by a number
in the file and others hash what was built. Here each opcode, as `pickletools` splits them, moves plain values on a
stack: numbers, texts, tuples, lists and dicts. What the pickle would look up or call is only noted.
"""

import dataclasses
import pickletools
import warnings
from collections.abc import Callable
from typing import IO

_MOST_OPCODES = 1_000_000  # a training checkpoint of 24 blocks with its optimizer has some 50,000
_KEYS = (str, int, float, bool, type(None))  # what a dict is allowed to hash


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """What a pickle would import, as "package.module.name"."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """What a pickle says is stored outside of it."""

    value: object


@dataclasses.dataclass(slots=True, eq=False)
class Made:
    """What a pickle would make by a call.

    Attributes:
      name: what it would call.
      arguments: with which.
      state: what it would put into the result.
    """

    name: str
    arguments: tuple
    state: object = None


class PickleError(ValueError):
    """It is no pickle, is damaged, or has an opcode that nobody needs."""


def load(stream: IO[bytes]) -> object:
    """Reads one pickle.

    Args:
      stream: at its start; afterwards it is behind its end.

    Returns:
      Numbers, texts, bytes, None, tuples, lists (sets too), dicts (OrderedDicts too), `Name`, `Reference` and `Made`.
      Entries of dicts whose key is no number or text are left out.

    Raises:
      PickleError: as there.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of escapes in texts
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if opcode.name == "STOP":
                    return machine.stack.pop()
                if count == _MOST_OPCODES:
                    raise PickleError(f"a pickle of more than {_MOST_OPCODES:,} opcodes")
                machine.do(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise PickleError(f"no whole pickle: {error}") from error
    raise PickleError("a pickle without an end")


class _Machine:
    """The stack of the values that are being put together, and those that are used again."""

    def __init__(self) -> None:
        self.stack: list = []
        self._outer: list[list] = []  # the stacks below each open mark
        self._memo: dict[int, object] = {}

    def do(self, opcode: str, argument: object) -> None:
        """Does what one opcode says."""
        if opcode in _PUSHES:
            self.stack.append(argument)
        elif opcode in _MAKES:
            self.stack.append(_MAKES[opcode]())
        elif opcode in _FROM_STACK:
            needed, make = _FROM_STACK[opcode]
            self.stack.append(make(*self._take(needed)))
        elif opcode in _FROM_MARK:
            made = _FROM_MARK[opcode](self._to_mark())
            self.stack.append(made)
        elif opcode in _INTO:
            count = _INTO[opcode]
            items = self._to_mark() if count is None else self._take(count)
            _put(self.stack[-1], items)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]  # type: ignore[index]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])  # type: ignore[index]
        elif opcode == "GLOBAL":
            self.stack.append(_name(*str(argument).partition(" ")[::2]))
        elif opcode == "MARK":
            self._outer.append(self.stack)
            self.stack = []
        elif opcode == "POP":
            self.stack.pop()
        elif opcode == "POP_MARK":
            self._to_mark()
        elif opcode == "DUP":
            self.stack.append(self.stack[-1])
        elif opcode == "BUILD":
            state = self.stack.pop()
            if isinstance(target := self.stack[-1], Made):  # the attributes of an OrderedDict are not needed
                target.state = state
        elif opcode not in ("PROTO", "FRAME"):
            raise PickleError(f"the pickle opcode {opcode}")

    def _take(self, count: int) -> list:
        return [self.stack.pop() for _ in range(count)][::-1]

    def _to_mark(self) -> list:
        items, self.stack = self.stack, self._outer.pop()
        return items


def _call(function: object, arguments: object, keywords: object = None) -> object:
    if not isinstance(arguments, tuple):
        raise PickleError("a call without arguments")
    name = function.text if isinstance(function, Name) else "what is not known by name"
    if name == "collections.OrderedDict" and not arguments and not keywords:
        return {}
    return Made(name, arguments)


def _put(target: object, items: list) -> None:
    """Puts what stands on the stack into the list or dict below it; into what was not made, nothing."""
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, _KEYS):
                target[key] = value
    elif not isinstance(target, Made):
        raise PickleError("items for what is no list or dict")


def _dict(items: list) -> dict:
    made: dict = {}
    _put(made, items)
    return made


def _name(module: object, name: object) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):  # to print what else it may be has no bound
        raise PickleError("a name that is no text")
    return Name(f"{module}.{name}")


_PUSHES = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_MAKES: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
}
# How many values are taken from the stack, and what they become.
_FROM_STACK: dict[str, tuple[int, Callable[..., object]]] = {
    "TUPLE1": (1, lambda *items: items),
    "TUPLE2": (2, lambda *items: items),
    "TUPLE3": (3, lambda *items: items),
    "STACK_GLOBAL": (2, _name),
    "BINPERSID": (1, Reference),
    "REDUCE": (2, _call),
    "NEWOBJ": (2, _call),
    "NEWOBJ_EX": (3, _call),
}
_FROM_MARK: dict[str, Callable[[list], object]] = {
    "TUPLE": tuple,
    "LIST": list,
    "FROZENSET": list,
    "DICT": _dict,
}
# How many values go into the one below them; None: those above the mark.
_INTO: dict[str, int | None] = {"APPEND": 1, "SETITEM": 2, "APPENDS": None, "SETITEMS": None, "ADDITEMS": None}
