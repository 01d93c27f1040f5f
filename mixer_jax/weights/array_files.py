"""Files of named arrays: .npz, .safetensors, and PyTorch's own, which are read without PyTorch."""

import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from mixer_jax.errors import ConfigError, in_short
from mixer_jax.weights import npz_files, torch_files
from mixer_jax.weights.contents import Contents, checksum, shown
from mixer_jax.workdir.layout import whole_file

_WRITTEN = (".npz", ".safetensors")
READ = (*_WRITTEN, ".pth", ".pt", ".bin", ".ckpt", ".pth.tar")  # endings of files that are read
_SUM = "mixer_jax_sha256"  # in the metadata of .safetensors
# What the readers raise of files that are truncated, damaged or of another kind.
_DAMAGED = (
    *(OSError, EOFError, TypeError, ValueError, LookupError, AttributeError, RuntimeError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, safetensors.SafetensorError),
)
# How files begin that are whole and no weights, such as what a failed download leaves.
_OTHER_KINDS = {
    b"\x93NUMPY": "a single array of NumPy (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a pointer of Git LFS to the file itself, which was not fetched",
    b"<": "a web page",
    b"\x1f\x8b": "a file compressed by gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "a file compressed by zstd; unpack it first",
}


def ending(path: Path) -> str:
    """Returns what tells the format of a file: its suffix, or ".pth.tar"."""
    return ".pth.tar" if path.name.endswith(".pth.tar") else path.suffix


def read(path: Path) -> Contents:
    """Reads all arrays of a file by key.

    Raises:
      ConfigError: there is no such file, its ending is unknown, it is damaged, it is not what this project wrote, or it
        holds something else.
    """
    _check_ending(path, READ)
    _check_is_file(path)
    found: tuple[Contents, str | None]
    try:
        if path.suffix == ".npz":
            found = npz_files.read(path)
        elif path.suffix == ".safetensors":
            found = _read_safetensors(path)
        else:
            found = torch_files.read(path), None
    except ConfigError:
        raise
    except _DAMAGED as error:
        if kind := _other_kind(path):
            raise ConfigError(f"{path} is {kind}; expected a {ending(path)} file of weights") from error
        reason = shown(in_short(error))
        raise ConfigError(f"{path} cannot be read; it is damaged, or no {ending(path)} file ({reason})") from error
    contents, recorded = found
    if recorded is not None and recorded != checksum(contents.arrays):
        raise ConfigError(
            f"{path} is damaged, or was changed by another program: its arrays are not those that were written with it "
            "(SHA-256)"
        )
    return contents


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a .npz or .safetensors file, whole or not at all; an existing file is replaced.

    The SHA-256 of the arrays goes with them, where other programs do not look; `read` checks it.

    Raises:
      ConfigError: another ending, or the file cannot be written.
    """
    _check_ending(path, _WRITTEN)
    try:
        with whole_file(path, "wb") as file:
            if path.suffix == ".npz":
                npz_files.write(file, arrays)
            else:  # "pt": what libraries look for to know whose tensors these are
                metadata = {"format": "pt", _SUM: checksum(arrays)}
                safetensors.numpy.save_file(dict(arrays), file.name, metadata=metadata)
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error


def _read_safetensors(path: Path) -> tuple[Contents, str | None]:
    arrays = {}
    with safetensors.safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118  # it is no dict
            try:
                arrays[key] = file.get_tensor(key)
            except AttributeError as error:  # NumPy has no such type
                dtype = file.get_slice(key).get_dtype()
                raise ConfigError(
                    f"{path}: {shown(key)} has the type {dtype}; expected float32, float16, bfloat16 or float64"
                ) from error
        metadata = file.metadata() or {}
    return Contents(arrays), metadata.get(_SUM)


def _check_is_file(path: Path) -> None:
    """Raises a ConfigError if there is no such file, or it is empty, a folder, a pipe or a device."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        raise ConfigError(f"{shown(str(path))}: there is no such file ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise ConfigError(f"{path} is empty; expected a file of weights")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(
            f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no file'}; expected a file of weights"
        )


def _other_kind(path: Path) -> str | None:
    """Returns what a file is by its first bytes, None if that is not known."""
    try:
        with path.open("rb") as file:
            begin = file.read(64).lstrip(b"\xef\xbb\xbf \r\n")
    except OSError:
        return None
    return next((kind for magic, kind in _OTHER_KINDS.items() if begin.startswith(magic)), None)


def _check_ending(path: Path, known: tuple[str, ...]) -> None:
    if ending(path) not in known:
        raise ConfigError(f"{shown(str(path))}: the ending {ending(path)!r} is unknown; known: {', '.join(known)}")
