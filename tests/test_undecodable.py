"""Images of an evaluation that cannot be decoded: what is trained is safe, all are named at once, or counted."""

import json

import cv2
import numpy as np
import pytest

from mixer_jax.config import recipes
from mixer_jax.data import sources
from mixer_jax.errors import RunError
from mixer_jax.evaluators import predictions
from mixer_jax.evaluators.examples import UndecodableError
from mixer_jax.runtime import mesh
from mixer_jax.steps.types import Batch
from mixer_jax.suites import frozen
from mixer_jax.suites.defaults import get_config as suite_config
from mixer_jax.training import input as input_pipeline
from mixer_jax.training.run import train
from mixer_jax.weights.trained import load_trained


@pytest.fixture
def images(tmp_path):
    """A folder of images of two classes, of which two cannot be decoded, both in the split that is tested on."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for number in range(count):
            folder = tmp_path / "images" / split / f"class {number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            image = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (folder / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    for name in ("class 0/2.png", "class 1/5.png"):
        (tmp_path / "images" / "test" / name).write_bytes(b"broken")
    return tmp_path / "images"


@pytest.fixture
def config(tiny_config, images):
    tiny_config.data.source, tiny_config.data.num_classes = f"folder:{images}", 2
    tiny_config.batch_size = tiny_config.eval.batch_size = 4
    tiny_config.steps = 6
    tiny_config.eval.every, tiny_config.checkpoint.every, tiny_config.log_every = 2, 5, 2
    return tiny_config


@pytest.mark.parametrize("best", [None, "eval/test/top1"])
def test_they_cost_no_trained_step_and_a_rerun_goes_on(config, tmp_path, best, capsys):
    config.checkpoint.best = best
    with pytest.raises(UndecodableError) as raised:
        train(config, tmp_path / "run")
    assert str(raised.value).startswith("2 of 6 images of an evaluation cannot be decoded: ")
    logged = capsys.readouterr().err
    for name in ("class 0/2.png", "class 1/5.png"):
        assert f"test/{name}" in str(raised.value)
        assert f"test/{name}: cannot decode" in logged
    assert "--config.eval.undecodable=skip" in str(raised.value)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]
    config.eval.undecodable = "skip"
    result = train(config, tmp_path / "run")
    assert result.step == 6
    assert result.metrics["eval/test/examples"] == 4
    assert result.metrics["eval/test/undecodable"] == 2
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written if "eval/test/undecodable" in line] == [4, *[5][: best is not None], 6]


def test_what_is_counted_beside_them_is_that_of_the_others(config, tmp_path, images):
    config.eval.undecodable = "skip"
    with_broken = train(config, tmp_path / "run").metrics
    for name in ("class 0/2.png", "class 1/5.png"):
        (images / "test" / name).unlink()
    without = train(config, tmp_path / "run").metrics
    assert without["eval/test/undecodable"] == 0
    del with_broken["eval/test/undecodable"], without["eval/test/undecodable"]
    assert without == pytest.approx(with_broken, rel=1e-6)


def test_where_metrics_cannot_be_written_the_state_is_saved(config, tmp_path, monkeypatch):
    class Writer:
        def __getattr__(self, name):
            return lambda *_: None

        def flush(self):
            raise RunError("metrics.jsonl cannot be written: No space left on device")

    config.eval.undecodable = "skip"
    config.eval.every = 3
    monkeypatch.setattr("mixer_jax.training.run.metric_files.create_writer", lambda *_, **__: Writer())
    with pytest.raises(RunError, match=r"metrics.jsonl cannot be written"):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]


def test_training_images_that_run_out_cost_no_trained_step(config, tmp_path, monkeypatch):
    batches = input_pipeline.batches.train_batches

    def breaking(*args, **kwargs):
        for number, batch in enumerate(batches(*args, **kwargs)):
            if number == 4:
                raise RunError("the images from position 16 on cannot be decoded")
            yield batch

    config.eval.undecodable = "skip"
    monkeypatch.setattr(input_pipeline.batches, "train_batches", breaking)
    with pytest.raises(RunError, match="position 16"):
        train(config, tmp_path / "run")
    # The batch that cannot be made is asked for while the one before it waits.
    assert [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()] == [3]


def test_other_evaluations_leave_them_out_and_count_them(images):
    choices = recipes.load("digits")
    choices.data.image_size, choices.eval.batch_size = 8, 4
    source = sources.open_source(f"folder:{images}", split="test", data_dir=None, num_classes=2, image_size=8)

    def labels(_, batch: Batch) -> dict:
        return {"label": batch["label"], "mask": batch["mask"]}

    device_mesh = mesh.create_mesh()
    batches = input_pipeline.make_eval_batches(choices, device_mesh)(source)
    with pytest.raises(UndecodableError, match="2 of 6 images"):
        list(predictions.over(labels, {}, batches, title="labels"))
    choices.eval.undecodable = "skip"
    batches = input_pipeline.make_eval_batches(choices, device_mesh)(source)
    seen = predictions.concatenated(predictions.over(labels, {}, batches, title="labels"))
    assert seen["label"].tolist() == [0, 0, 1, 1]
    assert batches.left_out == 2
    assert list(batches.undecodable) == [1, 5]


def test_where_none_can_be_decoded_it_is_an_error_in_any_case(images):
    for path in (images / "test").rglob("*.png"):
        path.write_bytes(b"broken")
    choices = recipes.load("digits")
    choices.data.image_size, choices.eval.batch_size, choices.eval.undecodable = 8, 4, "skip"
    source = sources.open_source(f"folder:{images}", split="test", data_dir=None, num_classes=2, image_size=8)
    batches = input_pipeline.make_eval_batches(choices, mesh.create_mesh())(source)
    with pytest.raises(UndecodableError, match="none of the 6 images can be decoded: .*; mend or replace them"):
        list(batches())
    assert len(batches.undecodable) == 6


def test_a_suite_counts_them(config, tmp_path):
    config.eval.undecodable = "skip"
    model = load_trained(train(config, tmp_path / "run").checkpoint)
    asked = suite_config()
    asked.imagenet.source, asked.imagenet.split = str(config.data.source), "test"
    asked.eval.batch_size = 4
    with pytest.raises(UndecodableError, match="2 of 6 images"):
        frozen.imagenet(model, asked)
    asked.eval.undecodable = "skip"
    metrics = frozen.imagenet(model, asked).metrics
    assert {name.partition("/")[2]: value for name, value in metrics.items() if "top" not in name} == {
        "examples": 4,
        "undecodable": 2,
    }
