"""Files of named arrays: .npz, .safetensors, and PyTorch's own where it is installed."""

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mixer_jax.errors import ConfigError
from mixer_jax.workdir.layout import whole_file

_WRITTEN = (".npz", ".safetensors")
_READ = (*_WRITTEN, ".pth", ".pt", ".bin")
# What the readers raise of files that are truncated, damaged or of another kind.
_DAMAGED = (
    *(OSError, EOFError, TypeError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, safetensors.SafetensorError),
)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of a file by key.

    Raises:
      ConfigError: there is no such file, its ending is unknown, it is damaged, or PyTorch is needed and not installed.
    """
    _check_ending(path, _READ)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return {key: arrays[key] for key in arrays.files}
        return safetensors.numpy.load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    except _DAMAGED as error:
        raise ConfigError(f"{path} cannot be read; it is damaged, or no {path.suffix} file ({error})") from error


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a .npz or .safetensors file, whole or not at all; an existing file is replaced.

    Raises:
      ConfigError: another ending, or the file cannot be written.
    """
    _check_ending(path, _WRITTEN)
    try:
        with whole_file(path, "wb") as file:
            if path.suffix == ".npz":
                np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's types take an array for allow_pickle
            else:  # "pt": what libraries look for to know whose tensors these are
                safetensors.numpy.save_file(dict(arrays), file.name, metadata={"format": "pt"})
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # not needed for anything else
    except ImportError as error:
        raise ConfigError(f"{path}: PyTorch files need the package torch; without it, use .safetensors") from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ConfigError(f"{path} holds no state dict, tensors by name")
    return {key: _from_torch(torch, tensor) for key, tensor in tensors.items()}


def _from_torch(torch, tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:  # NumPy's own types do not have it
        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def _check_ending(path: Path, known: tuple[str, ...]) -> None:
    if path.suffix not in known:
        raise ConfigError(f"{path}: the ending {path.suffix!r} is unknown; known: {', '.join(known)}")
