"""Weight files that are damaged, made to harm, or full of what is no number: one line each, and no other numbers."""

import json
import logging
import os
import shutil
import struct
import time
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mixer_jax.config import base
from mixer_jax.errors import ConfigError
from mixer_jax.weights import array_files
from mixer_jax.weights.load import from_arrays, from_config, load_weights, save_weights
from tests.test_torch_files import FILES, MODEL, state_dict
from tests.weight_files import save_torch


@pytest.fixture(scope="module")
def tiny():
    """Weights of a model of a few hundred numbers."""
    return from_arrays(state_dict(), source="tiny")


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    """A whole file of each kind, by what it is."""
    folder = tmp_path_factory.mktemp("whole")
    save_weights(folder / "a.npz", tiny)
    save_weights(folder / "a.safetensors", tiny)
    save_torch(folder / "a.pt", state_dict())
    shutil.copy(FILES / "timm_training.pth.tar", folder / "a.pth.tar")
    shutil.copy(FILES / "older_bfloat16.pth", folder / "a.pth")
    safetensors.numpy.save_file(state_dict(), folder / "of_others.safetensors")
    return {path.name: path for path in folder.iterdir()}


def refused(path, **kwargs):
    """The line with which a file is refused."""
    start = time.monotonic()
    with pytest.raises(ConfigError) as error:
        load_weights(path, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 700
    assert time.monotonic() - start < 20  # seconds, on a machine that does other things besides
    return message


def damage(rng, content):
    """Damages the content of a file in one of the ways in which files are."""
    place, content = int(rng.integers(len(content))), bytearray(content)
    other = int(rng.integers(len(content)))
    kind = rng.integers(6)
    if kind == 0:
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        content[place : place + 16] = bytes(len(content[place : place + 16]))
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        content[place:place] = rng.bytes(5)
    elif kind == 4:
        content[place : place + 8], content[other : other + 8] = content[other : other + 8], content[place : place + 8]
    else:
        content[place] = int(rng.integers(256))
    return bytes(content)


# Formats in which a changed number cannot be told from another number; all others have sums.
WITHOUT_SUMS = ("a.pth", "of_others.safetensors")


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.pt", "a.pth.tar", *WITHOUT_SUMS])
def test_a_damaged_file_is_refused_in_one_line_or_gives_the_same_numbers(name, files, tmp_path, caplog):
    caplog.set_level(logging.ERROR, logger="mixer_jax")
    expected, content = load_weights(files[name]).params, files[name].read_bytes()
    rng = np.random.default_rng(0)
    path, refusals = tmp_path / name, []
    for _ in range(60):
        path.write_bytes(damage(rng, content))
        try:
            read = load_weights(path).params
        except ConfigError as error:
            refusals.append(str(error))
            continue
        if name not in WITHOUT_SUMS:
            np.testing.assert_equal(read, expected)
    assert len(refusals) > 15
    assert all(line.startswith(str(path)) and "\n" not in line and len(line) < 700 for line in refusals)


def test_a_changed_number_is_told_by_the_sum_in_the_file(files, tmp_path):
    content = bytearray(files["a.safetensors"].read_bytes())
    content[-2] ^= 1
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert "is damaged, or was changed by another program: its arrays are not those that were written" in refused(path)
    with zipfile.ZipFile(files["a.npz"]) as whole, zipfile.ZipFile(tmp_path / "a.npz", "w") as changed:
        for name in whole.namelist()[1:]:  # each of its arrays is whole, and one is not there
            changed.writestr(name, whole.read(name))
        changed.comment = whole.comment
    assert "its arrays are not those that were written" in refused(tmp_path / "a.npz")


def test_others_read_what_is_written_and_the_sum_is_not_in_their_way(files, tiny, tmp_path):
    with np.load(files["a.npz"]) as arrays:
        assert set(arrays.files) == {entry.name for entry in tiny.entries}
        np.testing.assert_array_equal(arrays["head/bias"], tiny.params["head"]["bias"])
    assert set(safetensors.numpy.load_file(files["a.safetensors"])) == set(state_dict())
    with safetensors.safe_open(files["a.safetensors"], "numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert len(metadata["mixer_jax_sha256"]) == 64
    for name in ("a.npz", "a.safetensors"):
        save_weights(tmp_path / name, load_weights(files[name]))
    assert (tmp_path / "a.npz").read_bytes() == files["a.npz"].read_bytes()


def npy(header, data=b""):
    """A .npy file with a header of one's own."""
    header = header.encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def npz(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }\n", bytes(16)),
            r"a claims the shape (1099511627776, 1099511627776) of float32, and has 16 bytes",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", bytes(20)), "a claims the shape (2, 3)"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"N."), "holds pickled Python objects"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }\n", bytes(4)), "cannot be read; it is dam"),
        (npy("(" * 60_000), "cannot be read; it is damaged, or no .npz file"),
        (b"not NumPy's", "cannot be read; it is damaged, or no .npz file"),
    ],
)
def test_arrays_that_are_not_what_their_headers_claim_are_refused(member, message, tmp_path):
    assert message in refused(npz(tmp_path / "a.npz", a=member))


def test_an_archive_is_not_unpacked_to_a_multiple_of_its_size(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (67108864,), }\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", npy(header, bytes(1 << 28)))
    assert "bytes and would unpack to 268,435,5" in refused(tmp_path / "a.npz")


def test_compressed_archives_and_those_of_big_endian_machines_are_read(tiny, tmp_path):
    arrays = {entry.name: array for entry, array in zip(tiny.entries, flat(tiny), strict=True)}
    np.savez_compressed(tmp_path / "a.npz", **{key: array.astype(">f4") for key, array in arrays.items()})
    np.testing.assert_equal(load_weights(tmp_path / "a.npz").params, tiny.params)


def flat(weights):
    """The arrays of weights in the order of their entries."""
    for entry in weights.entries:
        array = weights.params
        for word in entry.name.split("/"):
            array = array[word]
        yield array


def test_big_visions_checkpoint_is_read_without_its_optimizer(tiny, tmp_path):
    params = {f"params/{entry.name}": array for entry, array in zip(tiny.entries, flat(tiny), strict=True)}
    moments = {f"opt/0/{moment}/{key[7:]}": array for moment in ("mu", "nu") for key, array in params.items()}
    halves = {key: array.astype(ml_dtypes.bfloat16) for key, array in (params | moments).items()}
    np.savez(tmp_path / "a.npz", **halves, **{"opt/0/count": np.int32(7)})
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["params/head/bias"].dtype == "|V2"  # what NumPy makes of bfloat16
    weights = load_weights(tmp_path / "a.npz")
    np.testing.assert_equal(weights.params, tiny.params)
    assert "30 cast" in weights.report()
    assert weights.report().endswith("\n  left over: 61 entries of opt")


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        b"{" * 100_000,
        json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"a": {"dtype": "x" * 60_000, "shape": [1], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"a" * 60_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(),
        json.dumps({"a\n\ud800\x1b[31m": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(),
        b"[]",
    ],
)
def test_headers_of_safetensors_that_are_none_are_refused(header, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert refused(path).isprintable()


def test_float8_is_refused_by_its_name(tmp_path):
    header = json.dumps({"head.bias": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "head.bias has the type F8_E4M3; expected float32, float16, bfloat16 or float64" in refused(path)
    arrays = state_dict() | {"head.bias": np.zeros(3, ml_dtypes.float8_e4m3fn)}
    with pytest.raises(ConfigError, match="head.bias has dtype float8_e4m3fn; expected floating-point numbers, f"):
        from_arrays(arrays, source="file")
    np.savez(tmp_path / "a.npz", **arrays)
    assert "head.bias has dtype |V1, as NumPy stores float8; expected" in refused(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1, np.nan, 3], np.float32), "has 1 of 3 values that are not finite, the first nan; expected"),
        (np.array([np.inf, -np.inf, 3], np.float16), "has 2 of 3 values that are not finite, the first inf; expected"),
        (np.array([1, 2, 1e300]), "has 1 of 3 values that are not finite, the first 1e+300, which is inf as float32"),
    ],
)
def test_weights_that_are_not_finite_or_do_not_stay_so_are_refused(array, message, tmp_path):
    np.savez(tmp_path / "a.npz", **state_dict() | {"head.bias": array})
    assert f"a.npz: head.bias {message}" in refused(tmp_path / "a.npz")


def test_a_run_whose_parameters_are_not_finite_is_refused(tiny):
    config = base.get_config()
    config.model.update({"name": "mixer", **MODEL})
    config.data.update({"num_classes": 3, "image_size": 4})
    np.testing.assert_equal(from_config(tiny.params, config, source="a run").params, tiny.params)
    broken = {**tiny.params, "head": {**tiny.params["head"], "bias": np.array([0, np.nan, np.nan], np.float32)}}
    with pytest.raises(ConfigError, match="a run: head/bias has 2 of 3 values that are not finite, the first nan"):
        from_config(broken, config, source="a run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blocks.5000.x", "blocks.2 is missing, and blocks.5000 is there"),
        ("blocks.3.norm1.weight", "blocks.2 is missing, and blocks.3 is there"),
    ],
)
def test_a_number_in_a_name_makes_no_blocks(name, message, tmp_path):
    np.savez(tmp_path / "a.npz", **state_dict() | {name: np.zeros(4, np.float32)})
    assert message in refused(tmp_path / "a.npz")


def test_more_blocks_than_anybody_trains_are_refused():
    many = {f"blocks.{i}.x": np.zeros((), np.float32) for i in range(5000)}
    with pytest.raises(ConfigError, match="file holds 5,000 blocks; expected at most 500"):
        from_arrays(state_dict() | many, source="file")


def test_a_number_without_end_in_a_name_is_no_number(tiny):
    odd = {f"blocks.{'9' * 5000}.x": np.zeros(1, np.float32), "blocks.²": np.zeros(1, np.float32)}
    weights = from_arrays(state_dict() | odd, source="file")
    np.testing.assert_equal(weights.params, tiny.params)
    assert all(len(line) < 200 for line in weights.report().splitlines())
    older = {"embedding/kernel": np.zeros((2, 2, 3, 4)), f"Mixer/encoderblock_0/LayerNorm_{'9' * 5000}/scale": odd}
    with pytest.raises(ConfigError, match="kernel1 is missing"):
        from_arrays(older, source="file")


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ".pth.tar"])
def test_what_is_no_file_is_not_waited_for(ending, tmp_path):
    os.mkfifo(tmp_path / f"pipe{ending}")
    assert "is no file; expected a file of weights" in refused(tmp_path / f"pipe{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    assert "holds no checkpoint" in refused(tmp_path / f"folder{ending}")
    with pytest.raises(ConfigError, match="is a folder; expected a file of weights"):
        array_files.read(tmp_path / f"folder{ending}")
    (tmp_path / f"loop{ending}").symlink_to(tmp_path / f"loop{ending}")
    assert "there is no such file (Too many levels of symbolic links)" in refused(tmp_path / f"loop{ending}")
    for name in ("x" * 300, "x" * 60_000, "x\0y"):
        for path in (tmp_path / f"{name}{ending}", tmp_path / name):
            assert "is longer than a path, or a name in it, can be, or holds other bytes" in refused(path)


def test_a_part_is_of_a_file(tmp_path):
    assert "is a folder; a part, here 'model', is of a file" in refused(tmp_path, part="model")
