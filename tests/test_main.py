"""The command line: where a run goes, and how what is wrong with it is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixer_jax import cli

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], cwd=cwd, capture_output=True, text=True)


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
    "--config=configs/nothing.py": "--config=configs/nothing.py: there is no such file",
    "--config=configs/digits.py:smok": "config argument :smok is unknown; did you mean 'smoke'?",
    "--config.model.name=mixer_b61": "config.model.name='mixer_b61' is unknown; did you mean 'mixer_b16'?",
    "--config.batch_size=many": "invalid literal for int() with base 10: 'many'",
    "--workdir=gs://bucket/run": "--workdir=gs://bucket/run is no local path",
    "config.batch_size=3": "unexpected arguments",
    "--config=": "there is no such file",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_named_without_a_traceback(arguments, tmp_path):
    config = [] if arguments.startswith("--config=") else ["--config=configs/digits.py"]
    workdir = [] if arguments.startswith("--workdir") else [f"--workdir={tmp_path}"]
    result = run(*config, *workdir, *arguments.split())
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert WRONG[arguments] in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


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
