"""Recipes by name or path: files with a function `get_config`."""

import os
import re
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from mixer_jax.config import ranges
from mixer_jax.config.base import get_config as base_config
from mixer_jax.config.checks import check_key, suggest
from mixer_jax.config.compare import flatten
from mixer_jax.config.paths import local_path
from mixer_jax.errors import ConfigError, cut, in_short, shown

_SHARED = {"base", "datasets"}  # what recipes of a checkout may import, and no recipes themselves


def folder() -> Path:
    """Returns where the recipes that come with the project are: in a checkout configs/, in a wheel beside the code."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """Returns the names of the recipes that come with the project, in order."""
    return sorted(path.stem for path in folder().glob("*.py") if path.stem not in _SHARED | {"__init__"})


def find(config: str | Path) -> str:
    """Returns a recipe as path[:argument].

    Args:
      config: the value of --config: a path, or the bare name of a recipe that comes with the project, and what stands
        behind a colon, such as "digits", "digits:smoke" or "configs/digits.py:smoke". A file of that name comes first.

    Raises:
      ConfigError: there is no such file and no such recipe.
    """
    if not isinstance(config, (str, Path)) or "://" in str(config):
        raise ConfigError(f"--config={shown(config)}; expected the name of a recipe, or a path of this machine")
    name, colon, argument = str(config).partition(":")
    path = local_path("--config", name) if name else Path()
    if os.path.isfile(path):  # unlike Path.is_file, also where it may not be asked
        return f"{path}{colon}{argument}"
    known = names()
    if name in known:
        return f"{folder() / name}.py{colon}{argument}"
    named = cut(str(config), 80)
    if path.stem in known:
        raise ConfigError(
            f"--config={named}: there is no such file here; the recipe of that name that comes with mixer_jax is "
            f"--config={path.stem}{colon}{argument}"
        )
    raise ConfigError(f"--config={named}: there is no such file, and no recipe has that name; {suggest(name, known)}")


def load(config: str | Path, changes: Mapping[str, object] | None = None) -> ConfigDict:
    """Returns the config of a recipe.

    Args:
      config: as in `find`.
      changes: values of keys by dotted name, such as {"data.data_dir": "~/data", "steps": 100}.

    Returns:
      The config; its keys are locked.

    Raises:
      ConfigError: there is no such recipe or key, the recipe fails, or a value is none of the key's.
    """
    if changes is not None and not isinstance(changes, Mapping):
        raise ConfigError(f"changes={shown(changes)}; expected values by key, such as {{'steps': 100}}")
    loaded = read(find(config))
    for key, value in (changes or {}).items():
        if not isinstance(key, str):
            raise ConfigError(f"changes: the key {shown(key)} is no text, such as 'data.image_size'")
        check_key(loaded, key)
        set_key(loaded, key, value)
    ranges.check(loaded)
    return loaded.lock()


def read(recipe: str) -> ConfigDict:
    """Returns the config of a recipe as it stands.

    Args:
      recipe: path[:argument], as `find` returns it.

    Raises:
      ConfigError: the file is no recipe, or fails; the message names the line.
    """
    path, colon, argument = recipe.partition(":")
    try:
        module = _import(path)
        if not callable(getattr(module, "get_config", None)):
            raise ConfigError(f"{path} is no recipe; expected a function get_config in it")
        loaded = module.get_config(*[argument] * bool(colon))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever a file of the user's does
        raise ConfigError(_of_recipe(path, error)) from error
    if not isinstance(loaded, ConfigDict):
        raise ConfigError(f"{path}: get_config returned {shown(loaded)}; expected an ml_collections.ConfigDict")
    return loaded


def set_key(config: ConfigDict, key: str, value: object) -> None:
    """Sets a dotted key that exists; raises a ConfigError if the value is of another type, or None where it cannot."""
    if value is None and key not in optional_keys(config):
        raise ConfigError(f"config.{key}=None; it needs a value, such as {shown(flatten(config).get(key))}")
    *sections, leaf = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    try:
        section[leaf] = value
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"config.{key}={shown(value)}: {error}") from error


def optional_keys(config: ConfigDict) -> set[str]:
    """Returns the dotted names of the keys that may be None: those that are, here or in the base config."""
    return {key for leaves in (flatten(config), flatten(base_config())) for key in leaves if leaves[key] is None}


def _import(path: str) -> types.ModuleType:
    module = types.ModuleType(f"recipe_{Path(path).stem}")
    module.__file__ = path
    exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)  # whatever the ending of the file
    return module


def _of_recipe(path: str, error: BaseException) -> str:
    """Says why a recipe fails, and in which of its lines."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f"{path}:{lines[-1]}" if lines else path
    if key := re.search(r'^.?Key "(\w+)" does not exist', str(error)):
        nearest = re.search(r'Did you mean "(\w+)"', str(error))
        return f"{where}: there is no config key {key[1]}" + (f"; did you mean {nearest[1]}?" if nearest else "")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "configs":
        return f"{where}: {error}; outside a checkout, a recipe starts from `from mixer_jax.config import base`"
    if isinstance(error, (SyntaxError, UnicodeDecodeError)) and not lines:
        return f"{path} is no recipe; expected a Python file with a function get_config ({in_short(error)})"
    return f"{where}: the recipe fails: {in_short(error)}"
