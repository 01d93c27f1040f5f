"""The TPU launcher: what it would run, what it does when a TPU is taken away, and what a worker tells of its run."""

import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch"
WHERE = ["--name=b16", "--project=my-project", "--zone=europe-west4-a"]
WORKER = "bash mixer_jax/launch/tpu_worker.sh"
RUN = ["--config=configs/digits.py", "--config.eval.splits={'a b': 'test'}"]


def tpu(*arguments, script=LAUNCH / "tpu.sh", **environment):
    command = ["bash", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def dry(*arguments):
    result = tpu(*arguments, "--dry-run")
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines()]


def on_worker(which, command):
    return [*shlex.split("gcloud compute tpus tpu-vm ssh b16"), *WHERE[1:], f"--worker={which}", f"--command={command}"]


def test_a_dry_run_prints_every_command_of_an_undisturbed_run():
    result = tpu("train", *WHERE, "--type=v3-32", "--bucket=my-bucket", "--spot", "--dry-run", "--", *RUN)
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [command[0] for command in commands[1:3]] == ["mkdir", "sh"]  # the archive of the working tree
    create, copy, unpack, setup, start, status, delete = commands[:1] + commands[3:]
    assert create == [
        *shlex.split("gcloud compute tpus tpu-vm create b16 --version=tpu-ubuntu2204-base --accelerator-type=v3-32"),
        *WHERE[1:],
        "--spot",
    ]
    archive = shlex.split("gcloud compute tpus tpu-vm scp runs/b16.tar.gz b16:mixer_jax.tar.gz")
    assert copy == [*archive, *WHERE[1:], "--worker=all"]
    assert unpack == on_worker("all", "mkdir -p mixer_jax && tar -xzf mixer_jax.tar.gz -C mixer_jax")
    assert setup == on_worker("all", f"{WORKER} setup my-bucket")
    # The shell of the worker takes the arguments apart as they were given here.
    assert start[:-1] == on_worker("all", "")[:-1]
    _, command = start[-1].split("=", maxsplit=1)
    assert shlex.split(command) == [*WORKER.split(), "start", "--workdir=/mnt/bucket/runs/b16", *RUN]
    assert status == on_worker("0", f"{WORKER} status")
    assert delete == [*shlex.split("gcloud compute tpus tpu-vm delete b16"), *WHERE[1:], "--quiet"]


@pytest.mark.parametrize(
    ("type", "version"),
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v4-64", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-32", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_a_type_of_tpu_has_its_runtime_version(type, version):
    (command,) = dry("create", *WHERE, f"--type={type}")
    assert f"--version={version}" in command
    assert "--spot" not in command
    (command,) = dry("create", *WHERE, f"--type={type}", "--queued")
    assert command[:6] == shlex.split("gcloud compute tpus queued-resources create b16")
    assert {"--node-id=b16", f"--runtime-version={version}", f"--accelerator-type={type}"} <= set(command)


def test_the_steps_alone():
    assert dry("stop", *WHERE) == [on_worker("all", f"{WORKER} stop")]
    assert dry("watch", *WHERE) == [on_worker("0", f"{WORKER} log --follow")]
    assert dry("collect", *WHERE[:2], "--bucket=my-bucket") == [
        ["mkdir", "-p", "runs/b16"],
        [*shlex.split("gcloud storage rsync --recursive gs://my-bucket/runs/b16 runs/b16"), "--project=my-project"],
    ]
    assert dry("delete", *WHERE, "--queued") == [
        [*shlex.split("gcloud compute tpus queued-resources delete b16"), *WHERE[1:], "--force", "--quiet"]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", *WHERE], "create needs --type=..."),
        (["train", *WHERE, "--type=v3-8"], "train needs --bucket=..."),
        (["create", *WHERE, "--type=v7x-8"], "--type=v7x-8 is unknown; expected v2-N"),
        (["start", *WHERE, "--config=configs/digits.py"], "unknown argument --config=configs/digits.py; main.py's"),
        (["begin", *WHERE], "unknown command begin; known: create setup start"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(arguments, message):
    result = tpu(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stdout == ""


FAKE_GCLOUD = """#!/usr/bin/env bash
# Notes what it is called with. Describing the TPU and the run's status take the next line of a prepared answer; "-": an
# error.
echo "$*" >>"$ANSWERS/calls"
answer() {
  local line
  line=$(head -n 1 "$ANSWERS/$1")
  tail -n +2 "$ANSWERS/$1" >"$ANSWERS/rest"
  mv "$ANSWERS/rest" "$ANSWERS/$1"
  [ "$line" != - ] && echo "$line"
}
case $* in
  *describe*) answer states ;;
  *"tpu_worker.sh status") answer statuses ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A working tree with the launcher, one file that git ignores, and a `gcloud` with prepared answers."""
    tree, bin, answers = (tmp_path / name for name in ("tree", "bin", "answers"))
    shutil.copytree(LAUNCH, tree / "launch")
    (tree / ".gitignore").write_text("runs/\n")
    (tree / "main.py").write_text("")
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    for folder in (bin, answers, tree / "runs"):
        folder.mkdir()
    (tree / "runs" / "metrics.jsonl").write_text("")
    (bin / "gcloud").write_text(FAKE_GCLOUD)
    (bin / "gcloud").chmod(0o755)
    return tmp_path


def train(project, states, statuses):
    """Runs `train` with these answers; returns what it ended with, and the verbs of its calls that change something."""
    answers = project / "answers"
    (answers / "states").write_text("\n".join(states) + "\n")
    (answers / "statuses").write_text("\n".join(statuses) + "\n")
    result = tpu(
        *["train", *WHERE, "--type=v3-8", "--bucket=my-bucket", "--spot", "--every=0", "--", *RUN],
        script=project / "tree" / "launch" / "tpu.sh",
        PATH=f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}",
        ANSWERS=str(answers),
    )
    calls = (answers / "calls").read_text().splitlines()
    verbs = {"create b16": "create", "delete b16": "delete", "tpu_worker.sh setup": "setup"}
    verbs |= {"tpu_worker.sh start": "start", "tpu_worker.sh log": "log"}
    return result, [verb for call in calls for part, verb in verbs.items() if part in call], calls


def test_a_preempted_tpu_is_made_anew_and_started_with_the_same_command(project):
    result, verbs, calls = train(
        project,
        ["-", "CREATING", "READY", "READY", "PREEMPTED", "-", "READY", "READY", "READY"],
        ["absent", "running", "absent", "-", "finished"],
    )
    assert result.returncode == 0, result.stderr
    assert verbs == ["create", "setup", "start", "delete", "create", "setup", "start", "delete"]
    starts = [call for call in calls if "tpu_worker.sh start" in call]
    assert len(set(starts)) == 1
    with tarfile.open(project / "tree" / "runs" / "b16.tar.gz") as copied:
        names = set(copied.getnames())
    assert {"main.py", "launch/tpu_worker.sh"} <= names
    assert not [name for name in names if name.startswith("runs")]


def test_an_interrupted_run_goes_on_and_a_failed_one_ends_the_loop_with_its_log(project):
    result, verbs, _ = train(project, ["READY"] * 3, ["interrupted", "running", "failed"])
    assert result.returncode == 1
    assert "the run has failed; b16 is still there" in result.stderr
    assert verbs == ["setup", "start", "log"]


@pytest.mark.parametrize(
    ("sub_state", "code", "status", "expected"),
    [
        ("dead", 0, 0, "absent"),
        ("running", 0, 0, "running"),
        ("exited", 1, 0, "finished"),
        ("failed", 1, 1, "failed"),
        ("failed", 1, 143, "interrupted"),  # main.py saved, and said so
        ("failed", 2, 9, "interrupted"),  # SIGKILL
    ],
)
def test_a_worker_tells_how_its_run_is_from_systemd(tmp_path, sub_state, code, status, expected):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        "#!/bin/sh\n"
        f"case $* in *SubState*) echo {sub_state} ;; *ExecMainCode*) echo {code} ;; *ExecMainStatus*) echo {status} ;;"
        "esac\n"
    )
    systemctl.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = tpu("status", script=LAUNCH / "tpu_worker.sh", PATH=path, HOME=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, f"{expected}\n")
