"""Weights for images of another size than they were trained on: the token-mixing MLPs, whose width is the patches'.

"block_diagonal" is the paper's (Appendix C): at K times the resolution, the image is K x K parts of the old size, and
each MLP becomes K^2 copies of itself, each of which mixes the tokens of one part, until training fills the rest.
"interpolate" is not in the paper. It takes images of any size: each MLP sees the tokens averaged or interpolated to the
old grid of patches, and its output is interpolated to the new one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mixer_jax.config.checks import one_of
from mixer_jax.errors import ConfigError
from mixer_jax.runtime import hardware

METHODS = ("block_diagonal", "interpolate")
Mlp = dict[str, np.ndarray]  # Dense_0/kernel (tokens, tokens_mlp_dim), Dense_0/bias, Dense_1/kernel, Dense_1/bias


def image_size(params: dict) -> int:
    """Returns the height and width, in pixels, of the images that parameters are for; a ConfigError if not square."""
    return _grid(params) * params["stem"]["kernel"].shape[0]


def change(params: dict, image_size: int, method: str = "block_diagonal") -> dict:
    """Returns the parameters of a model for square images of another size.

    Args:
      params: the parameters of a Mixer for square images.
      image_size: height and width of the new images, in pixels; for "block_diagonal" a multiple of the old.
      method: "block_diagonal" or "interpolate"; see above.

    Returns:
      A new parameter tree of NumPy arrays. With "block_diagonal" at K times the size, the model's tokens_mlp_dim is K^2
      times the old one, and pre_logits of an image are the mean of those of its K x K parts.

    Raises:
      ConfigError: the size is no multiple of the patch, or for "block_diagonal" of the old size, or no host holds it.
    """
    one_of("method", method, METHODS)
    patch_size, old_grid = params["stem"]["kernel"].shape[0], _grid(params)
    if image_size < 1 or image_size % patch_size:
        nearest = max(round(image_size / patch_size), 1) * patch_size
        raise ConfigError(
            f"image_size={image_size} is no multiple of patch_size={patch_size}; the nearest size that is: {nearest}"
        )
    grid = image_size // patch_size
    if grid == old_grid:
        return params
    factor = 1 if method == "interpolate" else growth(old_grid * patch_size, image_size)
    _check_memory(params, (grid / old_grid) ** 2 * factor**2, image_size)
    if method == "interpolate":
        return _map_token_mixing(params, lambda mlp: _interpolate(mlp, old_grid, grid))
    return _map_token_mixing(params, lambda mlp: _block_diagonal(mlp, old_grid, factor))


def _check_memory(params: dict, times: float, image_size: int) -> None:
    """Raises a ConfigError if token-mixing weights that are so many times as large are more than the host can hold."""
    mlps = [layers["token_mixing"] for layers in params.values() if "token_mixing" in layers]
    needed = times * sum(mlp[name]["kernel"].nbytes for mlp in mlps for name in ("Dense_0", "Dense_1"))
    if needed > (held := hardware.host_memory()):
        raise ConfigError(
            f"weights for {image_size} pixels take {needed / 2**30:,.1f} GiB; this machine has {held / 2**30:,.1f} GiB"
        )


def growth(old: int, new: int) -> int:
    """Returns how many times as large images of `new` pixels are as those of `old`; a ConfigError if not whole."""
    if new % old:
        raise ConfigError(
            f"from {old} to {new} pixels is no whole factor: method='block_diagonal', the paper's, goes from {old} to "
            f"{2 * old}, {3 * old}, ...; method='interpolate', of the token-mixing weights, goes to any size: "
            f"python -m mixer_jax convert --source=<weights> --target=<file>.npz --resolution={new} "
            "--method=interpolate"
        )
    return new // old


def _grid(params: dict) -> int:
    """Returns the number of patches along a side of the image."""
    tokens = params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape[-2]
    if math.isqrt(tokens) ** 2 != tokens:
        raise ConfigError(f"the weights are for images of {tokens} patches, which are not square")
    return math.isqrt(tokens)


def _map_token_mixing(params: dict, function: Callable[[Mlp], Mlp]) -> dict:
    changed = {}
    for block, layers in params.items():
        changed[block] = layers
        if "token_mixing" in layers:
            mlp = {name: np.asarray(array) for name, array in flatten_dict(layers["token_mixing"], sep="/").items()}
            changed[block] = {**layers, "token_mixing": unflatten_dict(function(mlp), sep="/")}
    return changed


def _block_diagonal(mlp: Mlp, grid: int, factor: int) -> Mlp:
    """Returns factor^2 copies of an MLP side by side (Appendix C).

    The model's tokens are in raster order over the whole image, and those of a part are not neighbours in it: the
    blocks' rows and columns are spread to where the tokens of their part are.
    """
    parts: np.ndarray = np.arange((factor * grid) ** 2)
    parts = parts.reshape(factor, grid, factor, grid)  # token at (part, row, part, column)
    parts = parts.swapaxes(1, 2).reshape(factor**2, grid**2)  # (parts, tokens of a part)
    *channels, _, width = mlp["Dense_0/kernel"].shape  # untied token mixing: an MLP for each channel
    kernel_0 = np.zeros((*channels, parts.size, len(parts) * width), mlp["Dense_0/kernel"].dtype)
    kernel_1 = np.zeros((*channels, len(parts) * width, parts.size), mlp["Dense_1/kernel"].dtype)
    bias_1 = np.empty((*channels, parts.size), mlp["Dense_1/bias"].dtype)
    for part, part_tokens in enumerate(parts):
        hidden = slice(part * width, (part + 1) * width)
        kernel_0[..., part_tokens, hidden] = mlp["Dense_0/kernel"]
        kernel_1[..., hidden, part_tokens] = mlp["Dense_1/kernel"]
        bias_1[..., part_tokens] = mlp["Dense_1/bias"]
    return {
        "Dense_0/kernel": kernel_0,
        "Dense_0/bias": np.tile(mlp["Dense_0/bias"], len(parts)),
        "Dense_1/kernel": kernel_1,
        "Dense_1/bias": bias_1,
    }


def _interpolate(mlp: Mlp, old: int, new: int) -> Mlp:
    """Returns the MLP between a resize of the tokens to the old grid and one of its output to the new grid."""
    to_old, to_new = _resize_matrix(new, old), _resize_matrix(old, new)  # (old, new), (new, old)
    kernel_0, kernel_1, bias_1 = (mlp[name] for name in ("Dense_0/kernel", "Dense_1/kernel", "Dense_1/bias"))
    *channels, _, width = kernel_0.shape  # untied token mixing: an MLP for each channel
    kernel_0 = kernel_0.reshape(*channels, old, old, width)
    kernel_1 = kernel_1.reshape(*channels, width, old, old)
    bias_1 = bias_1.reshape(*channels, old, old)
    kernel_0 = np.einsum("...hwd,hH,wW->...HWd", kernel_0, to_old, to_old, optimize=True)
    kernel_1 = np.einsum("...dhw,Hh,Ww->...dHW", kernel_1, to_new, to_new, optimize=True)
    bias_1 = np.einsum("...hw,Hh,Ww->...HW", bias_1, to_new, to_new, optimize=True)
    return {
        "Dense_0/kernel": kernel_0.reshape(*channels, new**2, width),
        "Dense_0/bias": mlp["Dense_0/bias"],
        "Dense_1/kernel": kernel_1.reshape(*channels, width, new**2),
        "Dense_1/bias": bias_1.reshape(*channels, new**2),
    }


def _resize_matrix(old: int, new: int) -> np.ndarray:
    """Returns the matrix (new, old) of a linear resize with anti-aliasing; its rows sum to 1."""
    return np.asarray(jax.image.resize(jnp.eye(old), (new, old), "linear"))
