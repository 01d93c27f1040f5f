"""Objects of the user's own, named in a config as "package.module:name"."""

import importlib
import re
from collections.abc import Callable
from typing import Any

from mixer_jax.errors import ConfigError

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_extension(value: str) -> bool:
    """Returns whether a value of a config has the form "package.module:name"."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


def resolve_function(key: str, value: str) -> Callable:
    """Imports what a value of a config names, as `resolve`; a ConfigError also if it cannot be called."""
    found = resolve(key, value)
    if not callable(found):
        raise ConfigError(f"{key}={value!r} is {found!r}; expected a function or a class")
    return found


def resolve(key: str, value: str) -> Any:
    """Imports what a value of a config names.

    Args:
      key: what messages call it, such as "config.model.name".
      value: "package.module:name"; the module is found as by `import`, the current folder included.

    Raises:
      ConfigError: there is no such module or no such name in it.
    """
    module_name, _, name = value.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{key}={value!r}: {error}; expected package.module:name of what Python can import here"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{key}={value!r}: the module {module_name} ({module.__file__}) has no {name}")
    return getattr(module, name)
