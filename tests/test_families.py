"""A family of models outside the package does all that a Mixer does; and what families refuse."""

import shutil

import jax
import numpy as np
import pytest

from mixer_jax.benchmark import model as model_speed
from mixer_jax.config import recipes
from mixer_jax.errors import ConfigError
from mixer_jax.inference import predict
from mixer_jax.models import registry
from mixer_jax.models.cost import forward_flops
from mixer_jax.planning.compilation import compile_step
from mixer_jax.runtime import mesh
from mixer_jax.suites import defaults, finetuned, frozen
from mixer_jax.suites import recipes as protocols
from mixer_jax.training import run
from mixer_jax.training.replay import replay
from mixer_jax.training.setup import build_training
from mixer_jax.weights.load import load_weights, save_weights
from mixer_jax.weights.trained import load_trained

TOY = "tests.toy_family:Toy"


def toy_config():
    config = recipes.load("digits", {"steps": 6, "batch_size": 16, "log_every": 2})
    config.schedule.warmup_steps = 2
    config.eval.every = config.checkpoint.every = 4
    config.eval.evaluators = ("accuracy", "fewshot")
    config.model = {"name": TOY, "width": 24, "dropout": 0.1}
    return config


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The work directory of a toy that was trained to step 6, and the parameters that it had then."""
    workdir = tmp_path_factory.mktemp("toy")
    assert run.train(toy_config(), workdir).step == 6
    return workdir


def test_a_toy_resumes_to_the_same_bits_and_the_checkpoint_names_it(toy, tmp_path):
    straight = load_weights(toy)
    assert straight.model == {"name": TOY, "width": 24, "num_classes": 10}
    assert (straight.image_size, straight.params["body"]["kernel"].shape) == (8, (12, 24))
    shutil.copytree(toy, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "checkpoints" / "6")
    assert run.train(toy_config(), tmp_path / "copy").step == 6
    jax.tree.map(np.testing.assert_array_equal, load_weights(tmp_path / "copy").params, straight.params)


def test_a_toy_is_evaluated_and_probed(toy):
    config = defaults.get_config()
    config.imagenet.source, config.imagenet.split = "digits", "test"
    config.eval.batch_size = 64
    trained = load_trained(toy)
    metrics = frozen.imagenet(trained, config).metrics
    assert metrics["digits/examples"] == 355
    config.fewshot.source, config.fewshot.train_split, config.fewshot.test_split = "digits", "train", "test"
    config.fewshot.shots = (5,)
    assert frozen.fewshot(trained, config).metrics["fewshot/5/top1"] > 0.2  # three colours of four cells say something


def test_a_toy_predicts_from_a_copied_checkpoint(toy, tmp_path):
    shutil.copytree(toy / "checkpoints" / "6", tmp_path / "copied")
    trained = load_trained(tmp_path / "copied")
    assert predict.names_of(trained, None) == list("0123456789")
    images = [np.full((9, 7, 3), value, np.uint8) for value in (0, 255)]
    logits = trained.logits(images)
    assert (logits.shape, logits.dtype) == ((2, 10), np.float32)
    assert (logits[0] != logits[1]).any()


def test_a_step_of_a_toy_is_replayed(toy):
    metrics, layers = replay(toy, 6)
    assert layers.keys() == {"body", "head"}
    assert np.isfinite(metrics["loss"])


def test_a_toy_is_planned_counted_and_measured():
    config = toy_config()
    training = build_training(config, mesh.create_mesh(), num_examples=100)
    assert compile_step(training).memory_bytes > 0
    assert forward_flops(training.model, 8) == 2 * (12 * 24 + 24 * 10)
    report = model_speed.measure(config, batch_sizes=[2], seconds=0, rounds=1)
    assert report["model"] == TOY


def test_a_toy_starts_from_weights_at_another_size(toy, tmp_path):
    config = toy_config()
    config.data.image_size = config.data.evaluate.resize = 16
    config.init_from = str(toy)
    config.steps = 3
    assert run.train(config, tmp_path).step == 3
    config.model.width = 12
    with pytest.raises(ConfigError, match=r"config.init_from=.* needs config.model.width=24 \(12 here\)"):
        run.train(config, tmp_path / "other")


def test_a_toy_is_fine_tuned_by_the_papers_protocol(toy):
    recipe = finetuned._adapted(protocols.for_data_set("cifar10"), load_trained(toy), defaults.get_config(), 16)
    assert (recipe.model.name, recipe.model.width, recipe.data.image_size) == (TOY, 24, 16)


def test_a_toy_goes_to_npz_and_not_to_timm(toy, tmp_path):
    weights = load_weights(toy)
    save_weights(tmp_path / "toy.npz", weights)
    with pytest.raises(ConfigError, match=r"toy.npz holds no model of a known family: expected one of the keys stem"):
        load_weights(tmp_path / "toy.npz")
    with pytest.raises(ConfigError, match=r"toy.safetensors: timm has no tests.toy_family:Toy"):
        save_weights(tmp_path / "toy.safetensors", weights)


def test_another_family_is_refused_where_a_mixer_is_to_start(toy, tiny_config, tmp_path):
    tiny_config.init_from = str(toy)
    with pytest.raises(ConfigError, match=rf"needs config.model.name='{TOY}' \('mixer' here\)"):
        run.train(tiny_config, tmp_path)


def test_a_model_takes_no_attributes_of_another_family():
    assert registry.create_model(TOY, 3, width=4, patch_size=None, dtype="bfloat16").cells == 2  # as base has them
    with pytest.raises(ConfigError, match=r"config.model.patch_size=16 is no attribute of tests.toy_family:Toy"):
        registry.create_model(TOY, 3, width=4, patch_size=16)
    with pytest.raises(ConfigError, match=r"config.model.width is missing: a free configuration .* sets \['width'\]"):
        registry.create_model(TOY, 3)


def test_every_variant_has_its_title():
    for name in registry.variants():
        assert registry.variant_of(registry.title({"name": name}, 224)) == name
    assert registry.title({"name": "mixer_b16"}, 448) is None
    assert registry.title({"name": "mixer_b16", "tokens_mlp_dim": 4 * 384}, 448) == "Mixer-B/16"
    assert registry.title({"name": "mixer_b16", "hidden_dim": 8}, 224) is None
    assert registry.title({"name": "no_such_module:Model"}, 224) is None  # and nothing is imported for that
