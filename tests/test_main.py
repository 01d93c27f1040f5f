"""The command line: where a run goes, and how what is wrong with it is said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import mixer_jax
from mixer_jax import cli
from mixer_jax.config import recipes
from mixer_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT, env=None):
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("config", "workdir"),
    [
        ("configs/digits.py", "runs/digits"),
        ("configs/mixer_l16_i21k.py:smoke", "runs/mixer_l16_i21k-smoke"),
        ("/somewhere/else/my_recipe.py", "runs/my_recipe"),
    ],
)
def test_a_run_goes_to_the_name_of_its_config(config, workdir):
    assert cli.default_workdir(config) == workdir


WRONG = {
    "--config.batchsize=3": "config.batchsize does not exist; did you mean config.batch_size?",
    "--config.modl.name x": "config.modl.name does not exist; did you mean config.model.name?",
    "--noconfig.profil": "config.profil does not exist; did you mean config.profile?",
    "--config=configs/nothing.py": "--config=configs/nothing.py: there is no such file, and no recipe has that name",
    "--config=mixer_b61_i1k": "no recipe has that name; did you mean 'mixer_b16_i1k'?",
    "--config=elsewhere/digits.py:smoke": "the recipe of that name that comes with mixer_jax is --config=digits:smoke",
    "--config=digits:smok": "config argument :smok is unknown; did you mean 'smoke'?",
    "--config.batch_size=None": "config.batch_size=None; it needs a value",
    "--config.epochs=None": "config.steps and config.epochs are both None; set one of them",
    "--config.data.data_dir=~nosuchuser/x --config.data.source=tfds:mnist": "config.data.data_dir=~nosuchuser/x: ",
    "--config=configs/digits.py:smok": "config argument :smok is unknown; did you mean 'smoke'?",
    "--config.model.name=mixer_b61": "config.model.name='mixer_b61' is unknown; did you mean 'mixer_b16'?",
    "--config.batch_size=many": "invalid literal for int() with base 10: 'many'",
    "--workdir=gs://bucket/run": "--workdir=gs://bucket/run is no local path",
    "config.batch_size=3": "unexpected arguments",
    "--config=": "there is no such file",
    "--flagfile={folder}/flags": "config.batchsize does not exist; did you mean config.batch_size?",
    "--flagfile={folder}/nothing": "nothing",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_named_without_a_traceback(arguments, tmp_path):
    config = [] if arguments.startswith("--config=") else ["--config=configs/digits.py"]
    workdir = [] if arguments.startswith("--workdir") else [f"--workdir={tmp_path}"]
    (tmp_path / "flags").write_text("--config.batchsize=3\n")
    result = run(*config, *workdir, *arguments.format(folder=tmp_path).split())
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert WRONG[arguments] in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["flags"]


def test_a_config_is_required():
    result = run()
    assert result.returncode != 0
    assert "Flag --config must have a value" in result.stdout + result.stderr


def test_a_misspelt_key_in_a_recipe_is_named_with_its_line(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from configs import base\n\ndef get_config():\n    config = base.get_config()\n    config.batchsize = 3\n"
    )
    result = run(f"--config={recipe}", f"--workdir={tmp_path}")
    assert result.returncode != 0
    assert f"{recipe}:5: there is no config key batchsize; did you mean batch_size?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_recipe_of_ones_own_runs_from_any_folder(tmp_path):
    recipe = tmp_path / "my_digits.py"
    recipe.write_text(
        "from configs import digits\n\n\n"
        "def get_config(mode=''):\n"
        "    config = digits.get_config(mode)\n"
        "    config.model.num_blocks = 1\n"
        "    config.steps = 2\n"
        "    config.schedule.warmup_steps = 1\n"
        "    return config\n"
    )
    result = run("--config=my_digits.py", "--config.batch_size=16", "--config.log_every=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "finished step 2: eval/test/top1" in result.stdout
    assert (tmp_path / "runs" / "my_digits" / "checkpoints" / "2").is_dir()
    for shown in ("stem/kernel", "Total:", "devices:", "mesh:", "step 2/2 (100.0%): loss", "img/sec/core", "ETA"):
        assert shown in result.stderr


def test_a_recipe_is_found_by_its_name_and_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("digits:smoke") == f"{ROOT}/configs/digits.py:smoke"
    (tmp_path / "digits").write_text("def get_config(): ...\n")
    assert recipes.find("digits:smoke") == "digits:smoke"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert recipes.find("~/digits") == f"{tmp_path}/digits"


def test_every_recipe_loads_by_name():
    names = recipes.names()
    assert {"digits", "mixer_b16_i1k", "finetune", "vtab"} <= set(names)
    assert not {"base", "datasets"} & set(names)
    for name in names:
        assert recipes.load(name).model.name


def test_a_config_is_loaded_with_changed_keys():
    config = mixer_jax.load_config("digits", {"steps": 7, "epochs": None, "eval.splits": {"val": "test"}})
    assert (config.steps, config.epochs, config.eval.splits.to_dict()) == (7, None, {"val": "test"})
    assert config.is_locked
    for changes, message in (
        ({"batchsize": 3}, "config.batchsize does not exist; did you mean config.batch_size"),
        ({"batch_size": None}, "config.batch_size=None; it needs a value, such as 128"),
        ({"batch_size": "many"}, "config.batch_size='many'"),
    ):
        with pytest.raises(ConfigError, match=message):
            mixer_jax.load_config("digits", changes)


def test_a_tilde_is_the_home_directory_and_none_unsets_a_key(tmp_path):
    (tmp_path / "images" / "train" / "one").mkdir(parents=True)
    (tmp_path / "images" / "train" / "two").mkdir()
    for folder in ("one", "two"):
        cv2.imwrite(str(tmp_path / "images" / "train" / folder / "a.png"), np.zeros((9, 9, 3), np.uint8))
    environment = {**os.environ, "HOME": str(tmp_path)}
    keys = (
        "--config.data.source=folder:~/images",
        "--config.data.num_classes=2",
        "--config.eval.splits={'a': 'train'}",
    )
    short = (
        "--config.steps=1",
        "--config.schedule.warmup_steps=0",
        "--config.batch_size=4",
        "--config.eval.batch_size=4",
    )
    unset = (
        "--config.checkpoint.best=None",
        "--config.epochs=None",
        "--config.steps=None",
        "--config.data.data_dir=None",
    )
    options = (*unset, *keys, *short)
    result = run("--config=digits", "--workdir=~/päth with space/run", *options, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    workdir = tmp_path / "päth with space" / "run"
    assert (workdir / "checkpoints" / "1").is_dir()
    config = json.loads((workdir / "config.json").read_text())
    assert (config["checkpoint"]["best"], config["epochs"], config["data"]["data_dir"]) == (None, None, None)
    assert config["steps"] == 1  # the last one counts
    assert not (tmp_path / "~").exists()


def test_help_lists_every_command_with_a_line():
    result = subprocess.run([sys.executable, "-m", "mixer_jax", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    for name in ("train", "predict", "benchmark data"):
        assert re.search(rf"^  {name} +[A-Z].{{20,}}\.$|^  {name} +[A-Z].{{20,}}$", result.stdout, re.MULTILINE), name


def test_main_and_the_command_train_say_the_same():
    door = [sys.executable, "-m", "mixer_jax", "train"]
    wrong = ["--config=digits", "--config.model.name=mixer_b61"]
    command = subprocess.run([*door, *wrong], cwd=ROOT, capture_output=True, text=True)
    assert command.stderr.replace("mixer_jax train: ", "main.py: ") == run(*wrong).stderr


def test_a_system_without_file_locks_is_refused_in_a_line():
    program = (
        "import sys; sys.modules['fcntl'] = None; from mixer_jax.__main__ import main; main(['mixer_jax', 'train'])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "mixer_jax: mixer_jax runs on Linux, and in part on macOS; on Windows, use it in WSL 2\n"


NO_RECIPES = {
    "x = 3": "is no recipe; expected a function get_config in it",
    "def get_config(:": "is no recipe; expected a Python file with a function get_config (SyntaxError",
    "\0\1": "is no recipe; expected a Python file with a function get_config",
    "import sys\nsys.exit(3)": "mine.py:2: the recipe fails: SystemExit: 3",
    "def get_config():\n    raise RuntimeError('a\\nb')": "mine.py:2: the recipe fails: RuntimeError: a",
    "import nothing_of_that_name": "mine.py:1: the recipe fails: ModuleNotFoundError",
    "def get_config(): return {'batch_size': 3}": "get_config returned {'batch_size': 3}; expected an ml_collections.",
    "def get_config(): return None": "get_config returned None; expected an ml_collections.ConfigDict",
    "def get_config(): return get_config()": "mine.py:1: the recipe fails: RecursionError",
    "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()": "eval.splits is missing;",
}


@pytest.mark.parametrize("text", NO_RECIPES)
def test_a_file_that_is_no_recipe_is_refused_with_its_line(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        recipes.load(tmp_path / "mine.py")
    assert NO_RECIPES[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "~nosuchuser/x.py", "\ud800", "a" * 300, "a/" * 3000, "x\0y", ".", "a\nb"])
def test_what_names_no_recipe_is_refused_at_a_readable_length(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="^--config") as caught:
        recipes.find(name)
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


def test_changes_that_are_none_are_refused():
    for changes, message in (
        ([("steps", 3)], "changes="),
        ({3: 4}, "the key 3 is no text"),
        ({"data": {}}, "config.data.class_order is missing"),
        ({"optimizer.b1": 10**400}, "config.optimizer.b1="),
        (
            {"sweep.learning_rates": ("0.1",)},
            "learning_rates=.'0.1',.; expected a tuple, of each a number",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            mixer_jax.load_config("digits", changes)


@pytest.mark.parametrize("arguments", [("--help",), ("--config=digits", "--helpshort")])
def test_help_of_a_command_is_no_failure(arguments):
    result = run(*arguments)
    assert result.returncode == 0
    assert "--workdir" in result.stdout


def test_a_long_value_is_said_in_short():
    for argument in ("--config.seed=" + "9" * 5000, "--config.data.split=" + "y" * 60_000):
        result = run("--config=digits", argument)
        assert result.returncode == 1
        [line] = result.stderr.splitlines()
        assert line.startswith("main.py: ")
        assert len(line) < 400
