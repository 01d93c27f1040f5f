"""Runs in processes of their own, and what they leave behind, for tests."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax

from mixer_jax.training.program import build_program
from mixer_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]

COMMAND = [
    sys.executable,
    "main.py",
    "--config=configs/digits.py",
    "--config.steps=100",
    "--config.model.num_blocks=1",
    "--config.model.dropout=0.1",
    "--config.mixup=0.2",
    "--config.schedule.warmup_steps=10",
    "--config.checkpoint.every=20",
    "--config.checkpoint.keep=9",
    "--config.log_every=10",
]


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved_state(config, workdir, step):
    program = build_program(config)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=100, best=None)
    return jax.device_get(checkpoints.restore_state(step, program.abstract_state))


def assert_bit_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.tobytes() == y.tobytes()


def environment():
    return {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def start(workdir, *options, before=()):
    return subprocess.Popen(
        [*before, *COMMAND, *options, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def read(path):
    return path.read_text() if path.exists() else ""
