"""Every shipped recipe builds all its objects, reads all its keys, and says what the paper's Table 4 says."""

import importlib
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from configs import base
from mixer_jax.config.checks import check_key
from mixer_jax.config.compare import complete, differences, flatten
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.suites import defaults as evaluation_defaults
from mixer_jax.training import run as train
from mixer_jax.training.program import build_program
from mixer_jax.training.setup import training_steps

ROOT = Path(__file__).parents[1]
OTHERS = {"base", "datasets"}  # what recipes are made of
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in OTHERS)

# Table 4: epochs, learning rate, weight decay, RandAugment magnitude, mixup, stochastic depth; dropout is always 0.
TABLE_4 = {
    "mixer_b16_i1k": (300, 0.001, 0.1, 15, 0.5, 0.1),
    "mixer_l16_i1k": (300, 0.001, 0.1, 15, 0.5, 0.1),
    "mixer_b16_i21k": (300, 0.001, 0.1, 10, 0.2, 0.1),
    "mixer_l16_i21k": (300, 0.001, 0.1, 20, 0.5, 0.1),
    "mixer_s32_jft": (5, 0.003, 0.03, None, 0, 0),
    "mixer_s16_jft": (5, 0.003, 0.03, None, 0, 0),
    "mixer_b32_jft": (7, 0.003, 0.03, None, 0, 0),
    "mixer_b16_jft": (7, 0.003, 0.03, None, 0, 0),
    "mixer_l32_jft": (7, 0.001, 0.03, None, 0, 0),
    "mixer_l16_jft": (14, 0.001, 0.03, None, 0, 0),
    "mixer_h14_jft": (14, 0.001, 0.03, None, 0, 0),
}
# Sizes of the training splits, and the steps that follow at batch 4096 (rounded down).
IMAGES = {
    "i1k": round(0.99 * 1_281_167),
    "i21k": 14_197_122 - 51_200,
    "jft": 303_000_000,
    "cifar10": 50_000,
    "finetune": 1_281_167,
    "vtab": 1000,
}
STEPS = {"mixer_b16_i1k": 92_897, "mixer_s32_jft": 369_873, "mixer_b16_jft": 517_822, "mixer_h14_jft": 1_035_644}


METRICS = (
    "loss",
    "top1",
    "grad_norm",
    "update_norm",
    "learning_rate",
    "replaced_images",
    "damaged_images",
    "skipped_updates",
)


class Recorder(Mapping):
    """Stands in for a config and notes the leaves that are read."""

    def __init__(self, config, read, prefix=""):
        self._config, self._read, self._prefix = config, read, prefix

    def __getitem__(self, key):
        value = self._config[key]
        if isinstance(value, ConfigDict):
            return Recorder(value, self._read, f"{self._prefix}{key}.")
        self._read.add(f"{self._prefix}{key}")
        return value

    def __getattr__(self, key):
        return self[key]

    def __iter__(self):
        return iter(self._config)

    def __len__(self):
        return len(self._config)

    def to_json_best_effort(self):
        return self._config.to_json_best_effort()

    def to_dict(self):  # what is checked of all keys does not count as read
        return self._config.to_dict()


def recipe(name, mode=""):
    return importlib.import_module(f"configs.{name}").get_config(mode)


def on_synthetic(config, size):
    """The recipe with nothing changed but where its images come from."""
    config.data.source = f"synthetic:{size}"
    return config


# What is not for the objects that are built: train.run reads the ones, sweep.run the others.
OF_THE_LOOP = {"profile", "checkpoint.keep", "init_from", "log_every", "eval.every", "checkpoint.every"}
OF_THE_SWEEP = {"sweep.learning_rates", "sweep.train_split", "sweep.held_out_split"}
# Read where it is asked for.
OF_FEWSHOT = {key for key in flatten(base.get_config()) if key.startswith("eval.fewshot.")}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_all_its_objects_and_reads_all_its_keys(name):
    config = recipe(name)
    read = set()
    if config.data.source != "digits":
        on_synthetic(config, IMAGES[name.rpartition("_")[2]])
    program = build_program(Recorder(config, read))
    assert set(flatten(config)) - read == OF_THE_LOOP | OF_THE_SWEEP | OF_FEWSHOT
    assert set(program.evaluators) == set(config.eval.splits)
    shapes = jax.eval_shape(program.init, jax.random.key(0))
    batch = {
        "image": jax.ShapeDtypeStruct((8, config.data.image_size, config.data.image_size, 3), "uint8"),
        "label": jax.ShapeDtypeStruct((8,), "int32"),
        "replaced": jax.ShapeDtypeStruct((8,), "bool"),
        "damaged": jax.ShapeDtypeStruct((8,), "bool"),
    }
    after, metrics = jax.eval_shape(program.train_step, shapes, batch)
    assert jax.tree.structure(after) == jax.tree.structure(shapes)
    assert set(metrics) == set(METRICS)


def test_a_run_reads_the_keys_of_the_loop(tiny_config, tmp_path):
    read = set()
    tiny_config.steps = 1
    tiny_config.schedule.warmup_steps = 0
    train.train(Recorder(tiny_config, read), tmp_path)
    assert read >= OF_THE_LOOP


def test_table_4_is_complete():
    assert set(TABLE_4) == set(RECIPES) - {"digits", "mixer_s4_cifar10", "finetune", "vtab"}


@pytest.mark.parametrize("name", TABLE_4)
def test_recipe_is_the_papers(name):
    config = recipe(name)
    train_transform = config.data.train
    magnitude = train_transform.randaugment_magnitude if train_transform.randaugment_layers else None
    assert (
        config.epochs,
        config.schedule.learning_rate,
        config.optimizer.weight_decay,
        magnitude,
        config.mixup,
        config.model.stoch_depth,
    ) == TABLE_4[name]
    assert config.model.name == name.rpartition("_")[0]
    assert config.model.name in registry.variants()
    # Section 3: the same in all runs.
    assert train_transform.randaugment_layers in (0, 2)
    assert (config.batch_size, config.data.image_size, config.schedule.warmup_steps) == (4096, 224, 10_000)
    assert (config.optimizer.name, config.optimizer.b1, config.optimizer.b2) == ("adam", 0.9, 0.999)
    assert (config.optimizer.clip_norm, config.schedule.decay, config.model.dropout) == (1.0, "linear", 0.0)
    assert train_transform.crop == "inception"
    assert train_transform.flip


@pytest.mark.parametrize("name", STEPS)
def test_recipe_runs_as_many_steps_as_the_paper(name):
    config = recipe(name)
    steps = training_steps(
        steps=config.steps,
        epochs=config.epochs,
        batch_size=config.batch_size,
        num_examples=IMAGES[name.rpartition("_")[2]],
    )
    assert steps == STEPS[name]


GRID = (0.003, 0.01, 0.03, 0.06)
# Section 3 with arXiv 2010.11929, Table 4: classes, steps, warm-up, grid, splits to train on and to choose on, test.
FINE_TUNING = {
    "imagenet": (1000, 20_000, 500, GRID, "train[:99%]", "train[99%:]", "validation"),
    "cifar10": (10, 10_000, 500, GRID, "train[:98%]", "train[98%:]", "test"),
    "cifar100": (100, 10_000, 500, GRID, "train[:98%]", "train[98%:]", "test"),
    "pets": (37, 500, 100, GRID, "train[:90%]", "train[90%:]", "test"),
    "flowers": (102, 500, 100, GRID, "train[:90%]+validation[:90%]", "train[90%:]+validation[90%:]", "test"),
}


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_is_the_papers(name):
    config = recipe("finetune", name)
    sweep = config.sweep
    assert (
        config.data.num_classes,
        config.steps,
        config.schedule.warmup_steps,
        sweep.learning_rates,
        sweep.train_split,
        sweep.held_out_split,
        config.eval.splits.test,
    ) == FINE_TUNING[name]
    assert config.data.split == ("train+validation" if name == "flowers" else "train")
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.momentum_dtype) == (
        "momentum",
        0.9,
        "bfloat16",
    )
    assert (config.batch_size, config.optimizer.clip_norm, config.optimizer.weight_decay) == (512, 1.0, 0.0)
    assert (config.schedule.decay, config.mixup, config.data.train.randaugment_layers) == ("cosine", 0.0, 0)
    assert (config.data.train.crop, config.data.evaluate.crop) == ("resize", "resmall")  # BiT; Appendix C for Table 3


@pytest.mark.parametrize(
    ("mode", "model", "image_size", "resize", "tokens_mlp_dim", "init_from"),
    [
        ("", "mixer_b16", 224, 256, 384, "imagenet21k/Mixer-B_16"),
        ("pets,mixer_l16,448", "mixer_l16", 448, 512, 2048, "imagenet21k/Mixer-L_16"),
        ("448,mixer_h14", "mixer_h14", 448, 512, 2560, "runs/mixer_h14_jft"),
    ],
)
def test_fine_tuning_of_a_model_at_a_size(mode, model, image_size, resize, tokens_mlp_dim, init_from):
    config = recipe("finetune", mode)
    assert (config.model.name, config.model.tokens_mlp_dim) == (model, tokens_mlp_dim)
    assert config.data.image_size == image_size
    assert config.data.train.resize == config.data.evaluate.resize == resize
    assert config.init_from == init_from


def test_an_unknown_word_of_the_fine_tuning_argument_is_refused():
    with pytest.raises(ConfigError, match=r"argument :cifar10,384: '384' is unknown; .*known: imagenet, .*, 448"):
        recipe("finetune", "cifar10,384")


@pytest.mark.parametrize(
    ("mode", "classes", "image_size", "crops", "resize", "flip"),
    [
        ("svhn", 10, 224, ("resize", "resize"), 256, True),
        ("pets,mixer_l16", 37, 448, ("resize", "resize"), 512, True),
        ("kitti_distance,224", 4, 224, ("none", "resize"), 224, True),
        ("dsprites_orientation,mixer_h14", 16, 224, ("resize", "resize"), 256, False),
    ],
)
def test_vtab_is_the_papers(mode, classes, image_size, crops, resize, flip):
    config = recipe("vtab", mode)
    task = mode.partition(",")[0]
    assert (config.data.source, config.data.num_classes, config.data.image_size) == (
        f"vtab:{task}",
        classes,
        image_size,
    )
    assert (config.data.train.crop, config.data.evaluate.crop) == crops
    assert config.data.train.resize == config.data.evaluate.resize == resize
    assert config.data.train.flip == flip
    assert (config.data.split, config.eval.splits.to_dict()) == ("train800val200", {"test": "test"})
    sweep = config.sweep
    assert (sweep.train_split, sweep.held_out_split) == ("train800", "val200")
    assert (config.steps, config.batch_size, sweep.learning_rates) == (2500, 512, (0.003, 0.01, 0.03))
    assert (config.optimizer.name, config.optimizer.weight_decay, config.schedule.decay) == ("momentum", 0.0, "cosine")


def test_the_evaluation_repeats_defaults_of_the_base():
    config = evaluation_defaults.get_config()
    for key in ("workers", "threads", "prefetch", "data_dir"):
        assert config.data[key] == base.get_config().data[key]
    assert (config.fewshot.shots, config.fewshot.seeds, config.fewshot.l2) == ((1, 5, 10, 25), (0, 1, 2), 1024)
    assert len(config.vtab.tasks) == 19


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_says_its_command_and_the_papers_accuracy(name):
    doc = importlib.import_module(f"configs.{name}").__doc__
    assert f"--config=configs/{name}.py" in doc
    assert "Hardware:" in doc
    assert "Accuracy" in doc


@pytest.mark.parametrize("name", RECIPES)
def test_smoke_mode_changes_where_the_images_come_from_and_how_many(name):
    changed = set(differences(recipe(name, "smoke").to_dict(), recipe(name).to_dict()))
    assert changed <= {
        "init_from",
        "data.source",
        "batch_size",
        "accumulation_steps",
        "eval.batch_size",
        "steps",
        "schedule.warmup_steps",
        "eval.every",
        "checkpoint.every",
        "checkpoint.keep",
        "log_every",
    }
    build_program(recipe(name, "smoke"))


def test_the_magnitude_of_randaugment_may_be_a_fraction():
    config = recipe("mixer_b16_i1k", "smoke")
    config.data.train.randaugment_magnitude = 2.5  # a key that holds an integer would refuse it, in flags too
    assert build_program(config)


def test_smoke_mode_trains_evaluates_and_saves(tmp_path):
    config = recipe("mixer_s32_jft", "smoke")
    config.data.image_size = 64
    config.data.evaluate.resize = 72
    config.model.num_blocks = 2  # a small model of the family, and of the recipe everything else
    config.model.hidden_dim = config.model.tokens_mlp_dim = config.model.channels_mlp_dim = 32
    result = train.train(config, tmp_path)
    assert result.step == 3
    assert result.metrics["eval/val/examples"] == 20
    assert result.checkpoint.is_dir()


def test_unknown_modes_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"config argument :smok is unknown; did you mean 'smoke'"):
        recipe("digits", "smok")


def test_a_misspelt_key_in_a_recipe_is_an_error():
    with pytest.raises(AttributeError, match="batch_size"):
        base.get_config().batchsize = 3


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("batchsize", "batch_size"),
        ("model.hiden", "model.hidden_dim"),
        ("modl.name", "model.name"),
        ("lr", "schedule.learning_rate"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("checkpoint.evry", "checkpoint.every"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key, nearest):
    with pytest.raises(ConfigError, match=rf"config.{key} does not exist; did you mean config.{nearest}\?"):
        check_key(base.get_config(), key)


def test_existing_keys_and_sections_pass():
    for key in ("batch_size", "data.train.crop", "data.train", "eval.splits.test"):
        check_key(base.get_config(), key)


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"), [(7, None, 7), (7, 300.0, 7), (None, 2.0, 32), (None, 0.5, 8), (None, 2.99, 47)]
)
def test_steps_take_precedence_over_epochs_which_round_down(steps, epochs, expected):
    assert training_steps(steps=steps, epochs=epochs, batch_size=64, num_examples=1024) == expected


@pytest.mark.parametrize(
    ("steps", "epochs", "message"),
    [
        (None, None, "config.steps and config.epochs are both None"),
        (None, 0.01, "config.epochs=0.01 of 1024 examples is no step of 64"),
    ],
)
def test_a_training_without_length_is_refused(steps, epochs, message):
    with pytest.raises(ConfigError, match=message):
        training_steps(steps=steps, epochs=epochs, batch_size=64, num_examples=1024)


def test_differences_are_named_with_both_values_and_free_keys_are_not():
    ours = {"a": {"b": 1, "c": 2}, "d": 3, "new": 0}
    theirs = {"a": {"b": 1, "c": 5}, "d": 4, "old": 0}
    assert differences(ours, theirs, ignore=["d"]) == {
        "a.c": (2, 5),
        "new": (0, "(absent)"),
        "old": ("(absent)", 0),
    }
    assert differences(ours, theirs, ignore=["a", "d", "new", "old"]) == {}


WRONG_VALUES = {
    "batch_size": (0, "config.batch_size=0; expected an integer from 1 to 1,048,576 .examples over all devices"),
    "eval.batch_size": (-64, "config.eval.batch_size=-64; expected an integer from 1"),
    "epochs": (math.nan, "config.epochs=nan; expected a number from 1e-09 to 1e.06"),
    "schedule.learning_rate": (math.inf, "config.schedule.learning_rate=inf; expected a number from 1e-12 to 1,000"),
    "log_every": (0, "config.log_every=0"),
    "eval.every": (-1, "config.eval.every=-1"),
    "checkpoint.every": (0, "config.checkpoint.every=0"),
    "checkpoint.best": (
        "eval/tset/top1",
        "config.checkpoint.best='eval/tset/top1' is unknown; did you mean 'eval/test/top1'",
    ),
    "checkpoint.keep": (0, "config.checkpoint.keep=0"),
    "seed": (-1, "config.seed=-1"),
    "mixup": (-0.5, "config.mixup=-0.5"),
    "accumulation_steps": (0, "config.accumulation_steps=0; expected an integer from 1"),
    "mesh.fsdp": (0, "config.mesh.fsdp=0; expected an integer from 1"),
    "model.remat": ("dot", "config.model.remat='dot' is unknown; did you mean 'dots'?"),
    "data.num_classes": (11, "config.data.num_classes=11, but digits has 10 classes"),
    "data.source": ("digit", "config.data.source='digit' is unknown"),
    "data.workers": (-1, "config.data.workers=-1"),
    "data.threads": (-1, "config.data.threads=-1"),
    "data.prefetch": (0, "config.data.prefetch=0"),
    "data.split": ("trian", "'trian' is unknown; did you mean 'train'"),
    "optimizer.momentum_dtype": ("float16", "config.optimizer.momentum_dtype='float16' is unknown"),
    "data.train.crop": ("pda", "config.data.train.crop='pda' is unknown"),
    "model.patch_size": (
        3,
        "config.data.image_size=8 is no size for .*'mixer': image size 8x8 is no multiple of patch_size=3",
    ),
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_wrong_value_is_refused_by_its_key(tiny_config, tmp_path, key):
    value, message = WRONG_VALUES[key]
    tiny_config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        train.train(tiny_config, tmp_path)
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.skipif(jax.device_count() == 1, reason="every batch divides over one device")
@pytest.mark.parametrize("key", ["batch_size", "eval.batch_size"])
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_does(tiny_config, key):
    devices = jax.device_count()
    tiny_config.update_from_flattened_dict({key: 2 * devices + 1})
    message = f"config.{key}={2 * devices + 1} does not divide over {devices} devices; the nearest size that does: "
    with pytest.raises(ConfigError, match=message + str(2 * devices)):
        build_program(tiny_config)


def test_a_batch_that_does_not_divide_into_the_parts_of_its_devices_is_refused(tiny_config):
    devices = jax.device_count()
    tiny_config.accumulation_steps = 3
    tiny_config.batch_size = 4 * devices
    message = f"config.batch_size={4 * devices} does not divide over {devices} devices with config.accumulation_steps=3"
    with pytest.raises(ConfigError, match=message + f" of each; the nearest size that does: {3 * devices}"):
        build_program(tiny_config)


def test_a_saved_config_is_completed_by_new_keys_but_not_by_splits():
    defaults = {"a": 1, "new": 2, "part": {"b": 3, "new": 4}, "eval": {"every": 5, "splits": {"test": "test"}}}
    saved = {"a": 10, "gone": 20, "part": {"b": 30}, "eval": {"splits": {"val": "train[:9]"}}}
    assert complete(saved, defaults) == {
        "a": 10,
        "new": 2,
        "gone": 20,
        "part": {"b": 30, "new": 4},
        "eval": {"every": 5, "splits": {"val": "train[:9]"}},
    }
