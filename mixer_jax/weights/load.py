"""Weights from elsewhere: the published files, timm's state dicts, and what this project wrote itself.

    weights = load("imagenet1k/Mixer-B_16")  # or a file
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

from mixer_jax.config.checks import suggest
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry as models
from mixer_jax.models.layouts import OFFICIAL, OLDER, TIMM, Layout
from mixer_jax.weights import array_files
from mixer_jax.weights import downloads as published
from mixer_jax.weights.weights import Entry, Weights, attributes, in_order
from mixer_jax.workdir import checkpoints as checkpoint

# The arrays whose shapes tell all others' (the head's tells whether there is one), with their numbers of axes.
_TELLING = {
    "stem/kernel": (4,),
    "MixerBlock_0/token_mixing/Dense_0/kernel": (2, 3),  # three: untied token mixing
    "MixerBlock_0/channel_mixing/Dense_0/kernel": (2,),
    "head/kernel": (2,),
}


def load(source: str | Path, *, cache_dir: Path | None = None) -> Weights:
    """Reads the weights of a Mixer.

    Args:
      source: one of `published.NAMES`, such as "imagenet1k/Mixer-B_16", which is downloaded once; or a file: .npz in
        the official layout or its older form, or a state dict of timm's `mixer_*` models as .safetensors or, where
        PyTorch is installed, as .pth, .pt or .bin.
      cache_dir: where downloads are kept; by default `published.default_cache_dir()`.

    Returns:
      The weights of one whole Mixer.

    Raises:
      ConfigError: there is no such file, it cannot be read, or its arrays are not those of one Mixer; the message then
        names the first wrong key, its shape and the shape that would be right.
    """
    path = published.fetch(source, cache_dir) if source in published.NAMES else Path(source)
    if not path.suffix and not path.exists():
        names = suggest(str(source), published.NAMES)
        raise ConfigError(f"{source} is neither a file nor the name of published weights; {names}")
    return from_arrays(array_files.read(path), source=str(source))


def save(path: Path, params: dict) -> None:
    """Writes parameters to a file: .npz in the official layout, or .safetensors as timm's state dict.

    Args:
      path: the file; an existing one is replaced.
      params: the parameter tree of a Mixer.

    Raises:
      ConfigError: the file's ending is another one, it cannot be written, or timm has no such model.
    """
    arrays = {name: np.asarray(array) for name, array in flatten_dict(params, sep="/").items()}
    if Path(path).suffix == ".safetensors":
        if arrays["MixerBlock_0/token_mixing/Dense_0/kernel"].ndim == 3:
            raise ConfigError(f"{path}: timm has no untied token mixing; write a .npz file")
        arrays = {TIMM.key(name): TIMM.to_file(name, array) for name, array in arrays.items()}
    array_files.write(Path(path), arrays)


def from_arrays(arrays: Mapping[str, np.ndarray], *, source: str) -> Weights:
    """Makes weights of the arrays of a file, in a layout that is found by their keys.

    Args:
      arrays: all arrays of the file by key, of any floating dtype.
      source: what messages call the file.

    Returns:
      The weights of one whole Mixer; arrays under keys that the layout does not know are left over.

    Raises:
      ConfigError: the arrays are not those of one Mixer.
    """
    layout = _find_layout(arrays, source)
    keys = layout.keys(arrays)
    known = [name for name in _TELLING if not name.startswith("head/") or layout.key(name) in keys]
    shapes = {name: _take(arrays, keys, layout, name, source)[0].shape for name in known}
    for name, shape in shapes.items():
        if len(shape) not in _TELLING[name]:
            raise ConfigError(f"{source}: {layout.key(name)} has shape {shape}; expected {_TELLING[name][0]} axes")
    params, entries = {}, []
    for name, needed in _expected_shapes(shapes, layout.num_blocks(keys)).items():
        params[name], entry = _take(arrays, keys, layout, name, source, needed)
        entries.append(entry)
    used = {entry.key for entry in entries}
    entries += [Entry(None, key, tuple(array.shape)) for key, array in arrays.items() if key not in used]
    return Weights(unflatten_dict(params, sep="/"), source, layout.title, tuple(entries))


def _find_layout(arrays: Mapping[str, np.ndarray], source: str) -> Layout:
    layouts = (OFFICIAL, OLDER, TIMM)
    for layout in layouts:
        if layout.key("stem/kernel") in arrays:
            return layout
    expected = ", ".join(f"{layout.key('stem/kernel')} ({layout.title})" for layout in layouts)
    raise ConfigError(
        f"{source} holds no Mixer: expected one of the keys {expected}; "
        f"its {len(arrays)} keys begin with {', '.join(list(arrays)[:3]) or 'nothing'}"
    )


def _expected_shapes(shapes: Mapping[str, tuple[int, ...]], num_blocks: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all arrays of the model that the shapes of a few arrays tell."""
    model = models.create(**attributes(shapes, num_blocks))
    tokens = shapes["MixerBlock_0/token_mixing/Dense_0/kernel"][-2]
    image = jax.ShapeDtypeStruct((1, model.patch_size, tokens * model.patch_size, 3), jnp.float32)  # a row of patches
    params = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), image)["params"], sep="/")
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
    expected = f"; expected {needed}" if needed else ""
    if layout.key(name) not in keys:
        raise ConfigError(f"{source}: {layout.key(name)} is missing{expected}")
    key = keys[layout.key(name)]
    if not jnp.issubdtype(arrays[key].dtype, jnp.floating):
        raise ConfigError(f"{source}: {key} has dtype {arrays[key].dtype}; expected floating-point numbers")
    array, change = layout.from_file(name, arrays[key])
    if needed and array.shape != needed:
        in_file = f"{arrays[key].shape}, {change} {array.shape}" if change else array.shape
        raise ConfigError(f"{source}: {key} has shape {in_file}{expected}")
    changes = ["renamed"] if key != name else []
    changes += [change] if change else []
    changes += [f"cast from {array.dtype}"] if array.dtype != np.float32 else []
    return array.astype(np.float32, copy=False), Entry(name, key, array.shape, tuple(changes))


def read_weights(source: str, cache_dir: Path | None = None) -> Weights:
    """Reads weights from a checkpoint of this project, or else from what `load` reads.

    Args:
      source: a work directory, for its newest checkpoint; one checkpoint, `<workdir>/checkpoints/<step>`; or a file or
        published name.
      cache_dir: where downloads are kept; by default `published.default_cache_dir()`.

    Returns:
      The weights of one whole Mixer.

    Raises:
      ConfigError: there is nothing of that name, or it cannot be read.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if not folder.suffix and not folder.exists() and source not in published.NAMES:
            raise ConfigError(
                f"{source}: there is no such work directory, checkpoint or file, and no published weights have that "
                f"name; {suggest(source, published.NAMES)}"
            )
        return load(source, cache_dir=cache_dir)
    params = checkpoint.read_params(folder)
    return from_arrays(flatten_dict(params, sep="/"), source=source)
