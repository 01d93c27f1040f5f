"""Trained models: what is known of a run, a file, and the trainings before it."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from mixer_jax.data import imagenet
from mixer_jax.data.decode import Decoding
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.suites import record
from mixer_jax.training import run as train
from mixer_jax.weights import trained
from mixer_jax.weights.trained import load_trained
from tests.weight_files import save_params


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a run of a few steps, whose length is given in epochs."""
    config = digits.get_config()
    config.model.num_blocks, config.model.hidden_dim, config.model.channels_mlp_dim = 1, 8, 16
    config.epochs, config.schedule.warmup_steps = 0.2, 1
    config.checkpoint.best = None
    config.loss.name = "sigmoid"
    config.data.evaluate.resize = 9
    workdir = tmp_path_factory.mktemp("runs") / "first"
    train.train(config, workdir)
    return workdir


def started_from(run, init_from, workdir):
    """A copy of a run that says that it started from other weights."""
    shutil.copytree(run, workdir)
    [saved] = workdir.glob("checkpoints/*/run/metadata")
    content = json.loads(saved.read_text())
    content.pop("sha256")  # of other contents
    content["config"]["init_from"] = str(init_from)
    saved.write_text(json.dumps(content))
    return workdir


def save_file(path, num_classes):
    model = registry.create_model(
        "mixer", num_classes, patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=16
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    save_params(path, jax.tree.map(np.asarray, params))
    return load_trained(str(path))


def test_a_run_is_shown_images_as_in_its_training(run):
    model = load_trained(str(run))
    crop = {"size": 8, "crop": "resize", "resize": 9, "transforms": []}
    assert model.eval_transform() == {**crop, "decoding": Decoding()}
    assert (model.loss, model.workdir, model.model().dtype) == ("sigmoid", run, "float32")
    assert model.class_names() == list("0123456789")
    [checkpoint] = (run / "checkpoints").iterdir()
    assert (load_trained(str(checkpoint)).workdir, model.source) == (run, str(checkpoint))


def test_a_file_is_shown_images_as_in_the_papers_table_3(tmp_path):
    model = save_file(tmp_path / "weights.npz", 10)
    assert model.eval_transform() == {"size": 8, "crop": "resmall", "resize": 9, "decoding": Decoding()}
    assert (model.loss, model.workdir, model.class_names()) == ("softmax", None, None)


def test_a_file_of_a_thousand_classes_has_imagenets_names(tmp_path):
    assert save_file(tmp_path / "weights.npz", 1000).class_names() == imagenet.class_names()


def test_a_file_without_a_head_says_what_to_do(tmp_path):
    model = save_file(tmp_path / "headless.npz", None)
    with pytest.raises(ConfigError, match="headless.npz has no head; fine-tune it first, with config.init_from="):
        model.class_names()


@pytest.mark.parametrize("source", ["runs/nothing", "nothing", "imagenet1k/Mixer-B16"])
def test_what_is_not_there_is_said_to_be_no_path_and_no_name(source):
    with pytest.raises(ConfigError, match=f"{source}: there is no such work directory, checkpoint or file, and no pub"):
        load_trained(source)


def test_names_must_be_as_many_as_the_classes(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("one\ntwo\n")
    assert trained.read_class_names(file, 2) == ["one", "two"]
    with pytest.raises(ConfigError, match="names.txt has 2 lines; the model has 3 classes"):
        trained.read_class_names(file, 3)
    with pytest.raises(ConfigError, match="nothing.txt cannot be read"):
        trained.read_class_names(tmp_path / "nothing.txt", 3)


def test_the_pretraining_is_the_first_of_the_trainings(run, tmp_path):
    assert load_trained(str(run)).pretraining() == {"source": "digits", "epochs": 0.2}
    second = started_from(run, run, tmp_path / "second")
    third = started_from(run, second, tmp_path / "third")
    assert load_trained(str(third)).pretraining() == {"source": "digits", "epochs": 0.2}
    fine_tuned = started_from(run, "imagenet21k/Mixer-B_16", tmp_path / "fine_tuned")
    assert load_trained(str(fine_tuned)).pretraining() == {"source": "imagenet21k/Mixer-B_16", "epochs": None}


@pytest.mark.parametrize("init_from", ["x" * 300, "~nosuchuser/x", "x\0y"])
def test_weights_that_a_run_started_from_need_not_be_there(init_from, tmp_path):
    trained_model = dataclasses.replace(save_file(tmp_path / "a.npz", 10), config={"init_from": init_from})
    assert trained_model.pretraining() == {"source": init_from, "epochs": None}


def test_the_record_of_an_evaluation_describes_the_model(run, tmp_path):
    outcome = record.Outcome({"imagenet/top1": 0.25, "imagenet/examples": 4}, {"real": "tfds build x"}, "resize")
    record.write(
        tmp_path / "new" / "imagenet-8.json",
        "imagenet",
        load_trained(str(run)),
        outcome,
        {"imagenet.split": "validation[:4]"},
    )
    written = json.loads((tmp_path / "new" / "imagenet-8.json").read_text())
    assert written == {
        "suite": "imagenet",
        "checkpoint": str(next((run / "checkpoints").iterdir())),
        "model": {
            "name": "mixer",
            "patch_size": 4,
            "num_blocks": 1,
            "hidden_dim": 8,
            "tokens_mlp_dim": 32,
            "channels_mlp_dim": 16,
        },
        "image_size": 8,
        "crop": "resize",
        "pretraining": {"source": "digits", "epochs": 0.2},
        "changes": {"imagenet.split": "validation[:4]"},
        "metrics": {"imagenet/top1": 0.25, "imagenet/examples": 4},
        "missing": {"real": "tfds build x"},
    }
    assert outcome.table().splitlines()[2:] == [
        "| imagenet/top1 | 0.2500 |",
        "| imagenet/examples | 4 |",
        "",
        "Left out, because they are not prepared on this machine:",
        "",
        "* real: `tfds build x`",
    ]
