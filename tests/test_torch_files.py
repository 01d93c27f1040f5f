"""PyTorch's files, without PyTorch: two that it has written, what training programs put into them, and what is refused.

files/timm_training.pth.tar has the entries of timm's checkpoint: epoch, arch, state_dict, optimizer, version, args (an
argparse.Namespace), amp_scaler, state_dict_ema, metric; torch 2.13. files/older_bfloat16.pth is in the format before
PyTorch 1.6. Tensor i of a set is start + i + (0, 1, 2, ...) / 8, and start is 0, and 100 of the averages.
"""

import builtins
import io
import logging
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.weights import array_files, pickles
from mixer_jax.weights.load import from_arrays, load_weights
from tests.weight_files import Call, Tensor, parameter, save_torch

ROOT = Path(__file__).parents[1]
FILES = Path(__file__).parent / "files"
MODEL = {"patch_size": 2, "num_blocks": 2, "hidden_dim": 4, "tokens_mlp_dim": 3, "channels_mlp_dim": 5}


def state_dict(start=0, prefix=""):
    """The arrays of the files by timm's keys, in timm's order."""
    shapes = {"stem.proj.weight": (4, 3, 2, 2), "stem.proj.bias": (4,)}
    for block in ("blocks.0.", "blocks.1."):
        for part, width, hidden in (("norm1", 4, 0), ("mlp_tokens", 4, 3), ("norm2", 4, 0), ("mlp_channels", 4, 5)):
            if not hidden:
                shapes |= {f"{block}{part}.weight": (4,), f"{block}{part}.bias": (4,)}
                continue
            shapes |= {f"{block}{part}.fc1.weight": (hidden, width), f"{block}{part}.fc1.bias": (hidden,)}
            shapes |= {f"{block}{part}.fc2.weight": (width, hidden), f"{block}{part}.fc2.bias": (width,)}
    shapes |= {"norm.weight": (4,), "norm.bias": (4,), "head.weight": (3, 4), "head.bias": (3,)}
    values = {key: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 8 for key, shape in shapes.items()}
    return {f"{prefix}{key}": start + i + value for i, (key, value) in enumerate(values.items())}


def assert_weights(weights, arrays):
    expected = from_arrays(arrays, source="arrays").params
    np.testing.assert_equal(weights.params, expected)
    assert weights.model == {"name": "mixer", "num_classes": 3, **MODEL}


def test_timms_training_checkpoint_gives_its_averages_or_what_was_asked_for(caplog):
    path = FILES / "timm_training.pth.tar"
    with caplog.at_level(logging.WARNING, logger="mixer_jax"):
        weights = load_weights(path)
    assert_weights(weights, state_dict(100))
    assert caplog.messages == [
        f"{path}: the weights of state_dict_ema.module are taken; there are also state_dict.module"
    ]
    lines = weights.report().splitlines()
    assert lines[0].startswith(f"{path}, state_dict_ema.module, timm layout: 30 arrays loaded, 30 renamed")
    assert "  left over: 30 entries of state_dict" in lines
    assert {"  left over: epoch (no array)", "  left over: args (no array)"} < set(lines)
    caplog.clear()
    for part in ("state_dict", "state_dict.module"):
        assert_weights(load_weights(path, part=part), state_dict(0))
    assert not caplog.messages
    with pytest.raises(ConfigError, match=r"weights state_dict.module, state_dict_ema.module; the part 'x' is none"):
        load_weights(path, part="x")


def test_convert_takes_the_part_that_is_asked_for(tmp_path):
    target = tmp_path / "a.npz"
    command = [sys.executable, "-m", "mixer_jax", "convert", f"--source={FILES / 'timm_training.pth.tar'}"]
    subprocess.run([*command, "--part=state_dict", f"--target={target}"], cwd=ROOT, check=True, capture_output=True)
    assert_weights(load_weights(target), state_dict(0))


def test_a_file_in_the_older_format_is_read_with_its_types():
    weights = load_weights(FILES / "older_bfloat16.pth")
    assert_weights(weights, state_dict(0))  # all are exact in bfloat16
    assert {entry.changes[-1] for entry in weights.entries} == {"cast from bfloat16"}


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".ckpt", ".pth.tar"])
def test_endings_that_torch_files_have(ending, tmp_path):
    assert_weights(load_weights(save_torch(tmp_path / f"a{ending}", state_dict())), state_dict())


WRAPPED = {
    "state_dict": lambda arrays: {"state_dict": arrays, "epoch": 3},
    "model": lambda arrays: {"model": arrays, "lr_scheduler": {"last_epoch": 3}, "scaler": None},
    "parallel": lambda arrays: {f"module.{key}": array for key, array in arrays.items()},
    "compiled": lambda arrays: {f"_orig_mod.{key}": array for key, array in arrays.items()},
    "both": lambda arrays: {"model": {f"module._orig_mod.{key}": array for key, array in arrays.items()}},
    "Lightning": lambda arrays: {
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"model.{key}": array for key, array in arrays.items()} | {"loss.weight": np.zeros(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": np.zeros(3, np.float32)}}}],
        "hyper_parameters": Call("lightning.fabric", "AttributeDict", (), {"lr": 0.1}),
    },
    "parameters": lambda arrays: {key: parameter(array) for key, array in arrays.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_within_what_training_programs_save(wrap, tmp_path, caplog):
    weights = load_weights(save_torch(tmp_path / "a.pth", wrap(state_dict())))
    assert_weights(weights, state_dict())
    assert not caplog.messages


@pytest.mark.parametrize(
    ("tree", "taken"),
    [
        ({"model": state_dict(0), "model_ema": state_dict(100)}, 100),
        ({"model_ema": state_dict(100, "module."), "model": state_dict(0, "module.")}, 100),
        (state_dict(0, "model.") | state_dict(100, "ema_model."), 100),
        (state_dict(0) | state_dict(7, "teacher."), 0),
        ({"model": state_dict(0), "optimizer": {"exp_avg": state_dict(9)}}, 0),
    ],
)
def test_of_several_sets_of_weights_the_averages_are_taken_and_moments_never(tree, taken, tmp_path):
    assert_weights(load_weights(save_torch(tmp_path / "a.pth", tree)), state_dict(taken))


def test_where_there_is_no_usual_choice_the_parts_are_listed(tmp_path):
    path = save_torch(tmp_path / "a.pth", state_dict(0, "student.") | state_dict(7, "teacher."))
    with pytest.raises(ConfigError, match=r"a.pth holds the sets of weights student, teacher; name one as the part"):
        load_weights(path)
    assert_weights(load_weights(path, part="teacher"), state_dict(7))


def test_views_of_storages_are_read_as_they_lie(tmp_path):
    base = np.arange(24, dtype=np.float32)
    views = {
        "transposed": (Tensor(base, (6, 4), (1, 6)), base.reshape(4, 6).T),
        "a part": (Tensor(base, (2, 3), (6, 1), offset=8), base.reshape(4, 6)[1:3, 2:5]),
        "a number": (Tensor(base, (), (), offset=5), base[5]),
        "nothing": (Tensor(base, (0, 3), (3, 1)), np.zeros((0, 3), np.float32)),
    }
    path = save_torch(tmp_path / "a.pth", {key: tensor for key, (tensor, _) in views.items()})
    read = array_files.read(path).arrays
    for key, (_, expected) in views.items():
        np.testing.assert_array_equal(read[key], expected)


class Evil:
    """What runs code when it is unpickled by Python."""

    def __reduce__(self):
        return builtins.exec, (f"import os; os.mkdir({self.folder!r})",)


def test_no_code_in_a_file_is_run(tmp_path):
    evil = Evil()
    evil.folder = str(tmp_path / "made by the file")
    for protocol in range(2, 6):
        content = pickle.dumps({"state_dict": {}, "evil": evil}, protocol)
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("a/data.pkl", content)
        with pytest.raises(ConfigError, match="a.pth holds no model of a known family: .* beside evil"):
            load_weights(tmp_path / "a.pth")
        (tmp_path / "b.pth").write_bytes(content)
        with pytest.raises(ConfigError, match="b.pth is a pickle, and none that torch.save has written"):
            load_weights(tmp_path / "b.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth"]
    pickle.loads(content)  # the file would have done it
    assert (tmp_path / "made by the file").is_dir()


def test_pickles_are_plain_data_in_every_protocol():
    value = {
        **{"a": [1, -2, 3.5, None, True, 2**70], "b": (), "c": (1,), "d": (1, 2), "e": (1, 2, 3), "f": (1, 2, 3, 4)},
        **{"text": "ü\ud800", "bytes": b"\0", 7: {"nested": [[]]}, "long": list(range(3000)), None: "x" * 300},
    }
    value["again"] = value["a"]
    for protocol in (5, 4, 3, 2):
        if protocol < 3:  # where bytes are what a call makes of a text
            del value["bytes"]
        read = pickles.load(io.BytesIO(pickle.dumps(value, protocol)))
        assert read == value
        assert read["again"] is read["a"]


def nested(depth):
    """Opcodes of a tuple in a tuple in a tuple ..."""
    return b")" + b"\x85" * depth


# Files that cost their reader memory, time or its life.
BOMBS = {
    "a key that has no bottom": {"a": b"}" + nested(200_000) + b"Ns"},
    "a name that has no bottom": nested(200_000) + nested(200_000) + b"\x93",
    "a place in the memo": {"a": b"Nr" + struct.pack("<I", 2**31)},
    "more than is there": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "a text of 2^60 bytes": b"\x8d" + struct.pack("<Q", 2**60),
    "a dict in itself": b"}q\0X\1\0\0\0ah\0s",
    "dicts that double": b"}q\0"
    + b"".join(b"}X\1\0\0\0ah" + bytes([i]) + b"sX\1\0\0\0bh" + bytes([i]) + b"sq" + bytes([i + 1]) for i in range(60)),
    "two million opcodes": b"N0" * 1_000_000 + b"N",
    "a shape of 2^40 numbers": {"a": Tensor(np.zeros(1, np.float32), (2**20, 2**20), (0, 0))},
    "strides beyond": {"a": Tensor(np.zeros(8, np.float32), (2, 2), (2**30, 2**30))},
    "an offset beyond": {"a": Tensor(np.zeros(8, np.float32), (2, 2), (2, 1), offset=2**30)},
    "a negative stride": {"a": Tensor(np.zeros(8, np.float32), (2, 2), (-2, 1), offset=4)},
    "a shape of texts": {"a": Tensor(np.zeros(8, np.float32), ("2", "2"), (2, 1))},
    "65 axes": {"a": Tensor(np.zeros(8, np.float32), (1,) * 65, (1,) * 65)},
    "no dict": [1, 2],
    "nothing": {},
}


@pytest.mark.parametrize("tree", BOMBS.values(), ids=BOMBS)
def test_a_file_made_to_harm_is_refused_at_once(tree, tmp_path):
    path = save_torch(tmp_path / "a.pth", tree)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=f"^{path}") as refused:
        load_weights(path)
    assert "\n" not in str(refused.value)
    assert time.monotonic() - start < 20  # seconds, on a machine that does other things besides


def small_zip(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: save_torch(path, {0: np.zeros(3, np.float32)}), "no model of a known family.* begin with 0"),
        (
            lambda path: save_torch(path, Call("torch.nn", "Linear", (), {"a": 1})),
            "holds a pickled torch.nn.Linear;",
        ),
        (
            lambda path: save_torch(path, {"a": Tensor(np.zeros(1, np.float32), (3, 4), (0, 0))}),
            r"a claims the shape \(3, 4\), and 1 numbers are stored: it is expanded; save it with .contiguous\(\)",
        ),
        (
            lambda path: small_zip(path, a__data_pkl=b"N.", a__constants_pkl=b"N."),
            "holds a TorchScript program;",
        ),
        (lambda path: small_zip(path, a=b""), "is a zip archive of something else than torch.save's"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), "is a web page; expected a .pth file of weights"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_a_whole_file_of_something_else_is_called_what_it_is(make, message, tmp_path):
    make(tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=f"a.pth.*{message}") as refused:
        load_weights(tmp_path / "a.pth")
    assert "damaged" not in str(refused.value)


def test_float8_is_refused_by_its_name(tmp_path):
    reference = b"(X\7\0\0\0storagectorch.storage\nUntypedStorage\nX\1\0\0\x000X\3\0\0\0cpuK\3tQ"
    hooks = Call("collections", "OrderedDict")
    tensor = Call(
        *("torch._utils", "_rebuild_tensor_v3"), (reference, 0, (3,), (1,), False, hooks, b"ctorch\nfloat8_e4m3fn\n")
    )
    save_torch(tmp_path / "a.pth", {"head.bias": tensor})
    with pytest.raises(ConfigError, match="a.pth: head.bias has the type float8_e4m3fn; expected float32, float16"):
        load_weights(tmp_path / "a.pth")


def test_files_are_read_as_torch_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(array.copy()) for key, array in state_dict().items()}
    for kwargs in ({}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5}):
        torch.save({"model": tensors}, tmp_path / "a.pth", **kwargs)
        assert_weights(load_weights(tmp_path / "a.pth"), state_dict())
    save_torch(tmp_path / "b.pth", state_dict())  # and what these tests write is what torch reads
    for key, tensor in torch.load(tmp_path / "b.pth", map_location="cpu", weights_only=True).items():
        np.testing.assert_array_equal(tensor.numpy(), state_dict()[key])
