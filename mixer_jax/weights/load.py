"""Weights by name: the published files, those of timm, checkpoints of this project and what it wrote itself.

    weights = load_weights("imagenet1k/Mixer-B_16")  # or a file, a work directory, a checkpoint
    print(weights.report())
    logits = weights.create_model().apply({"params": weights.params}, images)

timm computes GELU in its erf form; here, as in the official code, it is the tanh form, whatever the layout.
"""

from collections.abc import Mapping
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
from mixer_jax.models.family import Family
from mixer_jax.models.layouts import OFFICIAL, Layout
from mixer_jax.weights import array_files, downloads
from mixer_jax.weights.weights import Entry, Weights, in_order
from mixer_jax.workdir import saved


def load_weights(source: str | Path, *, cache_dir: Path | None = None) -> Weights:
    """Reads the weights of a model, with its head if it has one.

    Args:
      source: one of `registry.published()`, such as "imagenet1k/Mixer-B_16", which is downloaded once; a work
        directory, for its newest checkpoint, or one checkpoint, <workdir>/checkpoints/<step> or a copy of that folder,
        on a machine of any devices; or a file: .npz in the official layout or its older form, or a state dict of timm
        as .safetensors or, where PyTorch is installed, as .pth, .pt or .bin.
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
    else:
        path = local_path("weights", source)
        if path.is_dir():
            return _of_checkpoint(path)
        if not path.suffix and not path.exists():
            raise ConfigError(
                f"{source}: there is no such work directory, checkpoint or file, and no published weights have that "
                f"name; {suggest(str(source), published)}"
            )
    return from_arrays(array_files.read(path), source=str(source))


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
    if left_over := arrays.keys() - (expected := _expected_shapes(model, image_size)).keys():
        raise ConfigError(f"{source}: {min(left_over)} is no parameter of its model, {model}")
    keys = {name: name for name in arrays}
    taken = {name: _take(arrays, keys, OFFICIAL, name, source, needed) for name, needed in expected.items()}
    return Weights(
        params=unflatten_dict({name: array for name, (array, _) in taken.items()}, sep="/"),
        model=model,
        image_size=image_size,
        source=source,
        layout=OFFICIAL.title,
        entries=tuple(entry for _, entry in taken.values()),
    )


def from_arrays(arrays: Mapping[str, np.ndarray], *, source: str) -> Weights:
    """Makes weights of the arrays of a file, whose keys tell the family and the layout, and whose shapes the model.

    Args:
      arrays: all arrays of the file by key, of any floating dtype.
      source: what messages call the file.

    Returns:
      The weights of one whole model; arrays under keys that the layout does not know are left over.

    Raises:
      ConfigError: the arrays are not those of one model.
    """
    family, layout = _find_layout(arrays, source)
    keys = layout.keys(arrays)
    telling = family.telling
    known = [name for name in telling if not name.startswith("head/") or layout.key(name) in keys]
    told = {name: _take(arrays, keys, layout, name, source)[0] for name in known}
    for name, array in told.items():
        if array.ndim not in telling[name]:
            raise ConfigError(f"{source}: {layout.key(name)} has shape {array.shape}; expected {telling[name][0]} axes")
    num_blocks = layout.num_blocks(keys, family.block)
    model = family.identify({name: array.shape for name, array in told.items()}, num_blocks)
    image_size = family.image_size(unflatten_dict(told, sep="/"))
    params, entries = {}, []
    for name, needed in _expected_shapes(model, image_size).items():
        params[name], entry = _take(arrays, keys, layout, name, source, needed)
        entries.append(entry)
    used = {entry.key for entry in entries}
    entries += [Entry(None, key, tuple(array.shape)) for key, array in arrays.items() if key not in used]
    return Weights(unflatten_dict(params, sep="/"), model, image_size, source, layout.title, tuple(entries))


def _of_checkpoint(folder: Path) -> Weights:
    found = saved.locate(folder)
    return from_config(saved.read_params(found), saved.read_config(found), source=str(folder))


def _find_layout(arrays: Mapping[str, np.ndarray], source: str) -> tuple[Family, Layout]:
    expected = []
    for family in registry.FAMILIES:
        signature = next(iter(family.telling))
        for layout in family.layouts:
            if layout.key(signature) in arrays:
                return family, layout
            expected.append(f"{layout.key(signature)} ({family.name}, {layout.title})")
    raise ConfigError(
        f"{source} holds no model of a known family: expected one of the keys {', '.join(expected)}; "
        f"its {len(arrays)} keys begin with {', '.join(list(arrays)[:3]) or 'nothing'}"
    )


def _expected_shapes(model: Mapping, image_size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all parameters of a model by name, in order."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(registry.create_model(**model).init, jax.random.key(0), image)
    params = flatten_dict(variables["params"], sep="/")
    return {name: params[name].shape for name in in_order(params)}


def _take(
    arrays: Mapping[str, np.ndarray],
    keys: Mapping[str, str],
    layout: Layout,
    name: str,
    source: str,
    needed: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, Entry]:
    """Returns one array as the parameter tree has it, and checks that it is there, and its dtype and shape."""
    expected = f"; expected {needed}" if needed is not None else ""
    if layout.key(name) not in keys:
        raise ConfigError(f"{source}: {layout.key(name)} is missing{expected}")
    key = keys[layout.key(name)]
    if not jnp.issubdtype(arrays[key].dtype, jnp.floating):
        raise ConfigError(f"{source}: {key} has dtype {arrays[key].dtype}; expected floating-point numbers")
    array, change = layout.from_file(name, arrays[key])
    if needed is not None and array.shape != needed:
        in_file = f"{arrays[key].shape}, {change} {array.shape}" if change else array.shape
        raise ConfigError(f"{source}: {key} has shape {in_file}{expected}")
    changes = ["renamed"] if key != name else []
    changes += [change] if change else []
    changes += [f"cast from {array.dtype}"] if array.dtype != np.float32 else []
    return array.astype(np.float32, copy=False), Entry(name, key, array.shape, tuple(changes))
