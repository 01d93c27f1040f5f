"""Weights by name: the published files, those of timm, checkpoints of this project and what it wrote itself.

    weights = load_weights("imagenet1k/Mixer-B_16")  # or a file, a work directory, a checkpoint
    print(weights.report())
    logits = weights.create_model().apply({"params": weights.params}, images)

timm computes GELU in its erf form; here, as in the official code, it is the tanh form, whatever the layout.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mixer_jax.config.checks import suggest
from mixer_jax.config.paths import local_path
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.layouts import OFFICIAL
from mixer_jax.weights import array_files, downloads, parts
from mixer_jax.weights.contents import shown
from mixer_jax.weights.parts import Part
from mixer_jax.weights.weights import Entry, Weights, in_order
from mixer_jax.workdir import saved

logger = logging.getLogger("mixer_jax")

_TYPES = ("float32", "float16", "bfloat16", "float64")
_TYPES_TEXT = f"{', '.join(_TYPES[:-1])} or {_TYPES[-1]}"
_MOST_BLOCKS = 500  # the deepest published model has 32


def load_weights(source: str | Path, *, part: str | None = None, cache_dir: Path | None = None) -> Weights:
    """Reads the weights of a model, with its head if it has one.

    Args:
      source: one of `registry.published()`, such as "imagenet1k/Mixer-B_16", which is downloaded once; a work
        directory, for its newest checkpoint, or one checkpoint, <workdir>/checkpoints/<step> or a copy of that folder,
        on a machine of any devices; or a file: .npz in the official layout or its older form, or the state dict of a
        model of timm as .safetensors, or as torch.save writes it, .pth, .pt, .bin, .ckpt or .pth.tar, also within a
        training checkpoint.
      part: of a file that holds several sets of weights, which one: its prefix or the first word of that, such as
        "state_dict". By default the moving averages, "model_ema", "state_dict_ema" and the like, if there are any.
      cache_dir: where downloads are kept; by default `downloads.default_cache_dir()`.

    Returns:
      The weights of one whole model.

    Raises:
      ConfigError: there is nothing of that name, it cannot be read, or its arrays are not those of one model; the
        message then names the first wrong key, its shape and the shape that would be right.
    """
    published = registry.published()
    if source in published:
        path = downloads.fetch(str(source), cache_dir)
        weights = _of_file(path, str(source), part)
        return weights.from_pixels(*published[str(source)].pixels)
    path = local_path("weights", source)
    if os.path.isdir(path):  # pathlib's own raises of a name that is too long
        if part is not None:
            raise ConfigError(f"{source} is a folder; a part, here {shown(part)!r}, is of a file")
        return _of_checkpoint(path)
    if array_files.ending(path) not in array_files.READ and not os.path.lexists(path):
        raise ConfigError(
            f"{shown(str(source))}: there is no such work directory, checkpoint or file, and no published weights have "
            f"that name; {suggest(str(source), published)}"
        )
    return _of_file(path, str(source), part)


def _of_file(path: Path, source: str, part: str | None) -> Weights:
    contents = array_files.read(path)
    weights = from_arrays(contents.arrays, source=source, part=part, others=contents.others)
    if part is None and weights.beside:
        beside = ", ".join(shown(title) for title in weights.beside)
        logger.warning(
            "%s: the weights of %s are taken; there are also %s",
            source,
            shown(weights.part) if weights.part else "the top level",
            beside,
        )
    return weights


def save_weights(path: str | Path, weights: Weights) -> None:
    """Writes weights to a file: .npz in the official layout, or .safetensors as timm's state dict.

    Args:
      path: the file; an existing one is replaced.
      weights: the weights.

    Raises:
      ConfigError: the file's ending is another one, it cannot be written, or timm has no such model.
    """
    path = local_path("weights", path)
    arrays = {name: np.asarray(array) for name, array in flatten_dict(weights.params, sep="/").items()}
    if path.suffix == ".safetensors":
        layouts = [layout for layout in weights.family.layouts if layout.is_written_to(path.suffix)]
        if not layouts:
            raise ConfigError(f"{path}: timm has no {weights.model['name']}; write a .npz file")
        try:
            weights.family.check_written(layouts[0], arrays)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        arrays = {layouts[0].key(name): layouts[0].to_file(name, array) for name, array in arrays.items()}
    array_files.write(path, arrays)


def from_config(params: dict, config: ConfigDict | Mapping, *, source: str) -> Weights:
    """Makes weights of the parameters of a training; its config names the model.

    Args:
      params: the parameter tree.
      config: the config that they were trained with, complete.
      source: what messages call them.

    Raises:
      ConfigError: the parameters are not those of the config's model.
    """
    model = {**registry.essential(config["model"]), "num_classes": config["data"]["num_classes"]}
    image_size = config["data"]["image_size"]
    arrays = flatten_dict(params, sep="/")
    found = Part(registry.family(model["name"]), OFFICIAL, "", {name: name for name in arrays})
    if left_over := arrays.keys() - (expected := _expected_shapes(model, image_size)).keys():
        raise ConfigError(f"{source}: {min(left_over)} is no parameter of its model, {model}")
    taken = {name: _take(arrays, found, name, source, needed) for name, needed in expected.items()}
    return Weights(
        params=unflatten_dict({name: array for name, (array, _) in taken.items()}, sep="/"),
        model=model,
        image_size=image_size,
        source=source,
        layout=OFFICIAL.title,
        entries=tuple(entry for _, entry in taken.values()),
    )


def from_arrays(
    arrays: Mapping[str, np.ndarray], *, source: str, part: str | None = None, others: Sequence[str] = ()
) -> Weights:
    """Makes weights of the arrays of a file, whose keys tell the family and the layout, and whose shapes the model.

    Args:
      arrays: all arrays of the file by key, of float32, float16, bfloat16 or float64.
      source: what messages call the file.
      part: which of several sets of weights, as in `load_weights`.
      others: the keys of what else is in the file.

    Returns:
      The weights of one whole model; arrays under keys that the layout does not know are left over.

    Raises:
      ConfigError: the arrays are not those of one model.
    """
    found = parts.find(arrays, source, wanted=part, others=others)
    family, layout = found.family, found.layout
    telling = family.telling
    known = [name for name in telling if not name.startswith("head/") or layout.key(name) in found.keys]
    told = {name: _take(arrays, found, name, source)[0] for name in known}
    for name, array in told.items():
        if array.ndim not in telling[name]:
            key = found.keys[layout.key(name)]
            raise ConfigError(f"{source}: {shown(key)} has shape {arrays[key].shape}; expected {telling[name][0]} axes")
    model = family.identify({name: array.shape for name, array in told.items()}, _num_blocks(found, source))
    try:
        image_size = family.image_size(unflatten_dict(told, sep="/"))
        expected = _expected_shapes(model, image_size)
    except (ValueError, TypeError, OverflowError) as error:  # dimensions of 0, or beyond what can be counted
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{source} holds no model that can be made: {reason}") from error
    params, entries = {}, []
    for name, needed in expected.items():
        params[name], entry = _take(arrays, found, name, source, needed)
        entries.append(entry)
    used = {entry.key for entry in entries}
    entries += [Entry(None, key, tuple(array.shape)) for key, array in arrays.items() if key not in used]
    entries += [Entry(None, key, None) for key in others]
    tree = unflatten_dict(params, sep="/")
    return Weights(tree, model, image_size, source, layout.title, tuple(entries), found.title, found.beside)


def _of_checkpoint(folder: Path) -> Weights:
    found = saved.locate(folder)
    return from_config(saved.read_params(found), saved.read_config(found), source=str(folder))


def _num_blocks(found: Part, source: str) -> int:
    """Returns how many blocks there are; a ConfigError if a number is missing, or there are too many."""
    if not found.family.block:
        return 1
    numbers = found.layout.blocks(found.keys, found.family.block)
    block = f"{found.prefix}{found.layout.key(found.family.block)}"
    absent = next(number for number in range(len(numbers) + 1) if number not in numbers)
    if absent < len(numbers):
        raise ConfigError(f"{source}: {block}{absent} is missing, and {block}{max(numbers)} is there")
    if absent > _MOST_BLOCKS:
        raise ConfigError(f"{source} holds {absent:,} blocks; expected at most {_MOST_BLOCKS}")
    return max(absent, 1)


def _expected_shapes(model: Mapping, image_size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all parameters of a model by name, in order."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(registry.create_model(**model).init, jax.random.key(0), image)
    params = flatten_dict(variables["params"], sep="/")
    return {name: params[name].shape for name in in_order(params)}


def _take(
    arrays: Mapping[str, np.ndarray], found: Part, name: str, source: str, needed: tuple[int, ...] | None = None
) -> tuple[np.ndarray, Entry]:
    """Returns one array as the parameter tree has it, and checks that it is there, its type, shape and numbers."""
    layout = found.layout
    expected = f"; expected {needed}" if needed is not None else ""
    if layout.key(name) not in found.keys:
        raise ConfigError(f"{source}: {shown(found.prefix + layout.key(name))} is missing{expected}")
    key = found.keys[layout.key(name)]
    stored = arrays[key]
    if stored.dtype.name not in _TYPES:
        float8 = ", as NumPy stores float8" if stored.dtype == "V1" else ""
        raise ConfigError(
            f"{source}: {shown(key)} has dtype {shown(str(stored.dtype))}{float8}; expected floating-point numbers, "
            f"{_TYPES_TEXT}"
        )
    array, change = layout.from_file(name, stored)
    if needed is not None and array.shape != needed:
        in_file = f"{stored.shape}, {change} {array.shape}" if change else array.shape
        raise ConfigError(f"{source}: {shown(key)} has shape {in_file}{expected}")
    changes = ["renamed"] if key != name else []
    changes += [change] if change else []
    changes += [f"cast from {array.dtype}"] if array.dtype != np.float32 else []
    with np.errstate(over="ignore"):  # what becomes infinite is refused by name
        cast = array.astype(np.float32, copy=False)
    if not np.isfinite(cast).all():
        raise ConfigError(f"{source}: {shown(key)} {_not_finite(array, cast)}; expected finite numbers")
    return cast, Entry(name, key, array.shape, tuple(changes))


def _not_finite(array: np.ndarray, cast: np.ndarray) -> str:
    """Says which numbers of an array are not finite as they are, or not as float32."""
    wrong = ~np.isfinite(cast)
    first = float(array[wrong][0])
    became = f", which is {cast[wrong][0]} as float32" if np.isfinite(first) else ""
    return f"has {wrong.sum():,} of {wrong.size:,} values that are not finite, the first {first}{became}"
