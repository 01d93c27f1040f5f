"""Weight files for tests: of parameter trees, and PyTorch's, written without PyTorch."""

import dataclasses
import struct
import zipfile

import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict

from mixer_jax.weights.load import from_arrays, save_weights


def save_params(path, params):
    """Writes the parameter tree of a Mixer to a file of weights."""
    save_weights(path, from_arrays(flatten_dict(params, sep="/"), source="a tree"))


@dataclasses.dataclass
class Tensor:
    """A tensor as a file describes it, which need not be true of the numbers that are stored."""

    stored: np.ndarray
    shape: tuple
    strides: tuple
    offset: int = 0
    more: tuple = ()  # what may follow in a file


@dataclasses.dataclass
class Call:
    """What unpickling would call: a function by its module and name, with arguments and then a state."""

    module: str
    name: str
    arguments: tuple = ()
    state: object = None


_STORAGES = {
    **{np.dtype("float32"): "FloatStorage", np.dtype("float16"): "HalfStorage", np.dtype("float64"): "DoubleStorage"},
    **{np.dtype("int64"): "LongStorage", np.dtype(ml_dtypes.bfloat16): "BFloat16Storage"},
}


class TorchPickle:
    """The pickle in a file of torch.save, opcode by opcode as PyTorch 2 writes it, and its storages."""

    def __init__(self, tree):
        self.storages = []
        self.content = b"\x80\x02" + self.of(tree) + b"."

    def of(self, value):
        """The opcodes of a value."""
        if isinstance(value, bytes):  # opcodes as they are
            return value
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, dict):
            return b"}(" + b"".join(self.of(item) for pair in value.items() for item in pair) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(self.of, value)) + b"e"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self.of, value)) + b"t"
        if isinstance(value, Call):
            made = f"c{value.module}\n{value.name}\n".encode() + self.of(value.arguments) + b"R"
            return made if value.state is None else made + self.of(value.state) + b"b"
        return self.of_tensor(value)

    def of_tensor(self, value):
        """The opcodes of an array, or of what is said of one."""
        if isinstance(value, np.ndarray):
            value = Tensor(value, value.shape, tuple(n // value.itemsize for n in np.ascontiguousarray(value).strides))
        kind = f"ctorch\n{_STORAGES[value.stored.dtype]}\n".encode()
        reference = self.of(("storage", kind, str(len(self.storages)), "cuda:0", value.stored.size)) + b"Q"
        self.storages.append(value.stored.tobytes())
        hooks = Call("collections", "OrderedDict")
        arguments = (reference, value.offset, value.shape, value.strides, False, hooks, *value.more)
        return self.of(Call("torch._utils", "_rebuild_tensor_v2", arguments))


def parameter(array):
    """An nn.Parameter."""
    return Call("torch._utils", "_rebuild_parameter", (array, True, Call("collections", "OrderedDict")))


def save_torch(path, tree):
    """Writes what torch.save writes: nested dicts, lists, tuples, numbers, texts, arrays, `Tensor` and `Call`."""
    pickle = TorchPickle(tree)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for number, content in enumerate(pickle.storages):
            archive.writestr(f"archive/data/{number}", content)
    return path
