"""`python -m mixer_jax benchmark data`: what it measures, says and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import mixer_b16_i1k
from mixer_jax.benchmark import input as input_pipeline

ROOT = Path(__file__).parents[1]
BRIEF = {"processes": [(0, 1), (0, 2)], "seconds": 0.01, "rounds": 2, "batch_size": 4, "images": 6}
FLAGS = ("--seconds=0.01", "--rounds=1", "--batch_size=4", "--images=6", "--threads=2", "--workers=")


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "mixer_jax", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def config(tmp_path):
    """A recipe of the paper on eight small JPEG files."""
    for number in range(8):
        path = tmp_path / "train" / f"class_{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
    config = mixer_b16_i1k.get_config()
    config.data.source = f"folder:{tmp_path}"
    config.data.split = "train"
    config.data.num_classes = 2
    config.data.image_size = 32
    return config


@pytest.fixture
def no_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.mark.usefixtures("no_tensorflow")
def test_every_pipeline_is_measured_in_every_round(config):
    report = input_pipeline.measure(config, **BRIEF)
    assert report["images"] == 6
    assert list(report["pipelines"]) == [
        f"{chain}; {threads} threads"
        for threads in (1, 2)
        for chain in ("crop and flip", "crop, flip, RandAugment(2, 15)")
    ]
    for values in report["pipelines"].values():
        assert len(values["images_per_s"]) == 2
        assert min(values["images_per_s"]) > 0
        assert values["images_per_cpu_s_median"] > 0
    stages = report["microseconds_an_image"]
    assert list(stages) == ["read", "decode, crop, flip", "RandAugment"]
    assert stages["decode, crop, flip"] > 0
    # A v3 core does 61.5 TFLOP/s; 3 x 2 FLOPs for each of the 12.6 GMAC of a forward pass at 224 pixels.
    forward = report["needed"]["TPU v3"] * 3 * 2 * 12.6e9
    assert forward == pytest.approx(61.5e12 * (224 / 32) ** 2, rel=0.2)
    json.dumps(report)


@pytest.mark.usefixtures("no_tensorflow")
def test_without_tensorflow_it_says_so(config):
    report = input_pipeline.measure(config, **BRIEF)
    assert report["not_measured"] == {input_pipeline.TF_DATA: "TensorFlow is not installed"}
    assert "TensorFlow is not installed" in input_pipeline.as_text(report)


def test_no_reference_for_other_crops_and_files(config, tmp_path):
    (tmp_path / "train/class_0/0.png").write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    why = input_pipeline.measure(config, **BRIEF)["not_measured"]
    assert "not all of the images are" in why[input_pipeline.TF_DATA]
    config.data.train.crop = "pad"
    assert "inception crop" in input_pipeline.measure(config, **BRIEF)["not_measured"][input_pipeline.TF_DATA]


@pytest.mark.usefixtures("no_tensorflow")
def test_what_cannot_be_decoded_is_left_out_and_counted(config, tmp_path):
    (tmp_path / "train/class_0/0.jpg").write_bytes(b"")
    report = input_pipeline.measure(config, **BRIEF)
    assert (report["images"], report["left_out"]) == (5, 1)
    assert "1 others cannot be decoded" in input_pipeline.as_text(report)


def test_with_tensorflow_the_reference_is_measured_beside(config):
    pytest.importorskip("tensorflow")
    assert input_pipeline.TF_DATA in input_pipeline.measure(config, **BRIEF)["pipelines"]


def test_the_command_prints_tables_or_json():
    arguments = ("benchmark", "data", "--config=configs/digits.py", *FLAGS)
    tables = command(*arguments)
    assert tables.returncode == 0, tables.stderr
    assert "crop and flip; 2 threads" in tables.stdout
    assert "TPU v3" in tables.stdout
    report = json.loads(command(*arguments, "--json", "--config.data.source=synthetic:10").stdout)
    assert report["source"] == "synthetic:10"


WRONG = {
    "benchmrk data": "command='benchmrk' is unknown; did you mean 'benchmark'?",
    "benchmark data --config=configs/digits.py --config.dta.threads=1": "did you mean config.data.threads?",
    "benchmark data --config=configs/digits.py --threads=2,none": "--threads=2,none; expected positive numbers",
    "benchmark data --config=configs/digits.py --config.data.source=folder:nowhere": "there is no such folder",
    "benchmark data": "Flag --config must have a value",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_named_without_a_traceback(arguments):
    result = command(*arguments.split())
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert WRONG[arguments] in said
    assert "Traceback" not in said
