"""NumPy's .npz archives, read without unpickling and without believing what their headers claim."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import jax.numpy as jnp
import numpy as np

from mixer_jax.errors import ConfigError
from mixer_jax.weights.contents import Contents, check_unpacked_size, checksum, shown

# The archive's comment holds the sum of its arrays: another array would be one parameter too many for other readers.
_SUM = "mixer_jax_sha256="
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path) -> tuple[Contents, str | None]:
    """Reads all arrays of a file, and the sum that was written with them, if any.

    Raises:
      ConfigError: the file is whole and holds what is not read.
      ValueError, OSError, LookupError, zipfile.BadZipFile, NotImplementedError: it is damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    others = []
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(path, archive)
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            if key == info.filename:
                others.append(key)
                continue
            if key in arrays:
                raise ConfigError(f"{path} holds {shown(key)} twice")
            with archive.open(info) as member:
                arrays[key] = _read_array(member, info.file_size, f"{path}: {shown(key)}")
        comment = archive.comment.decode("ascii", "replace")
    if not arrays and others:
        raise ConfigError(f"{path} is a zip archive without arrays; it holds {shown(others[0])}")
    return Contents(arrays, tuple(others)), comment.removeprefix(_SUM) if comment.startswith(_SUM) else None


def write(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as `np.savez` does, and their sum into the archive's comment, where other readers do not look."""
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy")  # of the same time always: the same arrays give the same file
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
        archive.comment = f"{_SUM}{checksum(arrays)}".encode()


def _read_array(member: IO[bytes], size: int, name: str) -> np.ndarray:
    """Reads one .npy file of `size` bytes."""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:  # the third is for names of fields
        raise ConfigError(f"{name} is an array of NumPy's format {version}; expected plain numbers")
    shape, fortran_order, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise ConfigError(f"{name} holds pickled Python objects, which are not read; expected plain numbers")
    if math.prod(shape) * dtype.itemsize != size - member.tell():
        raise ConfigError(f"{name} claims the shape {shown(shape)} of {dtype}, and has {size - member.tell():,} bytes")
    if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None:  # NumPy has no name for bfloat16
        dtype = np.dtype(jnp.bfloat16)
    array = np.frombuffer(bytearray(member.read()), dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")
