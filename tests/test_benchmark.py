"""The benchmark of models: its figures follow from its times, it does the real work, and it ends where memory does."""

import json
import os
import statistics
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax import rng
from mixer_jax.benchmark import device
from mixer_jax.benchmark import model as model_speed
from mixer_jax.runtime import mesh

ROOT = Path(__file__).parents[1]
TOKENS_MLP_DIM = 16
SMALL = [
    *("--config.model.num_blocks=1", "--config.model.hidden_dim=8", "--config.model.channels_mlp_dim=8"),
    f"--config.model.tokens_mlp_dim={TOKENS_MLP_DIM}",
]

# Runs the command where only JAX, Flax, optax and ml-collections, and what they need, can be imported.
PROGRAM = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError("refuses to import " + name)
sys.meta_path.insert(0, Refuse())
sys.argv[0] = "mixer_jax"
runpy.run_module("mixer_jax", run_name="__main__")
"""
REFUSED = {
    *("array_record", "clu", "cv2", "grain", "orbax", "pandas", "PIL", "sklearn", "tensorboard", "tensorflow"),
    *("tensorflow_datasets", "tqdm"),
}


def benchmark(*arguments):
    program = PROGRAM.format(refused=sorted(REFUSED))
    command = [sys.executable, "-c", program, "benchmark", *arguments]
    environment = os.environ | {"XLA_FLAGS": ""}  # one device: less to compile
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_it_runs_with_few_libraries_and_its_figures_follow_from_its_times():
    result = benchmark("--config=configs/digits.py", *SMALL, "--batch_sizes=2", "--seconds=0", "--rounds=3", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["cores"] == 1
    assert report["peak_flops"] > 0
    for name, passes in (("inference", 1), ("training", 3)):
        (row,) = report["runs"][name]
        assert report["best"][name] == row
        assert row["batch_size"] == 2
        seconds = row["step_seconds"]
        assert len(seconds) == 3
        assert row["img_sec_core"] == pytest.approx(2 / statistics.median(seconds))
        assert row["img_sec_core_min"] == pytest.approx(2 / max(seconds))
        assert row["img_sec_core_max"] == pytest.approx(2 / min(seconds))
        # Of an image: 4 tokens of 4x4x3 pixels, and a head for 10 classes.
        flops = 2 * passes * (4 * 48 * 8 + (2 * 8 * 4 * TOKENS_MLP_DIM + 2 * 4 * 8 * 8) + 8 * 10)
        assert row["flops_a_second"] == pytest.approx(row["img_sec_core"] * flops)
        assert row["of_peak"] == pytest.approx(row["flops_a_second"] / report["peak_flops"])
        assert row["compile_seconds"] > 0
        assert row["memory"] >= 2 * 8 * 8 * 3
    assert report["runs"]["training"][0]["memory"] > report["runs"]["inference"][0]["memory"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py", "--batch_sizes=8,none"], "--batch_sizes=8,none; expected positive numbers"),
        (["dta", "--config=configs/digits.py"], "unexpected arguments ['dta']"),
        ([], "Flag --config must have a value"),
    ],
)
def test_what_is_wrong_is_named_without_a_traceback(arguments, message):
    result = benchmark(*arguments)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


# Sweeps where memory ends 1 GiB above what the process has once JAX has started.
NARROW = """
import json, resource
import jax
from configs import digits
from mixer_jax.runtime import mesh
from mixer_jax.benchmark import model as model_speed
config = digits.get_config()
config.update_from_flattened_dict({"model.num_blocks": 1, "model.hidden_dim": 16})
jax.block_until_ready(jax.jit(lambda: jax.numpy.ones(8).sum())())
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
sizes = [2, 2**22, 4]
rows = model_speed._sweep(model_speed._Inference, config, mesh.create_mesh(), sizes, 3, seconds=0, rounds=1, peak=1.0)
print(json.dumps(rows))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_running_out_of_memory_ends_the_sweep_and_says_so():
    result = subprocess.run([sys.executable, "-c", NARROW], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    first, last = json.loads(result.stdout)
    assert (first["batch_size"], last["batch_size"]) == (2, 2**22)
    assert first["img_sec_core"] > 0
    assert "ut of memory" in last["out_of_memory"]


def test_the_table_has_a_line_for_each_size_and_marks_the_best():
    def row(size, rate):
        rates = {"img_sec_core": rate, "img_sec_core_min": rate - 1, "img_sec_core_max": rate + 1}
        others = {"flops_a_second": 5e11, "of_peak": 0.5, "memory": 2_500_000_000, "compile_seconds": 1.25}
        return {"batch_size": size, **rates, **others}

    rows = [row(8, 100.0), row(16, 300.0), {"batch_size": 32, "out_of_memory": "RESOURCE_EXHAUSTED: ..."}]
    report = {
        **{"model": "mixer_b16", "image_size": 224, "dtype": "bfloat16", "device": "TPU v3", "cores": 8},
        **{"peak_flops": 1e12, "peak_from": "as published of TPU v3", "versions": {"jax": "0.12.0"}},
        **{"runs": {"training": rows}, "best": {"training": rows[1]}},
    }
    lines = [line.split() for line in model_speed.as_text(report).splitlines()]
    assert " ".join(lines[0]) == "mixer_b16, 224 pixels, bfloat16; 8 x TPU v3"
    assert lines[-3:] == [
        ["training", "8", "100.0", "99.0", "101.0", "0.500", "50.0%", "2.50", "1.2"],
        ["training", "16", "300.0", "299.0", "301.0", "0.500", "50.0%", "2.50", "1.2", "best"],
        ["training", "32", "out", "of", "memory"],
    ]


def test_training_runs_the_steps_of_the_recipe(tiny_config):
    tiny_config.model.num_blocks = 1
    training = model_speed._training(tiny_config, mesh.create_mesh(), 2)
    batch = model_speed._random_batch(training)
    assert batch["image"].std() > 70  # of uniform bytes it is 73.9
    work = model_speed._Training(training, rng.key(tiny_config.seed, "init"))
    work.run(work.compile(training, batch), batch, 3)
    state = training.init(rng.key(tiny_config.seed, "init"))
    for _ in range(3):
        state, _ = training.train_step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, work._state, state)


def test_inference_is_the_forward_pass_without_masks(tiny_config):
    tiny_config.model.num_blocks = 1
    training = model_speed._training(tiny_config, mesh.create_mesh(), 2)
    batch = model_speed._random_batch(training)
    key = rng.key(tiny_config.seed, "init")
    work = model_speed._Inference(training, key)
    logits = work.compile(training, batch)(work._params, batch["image"])
    pixels = np.asarray(batch["image"], np.float32) / 127.5 - 1
    expected = training.model.apply({"params": training.init(key).params}, pixels)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rates", "measured"),
    [
        ([1, 2, 3, 4, 5], 5),
        ([1, 3, 2, 4, 2, 3, 9], 6),  # one slower size may be chance, two in a row are not
        ([3, 2, 1, 4], 3),
    ],
)
def test_the_default_sweep_ends_when_two_sizes_in_a_row_bring_nothing(tiny_config, monkeypatch, rates, measured):
    answers = iter(rates)
    monkeypatch.setattr(model_speed, "_measure_one", lambda *_, **__: {"img_sec_core": next(answers)})
    monkeypatch.setattr(model_speed._Inference, "__init__", lambda *_: None)
    sizes = [8] * len(rates)
    rows = model_speed._sweep(
        model_speed._Inference, tiny_config, mesh.create_mesh(), sizes, 2, seconds=0, rounds=1, peak=1.0
    )
    assert [row["img_sec_core"] for row in rows] == rates[:measured]


def test_a_known_device_is_held_against_its_published_peak():
    h200 = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(device_kind="NVIDIA H200")]))
    assert device.peak_flops("bfloat16", h200) == (989e12, "as published of H200 SXM")


def test_an_unknown_device_is_held_against_a_measured_product():
    peak, source = device.peak_flops("float32", mesh.create_mesh())
    assert peak > 1e8
    assert source == "a matrix product, measured"


def test_the_memory_of_a_program_counts_donated_arguments_once():
    x = jnp.zeros((512, 512))
    assert device.planned_memory(jax.jit(lambda x: x + 1).lower(x).compile()) == 2 * x.nbytes
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert device.planned_memory(donated) == x.nbytes
