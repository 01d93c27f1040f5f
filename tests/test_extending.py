"""Models, data sources, transforms and evaluators of the user's own: docs/extending.md as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from mixer_jax.config import recipes
from mixer_jax.config.extensions import is_extension, resolve
from mixer_jax.data import transforms
from mixer_jax.data.decode import Decoding
from mixer_jax.errors import ConfigError, RunError
from mixer_jax.evaluators.evaluator import Evaluator
from mixer_jax.training.program import build_program
from mixer_jax.training.run import train

DOC = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a user who has saved the documentation's files, the recipe and the parts."""
    folder = tmp_path_factory.mktemp("user")
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    [recipe] = [block for block in blocks if "get_config" in block]
    (folder / "my_recipe.py").write_text(recipe)
    (folder / "my_parts.py").write_text("\n\n".join(block for block in blocks if block != recipe))
    return folder


def test_the_documentation_runs_as_it_stands(folder):
    [command] = re.findall(r"```bash\nmixer_jax (train .*?)```", DOC, re.DOTALL)
    program = f"{sys.executable} -m mixer_jax"
    done = subprocess.run(["bash", "-c", f"{program} {command}"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for line in lines if line["step"] == 40 for name, value in line.items()}
    assert 0.5 <= last["eval/confidence/mean"] <= 1
    assert {"eval/test/top1", "eval/fewshot/5/top1", "eval/fewshot/examples"} <= last.keys()
    assert "step 40: confidence mean 0." in done.stderr
    assert "best checkpoint:" in done.stderr
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["model"]["name"] == "my_parts:TwoLayers"
    assert (folder / "run" / "classes.txt").read_text() == "row\ncolumn\n"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "no_such_module:Model", "config.model.name='no_such_module:Model': No module named"),
        ("model.name", "json:nothing", r"config.model.name='json:nothing': the module json \(.*\) has no nothing"),
        ("model.name", "json:dumps", "expected a Flax module or a mixer_jax Family"),
        ("data.source", "json:nothing", "config.data.source='json:nothing'"),
        ("data.source", f"{__name__}:not_a_source", "returned a dict without num_classes, class_names, describe"),
        (
            "data.train.transforms",
            ("json:__name__",),
            "transforms='json:__name__' is 'json'; expected a function or",
        ),
        ("model.name", "mixer_jax.models.family:Family", "cannot be made without arguments"),
        (
            "data.train.transforms",
            ("darken",),
            r"config.data.train.transforms=\('darken',\); expected a tuple of package",
        ),
        ("data.evaluate.transforms", "json:dumps", "config.data.evaluate.transforms='json:dumps': .* cannot be casted"),
        ("eval.evaluators", ("acuracy",), "'acuracy' is unknown; did you mean 'accuracy'"),
        ("eval.evaluators", ("accuracy", "accuracy"), "expected a tuple of names, each once"),
        (
            "eval.evaluators",
            ("json:__name__",),
            "evaluators='json:__name__' is 'json'; expected a function or",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(tiny_config, key, value, message):
    def build():
        recipes.set_key(tiny_config, key, value)
        build_program(tiny_config)

    with pytest.raises(ConfigError, match=message):
        build()


def test_the_metrics_of_the_chosen_evaluators_are_those_that_choose_a_checkpoint(tiny_config):
    tiny_config.eval.evaluators = ("fewshot",)
    tiny_config.checkpoint.best = "eval/fewshot/5/top1"
    assert list(build_program(tiny_config).evaluators) == ["fewshot"]
    tiny_config.checkpoint.best = "eval/test/top1"
    with pytest.raises(ConfigError, match=r"config.checkpoint.best='eval/test/top1' is unknown; .*eval/fewshot/1/top1"):
        build_program(tiny_config)


def not_a_source(split, data_dir):
    return {split: data_dir}


def halve(image):
    return image[::2]


def test_a_transform_that_returns_another_size_is_named(tiny_config):
    name = f"{__name__}:halve"
    shown = {**tiny_config.data.evaluate.to_dict(), "transforms": (name,)}
    transform = transforms.make_eval_transform(size=8, decoding=Decoding(), **shown)
    source = build_program(tiny_config).sources["test"]
    with pytest.raises(RunError, match=rf"the transform {name} returned .*\(4, 8, 3\)\); expected .*\(8, 8, 3\)"):
        transform(source[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a:b", True), ("a.b.c:D", True), ("folder:~/x", False), ("a:b:c", False), ("digits", False), (":b", False)],
)
def test_the_form_of_an_extension(value, expected):
    assert is_extension(value) == expected


def test_what_an_extension_itself_raises_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_part.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="No module named 'nothing_of_that_name'"):
        resolve("config.model.name", "broken_part:Model")


class Labelled:
    """Ten grey images whose last label is no class."""

    num_classes, class_names = 10, tuple("0123456789")

    def __init__(self, split, data_dir):
        del split, data_dir

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {"image": np.zeros((8, 8, 3), np.uint8), "label": index if index < 9 else 10}

    def describe(self, index):
        return f"image {index}"


class Misnamed(Labelled):
    class_names = ("one", "two")


class Empty(Labelled):
    def __len__(self):
        return 0


class Eleven(nn.Module):
    num_classes: int | None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, intermediates=False):
        return nn.Dense(11)(images.reshape(len(images), -1))


class Normed(nn.Module):
    num_classes: int | None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, train=False, intermediates=False):
        return nn.BatchNorm(use_running_average=not train)(images).mean(axis=(1, 2))


def returns_none(context):
    del context


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.source", f"{__name__}:Misnamed", "has 10 classes, and 2 class_names"),
        ("data.source", f"{__name__}:Empty", "holds no examples"),
        ("model", {"name": f"{__name__}:Eleven"}, r"returns .*\(1, ?11\).*; expected logits of shape \(1, 10\)"),
        ("model", {"name": f"{__name__}:Normed"}, "has the variables batch_stats, params; expected params alone"),
        ("eval.evaluators", (f"{__name__}:returns_none",), "returned None; expected Evaluators by name"),
    ],
)
def test_what_an_extension_returns_is_checked_before_anything_is_trained(tiny_config, key, value, message):
    if key == "model":
        tiny_config.model = value
    else:
        recipes.set_key(tiny_config, key, value)
    with pytest.raises(ConfigError, match=message):
        build_program(tiny_config)


def test_a_label_that_is_no_class_is_named(tiny_config):
    tiny_config.data.source = f"{__name__}:Labelled"
    source = build_program(tiny_config).sources["train"]
    assert source[3]["label"] == 3
    with pytest.raises(RunError, match="image 9 has label 10; expected 0 to 9"):
        source[9]


def answers(*values):
    """What makes an evaluator `own` with the metric `mean`, which gives one of these after another."""
    given = iter(values)
    return lambda context: {"own": Evaluator(("mean",), lambda state, interrupted: next(given))}


def failing(context):
    def measure(state, interrupted):
        raise ValueError("a fault of the user's own")

    return {"own": Evaluator(("mean",), measure)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (({},), r"the evaluator own returned the metrics \[\]; expected \['mean'\]"),
        (({"mean": "0.5"},), "the evaluator own returned mean='0.5'; expected a number"),
        (({"mean": 1j},), "the evaluator own returned mean=1j; expected a number"),
        (({"other": 0.5},), r"returned the metrics \['other'\]; expected \['mean'\]"),
        (None, "a fault of the user's own"),
    ],
)
def test_an_evaluator_that_fails_costs_no_trained_step(tiny_config, tmp_path, monkeypatch, values, message):
    monkeypatch.setattr(sys.modules[__name__], "own", answers(*values) if values else failing, raising=False)
    tiny_config.eval.evaluators = (f"{__name__}:own",)
    tiny_config.checkpoint.best = None
    tiny_config.steps, tiny_config.eval.every, tiny_config.checkpoint.every = 8, 3, 100
    with pytest.raises((RunError, ValueError), match=message):
        train(tiny_config, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_a_metric_that_is_no_number_is_never_the_best(tiny_config, tmp_path, monkeypatch):
    values = [{"mean": 0.9}, {"mean": float("nan")}, {"mean": 0.8}]
    monkeypatch.setattr(sys.modules[__name__], "own", answers(*values), raising=False)
    tiny_config.eval.evaluators = (f"{__name__}:own",)
    tiny_config.checkpoint.best, tiny_config.checkpoint.keep = "eval/own/mean", 1
    tiny_config.steps, tiny_config.eval.every, tiny_config.checkpoint.every = 9, 3, 3
    tiny_config.schedule.warmup_steps = 1
    train(tiny_config, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "9"]
