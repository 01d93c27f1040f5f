"""The soak test: a digits run is killed and interrupted 30 times, and ends in the same bits as one that was left alone.

Not part of the default suite: `python -m pytest -s tests/soak.py` runs it, in ten minutes or so on two cores.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mixer_jax.training.program import build_program
from mixer_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
ROUNDS = 30
STEPS = 6000  # more than 30 rounds train
COMMAND = [
    sys.executable,
    "main.py",
    "--config=configs/digits.py",
    f"--config.steps={STEPS}",
    "--config.model.dropout=0.1",
    "--config.model.stoch_depth=0.1",
    "--config.checkpoint.every=40",
    "--config.eval.every=120",
]
MOMENTS = ("start-up", "training", "save")


def start(workdir):
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen([*COMMAND, f"--workdir={workdir}"], cwd=ROOT, stdout=log, stderr=log)


def wait_until(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def newest(workdir):
    return max((int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def disturb(workdir, moment, number, chance):
    """Starts the run, sends it a signal at a moment, and returns its exit code."""
    process, before = start(workdir), newest(workdir)
    if moment == "start-up":
        time.sleep(chance.uniform(0, 6))
    else:
        wait_until(lambda: newest(workdir) > before, process)  # it trains
        time.sleep(chance.uniform(0, 2))
        if moment == "save":
            wait_until(lambda: list((workdir / "checkpoints").glob("*-tmp")), process)
    process.send_signal(number)
    return process.wait(timeout=60)


def final_params(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints", keep=9, best=None)
    program = build_program(ConfigDict(checkpoints.restore_run(STEPS)["config"]))
    return jax.device_get(checkpoints.restore_state(STEPS, program.abstract_state).params)


def test_thirty_kills_and_interrupts_change_nothing(tmp_path):
    chance = random.Random(0)
    disturbed, straight = tmp_path / "disturbed", tmp_path / "straight"
    signals = [signal.SIGKILL, signal.SIGTERM] * (ROUNDS // 2)
    chance.shuffle(signals)
    codes = []
    for number, sent in enumerate(signals):
        moment = MOMENTS[number % len(MOMENTS)]
        before = newest(disturbed)
        code = disturb(disturbed, moment, sent, chance)
        print(
            f"round {number + 1}: {sent.name} during {moment}, exit code {code}, "
            f"newest checkpoint {before} -> {newest(disturbed)}"
        )
        assert code in ((-signal.SIGKILL,) if sent == signal.SIGKILL else (-signal.SIGTERM, 128 + signal.SIGTERM))
        assert newest(disturbed) >= before
        codes.append(code)
    assert newest(disturbed) < STEPS, "the run was over before the last round"
    assert {-signal.SIGKILL, 128 + signal.SIGTERM} <= set(codes)
    for workdir in (disturbed, straight):
        assert start(workdir).wait() == 0
    a, b = final_params(disturbed), final_params(straight)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    leaves = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert all(x.tobytes() == y.tobytes() for x, y in leaves)
    print(f"{len(leaves)} of {len(leaves)} arrays of the parameters are equal to the bit")
    assert "damaged" not in (tmp_path / "disturbed.log").read_text()
