"""Models, data sources, transforms and evaluators of the user's own: docs/extending.md as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_jax.config import recipes
from mixer_jax.config.extensions import is_extension, resolve
from mixer_jax.data import transforms
from mixer_jax.errors import ConfigError, RunError
from mixer_jax.training.program import build_program

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
    transform = transforms.make_eval_transform(size=8, exif_orientation=False, **shown)
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
