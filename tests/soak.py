"""The soak test: a run is disturbed a hundred times, and ends in the same bits as one that was left alone.

The disturbances are kills and interruptions at start-up, while it trains, saves or evaluates; images of the evaluation
that cannot be decoded; and a disk that is full. Not part of the default suite: `python -m pytest -s tests/soak.py` runs
it, in three quarters of an hour or so on two cores.
"""

import collections
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
from ml_collections import ConfigDict

from mixer_jax.data import sources
from mixer_jax.training.program import build_program
from mixer_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
ROUNDS = 100
STEPS = 16_000  # more than all rounds train
EVAL_EVERY = 120
OPTIONS = [
    f"--config.steps={STEPS}",
    "--config.model.dropout=0.1",
    "--config.model.stoch_depth=0.1",
    "--config.checkpoint.every=40",
    "--config.checkpoint.best=",
    f"--config.eval.every={EVAL_EVERY}",
    "--config.log_every=20",
]
# How often it saves and evaluates changes nothing; the run that is left alone, and the rest of the other, do so rarely.
RARELY = ["--config.checkpoint.every=5000", "--config.eval.every=5000", "--config.log_every=500"]
KINDS = ("start-up", "training", "save", "evaluation", "bad images", "full disk")


def write_digits(folder):
    """Writes the digits as image files, by split and class."""
    for split in ("train", "test"):
        digits = sources.Digits(split)
        for number in range(len(digits)):
            example = digits[number]
            path = folder / split / str(example["label"]) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", example["image"])[1].tobytes())


class Run:
    """A run in a work directory, which can be started again and again."""

    def __init__(self, folder, name):
        self.workdir = folder / name
        self._log = folder / f"{name}.log"
        self._images = folder / "images"
        self._command = [sys.executable, "main.py", "--config=digits", *OPTIONS, f"--workdir={self.workdir}"]
        self._command.append(f"--config.data.source=folder:{self._images}")
        self._environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}

    def start(self, options=(), largest_file=None):
        """Starts it, perhaps with more options, or as if the disk were full for files beyond a size."""

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        with self._log.open("a") as log:
            return subprocess.Popen(
                [*self._command, *options],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=limit if largest_file else None,
            )

    def newest(self):
        folder = self.workdir / "checkpoints"
        return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)

    def saving(self):
        return any((self.workdir / "checkpoints").glob("*-tmp"))

    def evaluating(self):
        reported = re.findall(rf"step (\d+)/{STEPS}", self.log())
        return bool(reported) and int(reported[-1]) % EVAL_EVERY == 0

    def log(self):
        return self._log.read_text()

    def test_images(self):
        return sorted((self._images / "test").rglob("*.png"))

    def params(self):
        checkpoints = Checkpoints(self.workdir / "checkpoints", keep=9, best=None)
        program = build_program(ConfigDict(checkpoints.restore_run(STEPS)["config"]))
        return jax.device_get(checkpoints.restore_state(STEPS, program.abstract_state).params)


def wait_until(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def interrupted(run, moment, chance):
    """Sends the run a signal at a moment, and returns the signal and the exit code."""
    sent, before = chance.choice([signal.SIGKILL, signal.SIGTERM]), run.newest()
    process = run.start()
    if moment == "start-up":
        time.sleep(chance.uniform(0, 6))
    else:
        wait_until(lambda: run.newest() > before, process)  # it trains
        if moment == "evaluation":
            wait_until(run.evaluating, process)
        else:
            time.sleep(chance.uniform(0, 2))
        if moment == "save":
            wait_until(run.saving, process)
    process.send_signal(sent)
    code = process.wait(timeout=60)
    assert code in ((-signal.SIGKILL,) if sent == signal.SIGKILL else (-signal.SIGTERM, 128 + signal.SIGTERM))
    return sent.name, code


def with_bad_images(run, chance):
    """Breaks some images of the evaluation, lets the run meet them, and mends them."""
    broken = {path: path.read_bytes() for path in chance.sample(run.test_images(), 3)}
    for path, content in broken.items():
        path.write_bytes(content[: chance.randrange(len(content) // 2)])
    before = run.newest()
    try:
        code = run.start().wait(timeout=300)
    finally:
        for path, content in broken.items():
            path.write_bytes(content)
    last = run.log().splitlines()[-1]
    assert "3 of 355 images of an evaluation cannot be decoded" in last
    assert all(str(path) in last for path in broken)
    assert code == 1
    assert run.newest() > before
    assert run.newest() % EVAL_EVERY == 0, "the step of the evaluation is saved"
    return "3 broken", code


def on_a_full_disk(run, chance):
    """Lets the run write no file beyond some size, too small for a checkpoint."""
    code = run.start(largest_file=chance.randrange(2**12, 2**16)).wait(timeout=300)
    assert code == 1
    last = run.log().splitlines()[-1]
    assert "cannot be" in last, last
    assert "Traceback" not in last
    return "no room", code


def test_a_hundred_disturbances_change_nothing(tmp_path):
    chance = random.Random(0)
    write_digits(tmp_path / "images")
    run, straight = Run(tmp_path, "disturbed"), Run(tmp_path, "straight")
    codes = collections.Counter()
    for number in range(ROUNDS):
        kind, before = KINDS[number % len(KINDS)], run.newest()
        if kind == "bad images":
            how, code = with_bad_images(run, chance)
        elif kind == "full disk":
            how, code = on_a_full_disk(run, chance)
        else:
            how, code = interrupted(run, kind, chance)
        print(f"round {number + 1}: {kind}, {how}, exit code {code}, newest checkpoint {before} -> {run.newest()}")
        assert run.newest() >= before
        codes[code] += 1
    assert run.newest() < STEPS, "the run was over before the last round"
    assert {1, -signal.SIGKILL, 128 + signal.SIGTERM} <= codes.keys()
    assert "Traceback" not in run.log()
    assert "damaged" not in run.log()
    for left in (run, straight):
        assert left.start(RARELY).wait() == 0
    a, b = run.params(), straight.params()
    assert jax.tree.structure(a) == jax.tree.structure(b)
    leaves = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert all(x.tobytes() == y.tobytes() for x, y in leaves)
    print(f"exit codes {dict(codes)}; {len(leaves)} of {len(leaves)} arrays of the parameters are equal to the bit")
