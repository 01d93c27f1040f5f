"""Values that nobody means: of every type, at and beyond every bound."""

import math
import sys

from ml_collections import ConfigDict

INTEGERS = (0, -1, 1, 2, 3, 7, 2**15, 2**24 + 1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 10**5000)
FLOATS = (0.0, -0.0, 0.5, 1.0, 1 - 1e-9, -0.1, 1e-320, 5e-324, 1e-30, 1e30, sys.float_info.max, 1e308, 2.0**64)
FLOATS += (math.inf, -math.inf, math.nan)
TEXTS = ("", " ", "None", "a", "train", "test", "digits", "resize", "None:None", "json:dumps", "json:nothing", ":")
TEXTS += ("a:b:c", "é", "日本語", "\u2028", "\ufeff", "\udcff", "a\nb", "\x1b[2J", "x\0y", "x" * 300, "x" * 60_000)
TEXTS += ("a b " * 20_000, "~nosuchuser/x", "folder:~nosuchuser/x", "synthetic:0", "synthetic:1", "synthetic:1e3")
TEXTS += ("synthetic:99999999999", "train[:0%]", "train[5:3]", "tfds:nothing", "tfds:", "vtab:nothing", "folder:")
TEXTS += ("folder:nothing", "%s%n", "{}")
OTHERS = (None, True, False, (), [], {}, (None,), ("a", 3), ("0.1",), (math.nan,), (0.1, 0.1), b"bytes", 1j, object())
OTHERS += (len, {"a": 1}, {"test": 3}, {3: "test"}, {"": ""}, {"x" * 60_000: "test"}, ConfigDict(), (2**64,))
OTHERS += (("x" * 60_000,),)
PYTHON = (*INTEGERS, *FLOATS, *TEXTS, *OTHERS)

# As they stand on a command line, which cannot hold a NUL.
WORDS = (*(str(value) for value in INTEGERS[:-1]), "9" * 5000, *(repr(value) for value in FLOATS))
WORDS += tuple(text for text in TEXTS if "\0" not in text)
WORDS += ("True", "[]", "()", "{}", "(1,", "(1, 2)", "('a',)", "(0.1,)", "{'a': 'test'}", "{'a': 3}", "1,2,3", "1.5")
WORDS += ("0x10", "1_000", " 3", "3 ", "٣", "--", "=", "-", "@", "*", "/".join(["a"] * 3000), "a" * 256 + ".json")
WORDS += ("nothing.npz",)


def in_short(value: object) -> str:
    """Returns what the report calls a value."""
    try:
        text = " ".join(ascii(value).split())
    except ValueError:
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) < 40 else f"{text[:30]}... ({len(text)} characters)"
