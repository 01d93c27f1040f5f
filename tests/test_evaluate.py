"""The suites of `evaluate` on small data sets: ImageNet's test sets, few-shot probes, and what is fine-tuned."""

import json
import pathlib
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny_tfds import write

from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import probes
from mixer_jax.models import registry
from mixer_jax.steps.infer_steps import scale_pixels
from mixer_jax.suites import choices, finetuned, frozen
from mixer_jax.suites import defaults as evaluate_config
from mixer_jax.weights.trained import load_trained
from tests.weight_files import save_params

ROOT = pathlib.Path(__file__).parents[1]
TINY = {"patch_size": 4, "num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 4, "channels_mlp_dim": 16}


def save_model(path, *, num_classes=10, image_size=8):
    """Writes random weights, none of them zero, to a file."""
    model = registry.create_model("mixer", num_classes, **TINY)
    params = model.init(jax.random.key(0), jnp.zeros((1, image_size, image_size, 3)))["params"]
    draw = np.random.default_rng(2)
    save_params(path, jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), params))
    return load_trained(str(path))


@pytest.fixture
def config(tmp_path):
    """The evaluation's config, with an empty folder of data sets."""
    config = evaluate_config.get_config()
    config.data.data_dir = str(tmp_path / "data")
    config.eval.batch_size = 64
    return config


def outputs(model, source, name, size=8, resize=9):
    """An activation for each image of a source, and the labels, without the project's batches and steps."""
    images = np.stack(
        [cv2.resize(source[n]["image"], (resize, resize), interpolation=cv2.INTER_LINEAR) for n in range(len(source))]
    )
    images = images[:, :size, :size]  # of one pixel more than the size, the upper left centre
    _, named = model.model().apply(
        {"params": model.weights.params}, scale_pixels(jnp.asarray(images)), intermediates=True
    )
    return np.asarray(named[name]), np.array([source[n]["label"] for n in range(len(source))])


def test_imagenet_counts_every_image_once(tmp_path, config):
    model = save_model(tmp_path / "digits.npz")
    config.imagenet.source, config.imagenet.split, config.crop = "digits", "test", "resize"
    outcome = frozen.imagenet(model, config)
    logits, labels = outputs(model, sources.Digits("test"), "logits")
    order = np.argsort(-logits, axis=1)
    assert outcome.metrics == {
        "digits/top1": pytest.approx((order[:, 0] == labels).mean()),
        "digits/top5": pytest.approx((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        "digits/examples": 355,
    }
    assert outcome.missing == {}
    assert outcome.crop == "resize"


def test_another_head_than_the_data_sets_is_refused(tmp_path, config):
    model = save_model(tmp_path / "seven.npz", num_classes=7)
    config.imagenet.source, config.imagenet.split = "digits", "test"
    with pytest.raises(ConfigError, match=r"seven.npz has a head of 7 classes, and digits has 10: fine-tune it first"):
        frozen.imagenet(model, config)


def write_real(data_dir, sets):
    """Prepares the data set imagenet2012_real with images of one colour and these sets of labels."""

    def example(n, labels):
        image = cv2.imencode(".png", np.full((9, 9, 3), 20 * n, np.uint8))[1].tobytes()
        return {"image": image, "original_label": 0, "real_label": labels, "file_name": f"{n}.JPEG"}

    write(data_dir, "imagenet2012_real", {"validation": [example(n, labels) for n, labels in enumerate(sets)]})


def test_real_leaves_out_images_without_labels(tmp_path, config):
    model = save_model(tmp_path / "thousand.npz", num_classes=1000)
    images = np.stack([np.full((8, 8, 3), 20 * n, np.uint8) for n in range(6)])
    best = model.model().apply({"params": model.weights.params}, scale_pixels(jnp.asarray(images))).argmax(axis=1)
    best = [int(number) for number in best]
    others = [(number + 1) % 1000 for number in best]
    sets = [[best[0]], [others[1], best[1]], [], [others[3]], [], sorted([best[5], others[5], (best[5] + 2) % 1000])]
    write_real(tmp_path / "data", sets)
    outcome = frozen.imagenet(model, config)
    assert outcome.metrics["real/top1"] == 0.75
    assert outcome.metrics["real/examples"] == 4
    assert outcome.metrics["real/without_labels"] == 2
    build, folder = "tfds build", f"--data_dir={tmp_path}/data"
    assert outcome.missing == {
        "imagenet": f"{build} imagenet2012 --file_format=array_record --manual_dir=<folder of its archives> {folder}",
        "imagenet_v2": f"{build} imagenet_v2/matched-frequency --file_format=array_record {folder}",
    }


def test_fewshot_probes_the_features_before_the_head(tmp_path, config):
    model = save_model(tmp_path / "digits.npz")
    config.fewshot.source, config.fewshot.train_split, config.fewshot.test_split = "digits", "train", "test"
    config.fewshot.shots, config.fewshot.seeds = (2, 5), (0, 3)
    metrics = frozen.fewshot(model, config).metrics
    features, labels = outputs(model, sources.Digits("train"), "pre_logits")
    test_features, test_labels = outputs(model, sources.Digits("test"), "pre_logits")
    for shots in (2, 5):
        scores = []
        for seed in (0, 3):
            chosen = probes.choose(labels, num_classes=10, shots=shots, seed=seed)
            predicted = probes.probe(features[chosen], labels[chosen], test_features, num_classes=10)
            scores.append(np.mean(np.asarray(predicted) == test_labels))
            assert metrics[f"fewshot/{shots}/seed_{seed}/top1"] == pytest.approx(scores[-1], abs=0.01)
        assert metrics[f"fewshot/{shots}/top1"] == pytest.approx(np.mean(scores), abs=0.01)
    assert metrics["fewshot/examples"] == 355


def write_labelled(data_dir, name, num_classes, sizes):
    """Prepares a data set of TFDS's with small images, whose colour tells their class."""

    def example(n):
        image = np.full((8, 8, 3), (n % num_classes) * (250 // num_classes), np.uint8)
        return {"image": cv2.imencode(".png", image)[1].tobytes(), "label": n % num_classes}

    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=num_classes)}
    write(data_dir, name, {split: [example(n) for n in range(size)] for split, size in sizes.items()}, features)


@pytest.fixture
def short(config):
    """The config with fine-tuning of a few steps."""
    config.finetune.steps, config.finetune.warmup_steps, config.finetune.batch_size = 12, 2, 32
    config.finetune.learning_rates = (1e-6, 0.03)
    config.finetune.dtype = "float32"
    return config


def test_vtab_chooses_on_val200_trains_on_1000_and_tests_once(tmp_path, short):
    model = save_model(tmp_path / "digits.npz")
    write_labelled(tmp_path / "data", "dmlab", 6, {"train": 820, "validation": 210, "test": 30})
    short.vtab.tasks = ("dmlab", "eurosat")
    outcome = finetuned.vtab(model, short, tmp_path / "vtab")
    assert outcome.metrics.keys() == {"vtab/dmlab/top1"}  # no mean of a part
    assert list(outcome.missing) == ["eurosat"]
    assert outcome.image_size == 16
    written = json.loads((tmp_path / "vtab" / "dmlab" / "sweep.json").read_text())
    assert written["metrics"]["eval/test/examples"] == 30
    assert written["metrics"]["eval/test/top1"] == outcome.metrics["vtab/dmlab/top1"]
    assert [trial["learning_rate"] for trial in written["trials"]] == [1e-6, 0.03]
    final = json.loads((tmp_path / "vtab" / "dmlab" / "final" / "config.json").read_text())
    assert (final["data"]["split"], final["eval"]["splits"]) == ("train800val200", {"test": "test"})
    assert final["schedule"]["learning_rate"] == written["learning_rate"]
    assert final["init_from"] == str(tmp_path / "digits.npz")
    trial = json.loads((tmp_path / "vtab" / "dmlab" / "learning_rate=0.03" / "config.json").read_text())
    assert (trial["data"]["split"], trial["eval"]["splits"]) == ("train800", {"held_out": "val200"})


@pytest.mark.parametrize(
    ("task", "size", "crop", "resize", "tokens_mlp_dim"),
    [("svhn", 8, "resize", 10, 4), ("pets", 16, "resize", 20, 16), ("dsprites_location", 8, "none", 8, 4)],
)
def test_small_images_stay_small_and_large_ones_have_twice_the_size(
    tmp_path, short, monkeypatch, task, size, crop, resize, tokens_mlp_dim
):
    recipes = {}
    monkeypatch.setattr(finetuned, "_fine_tune", lambda found, *_, **__: recipes.update(found) or ({}, {}, None))
    short.vtab.tasks, short.finetune.resize = (task,), 1.25
    finetuned.vtab(save_model(tmp_path / "digits.npz"), short, tmp_path)
    recipe = recipes[task]
    assert (recipe.data.image_size, recipe.data.train.crop, recipe.model.tokens_mlp_dim) == (size, crop, tokens_mlp_dim)
    assert (recipe.data.train.resize, recipe.data.evaluate.resize, recipe.data.evaluate.crop) == (
        resize,
        resize,
        "resize",
    )
    assert recipe.data.train.flip == (task != "dsprites_location")


def test_one_learning_rate_for_all_tasks_is_that_of_the_best_mean(tmp_path, short, monkeypatch):
    # The choice is looked at, not the training.
    tried = {"svhn": {1e-6: 0.5, 0.03: 0.4}, "dmlab": {1e-6: 0.1, 0.03: 0.9}}
    finals = {}

    def train_final(_, rate, trials, workdir):
        finals[workdir.name] = rate
        assert trials == tried[workdir.name]
        return finetuned.sweep.Result(trials, rate, {"eval/test/top1": 0.5}, workdir, None)

    monkeypatch.setattr(finetuned.sweep, "try_rates", lambda _, workdir: (tried[workdir.name], None))
    monkeypatch.setattr(finetuned.sweep, "train_final", train_final)
    monkeypatch.setattr(finetuned, "_opener", lambda recipe: lambda: recipe)
    model = save_model(tmp_path / "digits.npz")
    short.vtab.tasks = ("svhn", "dmlab")
    for choice, expected in (("task", {"svhn": 1e-6, "dmlab": 0.03}), ("shared", {"svhn": 0.03, "dmlab": 0.03})):
        short.vtab.learning_rate = choice
        outcome = finetuned.vtab(model, short, tmp_path / choice)
        assert finals == expected
        assert outcome.metrics == {"vtab/svhn/top1": 0.5, "vtab/dmlab/top1": 0.5}


def test_means_are_of_whole_groups(tmp_path, short, monkeypatch):
    scores = {name: n / 20 for n, name in enumerate(finetuned.TASKS)}
    monkeypatch.setattr(finetuned, "_fine_tune", lambda *_, **__: (scores, {}, None))
    metrics = finetuned.vtab(save_model(tmp_path / "digits.npz"), short, tmp_path).metrics
    assert metrics["vtab/natural/top1"] == pytest.approx(np.mean(np.arange(7) / 20))
    assert metrics["vtab/specialised/top1"] == pytest.approx(np.mean(np.arange(7, 11) / 20))
    assert metrics["vtab/structured/top1"] == pytest.approx(np.mean(np.arange(11, 19) / 20))
    assert metrics["vtab/top1"] == pytest.approx(np.mean(np.arange(19) / 20))
    five = {"imagenet": 0.8, "cifar10": 0.9, "cifar100": 0.7, "pets": 0.95, "flowers": 1.0}
    monkeypatch.setattr(finetuned, "_fine_tune", lambda *_, **__: (five, {}, None))
    assert finetuned.avg5(save_model(tmp_path / "digits.npz"), short, tmp_path).metrics["avg5/top1"] == pytest.approx(
        0.87
    )


def test_avg5_fine_tunes_at_the_size_that_is_asked_for(tmp_path, short):
    model = save_model(tmp_path / "digits.npz")
    write_labelled(tmp_path / "data", "oxford_iiit_pet", 37, {"train": 100, "test": 20})
    short.avg5.data_sets = ("pets", "flowers")
    short.image_size = 24
    short.finetune.learning_rates = (0.03,)
    outcome = finetuned.avg5(model, short, tmp_path / "avg5")
    assert outcome.metrics.keys() == {"pets/top1"}
    assert list(outcome.missing) == ["flowers"]
    final = json.loads((tmp_path / "avg5" / "pets" / "final" / "config.json").read_text())
    assert (final["data"]["image_size"], final["model"]["tokens_mlp_dim"]) == (24, 36)
    short.image_size = 12
    with pytest.raises(ConfigError, match="digits.npz at 12 pixels: from 8 to 12 pixels is no whole factor"):
        finetuned.avg5(model, short, tmp_path / "avg5")


@pytest.mark.parametrize(
    ("suite", "key", "value", "said"),
    [
        ("fewshot", "fewshot.l2", -1.0, r"config.fewshot.l2=-1.0; expected a number from"),
        ("fewshot", "fewshot.l2", float("nan"), r"config.fewshot.l2=nan; expected a number from"),
        ("fewshot", "fewshot.shots", (), r"config.fewshot.shots=\(\); expected one or more, each once"),
        ("fewshot", "fewshot.shots", (5, 5), r"config.fewshot.shots=\(5, 5\); expected one or more, each once"),
        (
            "fewshot",
            "fewshot.shots",
            (1.5,),
            r"config.fewshot.shots=\(1.5,\); expected a tuple, of each an integer from 1",
        ),
        ("fewshot", "fewshot.seeds", (-1,), r"config.fewshot.seeds=\(-1,\); expected a tuple, of each an integer"),
        ("fewshot", "fewshot.resize", 0, r"config.fewshot.resize=0; expected an integer from 1 to 4,096 .pixels"),
        ("fewshot", "fewshot.crop", "foo", r"config.fewshot.crop='foo' is unknown; known: resize, resmall"),
        ("fewshot", "image_size", 16, r"config.image_size=16 is not for the suite fewshot, which reads config.fewshot"),
        (
            "imagenet",
            "image_size",
            16,
            r"config.image_size=16 is not for the suite imagenet, which reads config.crop",
        ),
        ("imagenet", "crop", "foo", r"config.crop='foo' is unknown"),
        ("avg5", "image_size", -8, r"config.image_size=-8; expected an integer from 1 to 4,096 .pixels"),
        ("avg5", "finetune.steps", 0, r"config.finetune.steps=0; expected an integer from 1"),
        (
            "avg5",
            "finetune.learning_rates",
            ("a",),
            r"config.finetune.learning_rates=\('a',\); expected a tuple, of each a number",
        ),
        ("vtab", "finetune.resize", 0.9, r"config.finetune.resize=0.9; expected a number from 1"),
        ("avg5", "finetune.dtype", "foo", r"config.finetune.dtype='foo' is unknown"),
        ("avg5", "avg5.data_sets", (), r"config.avg5.data_sets=\(\); expected one or more"),
        ("avg5", "avg5.data_sets", ("pet",), r"config.avg5.data_sets: name='pet' is unknown; did you mean 'pets'"),
        (
            "vtab",
            "vtab.tasks",
            ("svhn", "svhn"),
            r"config.vtab.tasks=\('svhn', 'svhn'\); expected one or more",
        ),
        ("vtab", "vtab.learning_rate", "all", r"config.vtab.learning_rate='all' is unknown"),
        ("vtab", "vtab.small_size", -8, r"config.vtab.small_size=-8; expected an integer"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(config, suite, key, value, said):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=said):
        choices.check(suite, config)


@pytest.mark.parametrize("suite", choices.SUITES)
def test_what_is_changed_is_what_differs_from_the_defaults_but_for_reading(config, suite):
    choices.check(suite, config)
    assert choices.changes(config) == {}  # a folder of data is no choice
    config.crop = "resize"
    config.fewshot.shots = (5,)
    assert choices.changes(config) == {"crop": "resize", "fewshot.shots": (5,)}


def test_the_command_prints_writes_and_refuses(tmp_path):
    save_model(tmp_path / "digits.npz")

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mixer_jax", "evaluate", f"--checkpoint={tmp_path}/digits.npz", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    digits = [
        "--config.fewshot.source=digits",
        "--config.fewshot.train_split=train",
        "--config.fewshot.test_split=test",
    ]
    done = command("--suite=fewshot", *digits, "--config.fewshot.shots=(1,)", f"--workdir={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "fewshot-8.json").read_text())
    assert f"| fewshot/1/top1 | {written['metrics']['fewshot/1/top1']:.4f} |" in done.stdout
    assert written["changes"]["fewshot.shots"] == [1]
    assert written["pretraining"] == {"source": f"{tmp_path}/digits.npz", "epochs": None}
    done = command("--suite=vtab", f"--workdir={tmp_path}/out", f"--config.data.data_dir={tmp_path}")
    assert done.returncode == 1
    assert "no data set of this suite is prepared" in done.stdout
    assert "* kitti_distance: `tfds build kitti " in done.stdout
    assert not (tmp_path / "out" / "vtab-16.json").exists()
    done = command("--suite=fewshot", "--config.fewshot.shot=3")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["mixer_jax evaluate: config.fewshot.shot does not exist; did you mean config.fewshot.shots?"],
    )
