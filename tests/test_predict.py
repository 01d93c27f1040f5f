"""Predictions: their accuracies against a count by hand, and the command `predict` on real files."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax.data import imagenet, transforms
from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import predictions
from mixer_jax.inference import predict
from mixer_jax.models import registry
from mixer_jax.steps.infer_steps import make_predict_step
from mixer_jax.weights.trained import load_trained
from tests.weight_files import save_params

ROOT = pathlib.Path(__file__).parents[1]


def random_params(num_classes=7):
    model = registry.create_model(
        "mixer", num_classes, patch_size=4, num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    draw = np.random.default_rng(3)
    return model, jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), params)


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mixer_jax", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_step_gives_the_most_probable_classes(loss):
    model, params = random_params()
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    found = make_predict_step(model, loss=loss, top=3)(params, {"image": images})
    logits = np.asarray(model.apply({"params": params}, images / np.float32(127.5) - 1), np.float64)
    exp = np.exp(logits)
    probabilities = exp / exp.sum(axis=1, keepdims=True) if loss == "softmax" else exp / (1 + exp)
    order = np.argsort(-logits, axis=1)[:, :3]
    np.testing.assert_array_equal(found["classes"], order)
    np.testing.assert_allclose(found["probabilities"], np.take_along_axis(probabilities, order, 1), rtol=2e-4)


def test_accuracies_of_single_labels():
    classes = np.array([[3, 1, 0, 2, 4], [1, 3, 0, 2, 4], [0, 1, 2, 4, 5], [2, 1, 0, 4, 5]])
    assert predictions.accuracies(classes, np.array([3, 3, 3, 2])) == {"top1": 0.5, "top5": 0.75, "examples": 4}
    assert "top5" not in predictions.accuracies(classes[:, :4], np.array([3, 3, 3, 2]))


def test_accuracies_of_sets_of_labels_leave_out_images_without_any():
    classes = np.array([[3, 1, 0, 2, 4], [1, 3, 0, 2, 4], [0, 1, 2, 4, 5], [2, 1, 0, 4, 5]])
    labels = np.array([[3, -1, -1], [-1, -1, -1], [5, 6, -1], [9, 2, 7]])
    assert predictions.accuracies(classes, labels) == {"top1": 2 / 3, "top5": 1.0, "examples": 3, "without_labels": 1}


def test_a_padded_label_is_never_right():
    assert predictions.accuracies(np.array([[-1, 0]]), np.array([[4, -1]]))["top1"] == 0.0


def test_imagenet_has_a_thousand_names():
    names = imagenet.class_names()
    assert len(names) == 1000
    assert names[0].startswith("tench")
    assert names[207].startswith("golden retriever")
    assert names[999].startswith("toilet tissue")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of weights, and images of several kinds in folders, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("predict")
    _, params = random_params()
    save_params(folder / "weights.npz", params)
    draw = np.random.default_rng(1)
    (folder / "images" / "more").mkdir(parents=True)
    for n, name in enumerate(["b.png", "a.jpg", "more/c.PNG"]):
        image = draw.integers(0, 256, (10 + n, 12, 3), dtype=np.uint8)
        (folder / "images" / name).write_bytes(cv2.imencode(".png" if n != 1 else ".jpg", image)[1].tobytes())
    (folder / "images" / "broken.jpg").write_bytes(b"broken")
    (folder / "images" / "notes.txt").write_text("no image")
    (folder / "names.txt").write_text("".join(f"name {n}\n" for n in range(7)))
    return folder


def test_csv_and_json_say_the_same_of_every_image(files):
    options = [f"--checkpoint={files}/weights.npz", f"--class_names={files}/names.txt", "--top=2"]
    for suffix in ("csv", "json"):
        done = command("predict", *options, f"--output={files}/out.{suffix}", files / "images")
        assert done.returncode == 0, done.stderr
        assert "1 of 4 images cannot be read" in done.stderr
        assert f"{files}/images/broken.jpg: cannot decode" in done.stderr
        assert f"wrote {files}/out.{suffix}" in done.stdout
    found = json.loads((files / "out.json").read_text())
    names = ["a.jpg", "b.png", "broken.jpg", "more/c.PNG"]
    assert [prediction["file"] for prediction in found] == [str(files / "images" / name) for name in names]
    assert "cannot decode" in found[2]["error"]
    assert found[2]["classes"] == []
    with (files / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    of_rows = ["a.jpg", "a.jpg", "b.png", "b.png", "broken.jpg", "more/c.PNG", "more/c.PNG"]
    assert [row["file"] for row in rows] == [str(files / "images" / name) for name in of_rows]
    ranked = [row for row in rows if not row["error"]]
    read = [p for p in found if not p["error"]]
    assert [row["name"] for row in ranked] == [name for p in read for name in p["names"]]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in ranked], [p for one in read for p in one["probabilities"]], rtol=1e-5
    )
    assert all(name == f"name {number}" for p in read for name, number in zip(p["names"], p["classes"], strict=True))


def test_the_predictions_are_the_models(files):
    done = command(
        "predict", f"--checkpoint={files}/weights.npz", f"--output={files}/one.json", files / "images" / "b.png"
    )
    assert done.returncode == 0, done.stderr
    assert "the names of the classes" in done.stderr  # are not known
    [found] = json.loads((files / "one.json").read_text())
    model = load_trained(str(files / "weights.npz"))
    transform = transforms.make_eval_transform(**model.eval_transform())
    image = transform({"image": (files / "images" / "b.png").read_bytes(), "label": 0})["image"]
    logits = model.model().apply({"params": model.weights.params}, image[None] / np.float32(127.5) - 1)[0]
    assert found["classes"] == np.argsort(-logits)[:5].tolist()
    assert found["names"][0] == f"class {found['classes'][0]}"
    assert sum(found["probabilities"]) < 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no images"),
        (["nothing.jpg"], "nothing.jpg: there is no such file"),
        (["--output=x.txt", "README.md"], "--output=x.txt; expected a file ending in .csv or .json"),
        (["--class_names=README.md", "README.md"], "README.md has .* lines; the model has 7 classes"),
        (["docs"], "docs has no images"),
        (["--output=nowhere/x.csv", "README.md"], "--output=nowhere/x.csv cannot be written: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(files, arguments, said):
    done = command("predict", f"--checkpoint={files}/weights.npz", *arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert re.search(said, line), line


def test_where_no_image_can_be_read_the_command_fails(files):
    done = command("predict", f"--checkpoint={files}/weights.npz", files / "images" / "broken.jpg")
    assert done.returncode == 1
    assert "broken.jpg: cannot decode" in done.stderr


def test_of_an_odd_folder_the_images_are_found(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(predict.logger, "propagate", True)  # a command's logging may have turned it off
    odd = tmp_path / "odd"
    for name in ("a.jpg", "more/b.png", "__MACOSX/._a.jpg", "more/Thumbs.db", "more/@eaDir/b.png", ".c.jpg"):
        (odd / name).parent.mkdir(parents=True, exist_ok=True)
        (odd / name).write_bytes(b"")
    (odd / "more" / "loop").symlink_to("..")
    (odd / "lost.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(odd / "pipe.jpg")
    found = predict.find_images([str(odd)])
    assert [str(path.relative_to(odd)) for path in found] == ["a.jpg", "more/b.png"]
    assert caplog.messages == [
        f"{odd}: 7 entries are passed over, such as .c.jpg: its name begins with a dot",
    ]
    for name, said in {"pipe.jpg": "is no file that can be read", "lost.jpg": "there is no such file"}.items():
        with pytest.raises(ConfigError, match=f"{name}: {said}"):
            predict.find_images([str(odd / name)])
