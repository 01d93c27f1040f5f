"""Writes docs/config.md, a table of all config keys, from the source of mixer_jax/config/base.py.

    python docs/config_reference.py

A comment above a line explains that key, and the keys behind it that have none of their own up to the next empty line
or comment. A comment at the end of a line explains its key alone, unless it begins with "these".
"""

import ast
import dataclasses
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "mixer_jax" / "config" / "base.py"
TARGET = ROOT / "docs" / "config.md"

_HEADER = """# Config keys

Written by `python docs/config_reference.py` from [mixer_jax/config/base.py](../mixer_jax/config/base.py); a test holds
the two together. On the command line a key is `--config.<key>=<value>`: [running.md](running.md#change-keys). The keys
of `mixer_jax evaluate` are in [mixer_jax/suites/defaults.py](../mixer_jax/suites/defaults.py).
"""


@dataclasses.dataclass
class Key:
    """A key of the base config.

    Attributes:
      name: its dotted name without `config.`.
      default: its default, as Python prints it.
      kind: name of its type if the default is None, else empty.
      comment: what explains it; empty where nothing does.
    """

    name: str
    default: str
    kind: str
    comment: str


def read_keys(source: str) -> tuple[list[Key], dict[str, str]]:
    """Returns the keys of `get_config` in order, and what is said of whole sections, by their names.

    Args:
      source: the text of base.py.

    Raises:
      ValueError: a statement of `get_config` is neither a key nor a section.
    """
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "get_config")
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
        if token.type == tokenize.COMMENT
    }
    keys: list[Key] = []
    sections: dict[str, str] = {}
    shared = ""  # the key whose comment goes for the next ones, too
    # The docstring and `config = ConfigDict()` stand before the keys, `return config.lock()` behind them.
    for node in function.body[2:-1]:
        text = ast.get_source_segment(source, node) or ""
        if not isinstance(node, ast.Assign) or not re.match(r"config\.[\w.]+ = ", text):
            raise ValueError(f"{SOURCE}:{node.lineno}: expected config.<key> = <value>; got {text!r}")
        name, value = ast.unparse(node.targets[0]).removeprefix("config."), node.value
        first = node.lineno  # of the comment above
        while lines[first - 2].lstrip().startswith("#"):
            first -= 1
        above = " ".join(comments[line] for line in range(first, node.lineno))
        behind = comments.get(node.end_lineno, "")
        said = " ".join(filter(None, [above, behind]))
        if ast.unparse(value) == "ConfigDict()":
            sections[name], shared = said, ""
            continue
        if not lines[first - 2].strip():
            shared = ""
        keys.append(Key(name, *_default(value), said or (f"as `{shared}`" if shared else "")))
        if said:
            shared = name if above or behind.startswith("these") else ""
    return keys, sections


def render() -> str:
    """Returns docs/config.md, with a table for each section."""
    keys, sections = read_keys(SOURCE.read_text(encoding="utf-8"))
    parts = [_HEADER]
    for section in ["", *sections]:
        own = [key for key in keys if key.name.rpartition(".")[0] == section]
        parts.append(f"## {f'config.{section}' if section else 'The whole run'}\n")
        if sections.get(section):
            parts.append(f"{_markdown(sections[section])}\n")
        rows = [
            f"| `{key.name}` | `{key.default}`{key.kind and f' ({key.kind})'} | {_markdown(key.comment)} |"
            for key in own
        ]
        parts.append("\n".join(["| key | default | what it means |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _default(value: ast.expr) -> tuple[str, str]:
    """Returns a default as Python prints it, and for a placeholder the name of its type."""
    names = {"ConfigDict": dict, "placeholder": lambda kind: kind, "float": float, "int": int, "str": str}
    result = eval(ast.unparse(value), {"__builtins__": {}}, names)
    return ("None", result.__name__) if isinstance(result, type) else (repr(result).replace("|", r"\|"), "")


def _markdown(comment: str) -> str:
    """Keeps what Markdown would take for markup as it stands in the comment."""
    escaped = re.sub(r"(?<!`)<([^<>`]*)>", r"&lt;\1&gt;", comment)
    return escaped.replace("|", r"\|").replace("*", r"\*")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
