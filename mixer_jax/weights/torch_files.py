"""PyTorch's files without PyTorch: the zip archives that torch.save writes, and its older format.

No code is run, whatever the file holds: `pickles` reads the pickle in it as plain data.
"""

import functools
import io
import math
import mmap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import jax.numpy as jnp
import numpy as np

from mixer_jax.errors import ConfigError
from mixer_jax.weights import pickles
from mixer_jax.weights.contents import Contents, check_unpacked_size, shown
from mixer_jax.weights.pickles import Made, Name, Reference

_MAGIC = 0x1950A86A20F9469CFC6C  # the older format begins with it, as a pickle
_MOST_ENTRIES = 100_000  # of all nested dicts; one that holds itself has no end
_DEEPEST = 20
_TYPES = {  # of storages, and of tensors by name
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
    **{"uint16": "uint16", "uint32": "uint32", "uint64": "uint64"},
}
_Storage = Callable[[str], bytearray]  # its bytes by its key


def read(path: Path) -> Contents:
    """Reads the tensors of a file, those of nested dicts with the keys joined by dots.

    Raises:
      ConfigError: the file is whole and holds something else, or a tensor that cannot be read.
      ValueError, OSError, LookupError, zipfile.BadZipFile, NotImplementedError: it is damaged.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                return _read_zip(path, archive)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_older(path, content)


def _read_zip(path: Path, archive: zipfile.ZipFile) -> Contents:
    check_unpacked_size(path, archive)
    names = archive.namelist()
    root = next((name.removesuffix("data.pkl") for name in names if name.split("/")[1:] == ["data.pkl"]), None)
    if root is None:
        raise ConfigError(f"{path} is a zip archive of something else than torch.save's; it has no data.pkl")
    if f"{root}constants.pkl" in names:
        raise ConfigError(f"{path} holds a TorchScript program; expected a state dict, as torch.save writes it")
    order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in names else "little"
    tree = pickles.load(io.BytesIO(archive.read(f"{root}data.pkl")))
    return _contents(path, tree, lambda key: bytearray(archive.read(f"{root}data/{key}")), order)


def _read_older(path: Path, content: mmap.mmap) -> Contents:
    # Pickles of the magic number, the version, the machine, the tree and the keys of the storages, then the storages,
    # each with the number of its elements before it.
    stream: IO[bytes] = content  # type: ignore[assignment]
    if pickles.load(stream) != _MAGIC:
        raise ConfigError(f"{path} is a pickle, and none that torch.save has written; expected a state dict")
    pickles.load(stream)
    machine, tree, keys = (pickles.load(stream) for _ in range(3))
    order = "little" if not isinstance(machine, dict) or machine.get("little_endian", True) else "big"
    try:
        sizes = {key: _type_of(kind).itemsize for key, kind in _storages(tree)}
    except ConfigError as error:
        raise ConfigError(f"{path}: a tensor {error}") from error
    places = {}
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(content.read(8), order, signed=True)  # type: ignore[arg-type]
        places[key] = (content.tell(), count * sizes[key])
        if count < 0 or content.tell() + count * sizes[key] > len(content):
            raise ValueError(f"storage {key} is not whole")
        content.seek(count * sizes[key], io.SEEK_CUR)
    return _contents(path, tree, lambda key: bytearray(content[places[key][0] : sum(places[key])]), order)


def _contents(path: Path, tree: object, storage: _Storage, order: str) -> Contents:
    if not isinstance(tree, dict):
        kind = f"a pickled {shown(tree.name)}" if isinstance(tree, Made) else f"a {type(tree).__name__}"
        raise ConfigError(f"{path} holds {kind}; expected a state dict, tensors by name, as in model.state_dict()")
    storage = functools.cache(storage)  # tensors that share one are views of it: no file needs more than its own size
    arrays: dict[str, np.ndarray] = {}
    others: list[str] = []
    for key, value in _entries(path, tree):
        tensor = _tensor(value)
        if tensor is None:
            others.append(key)
            continue
        try:
            arrays[key] = _array(tensor, storage, order)
        except ConfigError as error:
            raise ConfigError(f"{path}: {shown(key)} {error}") from error
    return Contents(arrays, tuple(others))


def _entries(path: Path, tree: dict) -> Iterator[tuple[str, object]]:
    """Yields what nested dicts hold, with the keys joined by dots."""
    waiting: list[tuple[str, object, int]] = [("", tree, 0)]
    count = 0
    while waiting:
        prefix, value, depth = waiting.pop()
        if not isinstance(value, dict):
            yield prefix, value
            continue
        count += len(value)
        if depth > _DEEPEST or count > _MOST_ENTRIES:
            raise ConfigError(f"{path} holds dicts within dicts without end; expected a state dict, tensors by name")
        waiting += [(f"{prefix}.{key}" if prefix else str(key), each, depth + 1) for key, each in value.items()][::-1]


def _tensor(value: object) -> Made | None:
    """Returns how a tensor or a parameter would be made; None of anything else."""
    while isinstance(value, Made) and value.name.startswith("torch._utils._rebuild_parameter") and value.arguments:
        value = value.arguments[0]
    rebuilt = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
    return value if isinstance(value, Made) and value.name in rebuilt else None


def _storages(tree: object) -> Iterator[tuple[object, object]]:
    """Yields key and type of all storages that a tree refers to, wherever."""
    waiting, seen = [tree], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Reference) and isinstance(value.value, tuple):
            if value.value[0] == "storage":  # another kind is the source code of a module
                yield value.value[2], value.value[1]
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, Made):
            waiting += [value.arguments, value.state]


def _type_of(kind: object) -> np.dtype:
    name = kind.text.rpartition(".")[2] if isinstance(kind, Name) else ""
    if name == "UntypedStorage":
        return np.dtype("uint8")
    if name not in _TYPES:
        raise ConfigError(f"has the type {shown(name)}; expected float32, float16, bfloat16 or float64")
    return np.dtype(jnp.bfloat16) if _TYPES[name] == "bfloat16" else np.dtype(_TYPES[name])


def _array(tensor: Made, storage: _Storage, order: str) -> np.ndarray:
    """Returns a tensor as an array over its storage, which others may share."""
    reference, offset, shape, strides = tensor.arguments[:4]
    _, kind, key, _, count = reference.value[:5]
    third = tensor.name.endswith("_v3")  # there the storage has no type
    # A part of another storage, of PyTorch before 0.4, or numbers that are stored with the other sign.
    if any(reference.value[5:]) or any(tensor.arguments[7 if third else 6 :]):
        raise ConfigError("is stored in a form that is not read; save a copy of its numbers")
    dtype = _type_of(tensor.arguments[6] if third else kind)
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)) or len(shape) != len(strides):
        raise ValueError("a tensor of a shape that is no numbers")
    content = storage(key)
    stored = len(content) // dtype.itemsize
    if len(content) != count * (1 if third else dtype.itemsize):
        raise ValueError(f"a storage of {len(content):,} bytes instead of {count:,} elements")
    if math.prod(shape) > stored:
        raise ConfigError(
            f"claims the shape {shown(shape)}, and {stored:,} numbers are stored: it is expanded; save it with "
            ".contiguous()"
        )
    steps = tuple(stride * dtype.itemsize for stride in strides)
    swapped = dtype.newbyteorder(">") if order == "big" else dtype
    return np.ndarray(shape, swapped, content, offset * dtype.itemsize, steps)
