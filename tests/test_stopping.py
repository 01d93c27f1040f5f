"""Signals: a run saves and stops, or ends at once, wherever they meet it."""

import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time

from mixer_jax.runtime.interrupt import InterruptRequest
from mixer_jax.workdir.checkpoints import Checkpoints
from tests.runs import COMMAND, ROOT, environment, metrics_of, read, start, wait_for


def test_a_signal_saves_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: (tmp_path / "checkpoints" / "20").exists(), process)
    process.send_signal(signal.SIGINT)  # the test of an interrupted evaluation sends SIGTERM
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    step = Checkpoints(tmp_path / "checkpoints", keep=9, best=None).latest_step()
    assert 20 <= step < 100
    assert f"interrupted at step {step}" in out
    assert all(len(line) > 1 for line in metrics_of(tmp_path))  # no line without a scalar


def test_a_signal_before_the_first_step_stops_without_a_traceback(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: (tmp_path / "checkpoints").exists(), process)  # the compilation of the initial state comes next
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "interrupted at step" in out
    assert "Traceback" not in err


def test_an_interruption_leaves_an_evaluation_and_the_same_command_makes_up_for_it(tmp_path):
    # Of a hundred million examples: it would not be over before the test is.
    source = ["--config.data.source=synthetic:100000000", "--config.eval.every=30", "--config.checkpoint.best="]
    process = start(tmp_path, *source)
    wait_for(lambda: '"step": 30' in read(tmp_path / "metrics.jsonl"), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "step 30: the evaluation is left" in err
    assert "interrupted at step 30" in out
    assert Checkpoints(tmp_path / "checkpoints", keep=9, best=None).steps() == [20, 30]
    assert not [line for line in metrics_of(tmp_path) if any(name.startswith("eval/") for name in line)]


def test_slurms_warning_saves_as_sigterm_does(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: (tmp_path / "checkpoints" / "20").exists(), process)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, err
    step = Checkpoints(tmp_path / "checkpoints", keep=9, best=None).latest_step()
    assert f"interrupted at step {step}; saved" in out


def test_a_run_outlives_the_loss_of_its_terminal_until_it_is_saved(tmp_path):
    terminal, side = pty.openpty()
    # The session's terminal: what is closed with it gets SIGHUP.
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", take, *COMMAND, f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=environment(),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    reader = threading.Thread(target=_drain, args=(terminal,), daemon=True)
    reader.start()
    wait_for(lambda: (tmp_path / "checkpoints" / "20").exists(), process)
    os.kill(process.pid, signal.SIGSTOP)  # so that the terminal is gone before anything else is written to it
    os.close(terminal)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(60) == 128 + signal.SIGHUP
    steps = Checkpoints(tmp_path / "checkpoints", keep=9, best=None).steps()
    last = max(line["step"] for line in metrics_of(tmp_path))
    assert steps[-1] >= last >= 20


def _drain(terminal):
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with InterruptRequest() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupt.received()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path):
    # In an evaluation of a hundred million examples whose first interruption is never asked for: only the kernel can.
    program = (
        "import sys, time; from mixer_jax.__main__ import main\n"
        "from mixer_jax.training import loop\n"
        "class Deaf:\n"
        "    def __del__(self): time.sleep(600)\n"  # exceptions in a finaliser are ignored
        "def evaluate(*_): print('deaf', flush=True); Deaf()\n"
        "loop.evaluate = evaluate\n"
        "main([*sys.argv])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", *COMMAND[2:], f"--workdir={tmp_path}"],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "deaf\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT


def test_ctrl_c_ends_the_program_while_it_starts(tmp_path):
    draw = random.Random(0)
    for moment in [0.1, *(draw.uniform(0.2, 3.0) for _ in range(4))]:
        process = start(tmp_path / "run")
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        # Killed, or asked to stop by then; never an exception that a library may lose.
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT), (moment, err)
        assert "finished" not in out


def test_after_a_first_signal_others_change_nothing_and_ctrl_c_does_what_it_did_before():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with InterruptRequest() as interrupt:
        assert not interrupt.received()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.raise_signal(number)
            assert interrupt.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is before[0]
    assert [signal.getsignal(number) for number in numbers] == before
