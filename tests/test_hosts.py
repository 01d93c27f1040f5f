"""Several processes that train as one: real ones, on this machine."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from recorded_main import digests

from configs import digits
from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.runtime import agreement, hosts
from mixer_jax.training import run as train
from mixer_jax.training.program import build_program
from mixer_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
STEPS, BATCH = 60, 48  # two epochs
CHANGES = {
    "model.num_blocks": 1,
    "model.hidden_dim": 16,
    "model.tokens_mlp_dim": 8,
    "model.channels_mlp_dim": 32,
    "model.dropout": 0.1,
    "mixup": 0.2,
    "data.train.crop": "none",  # so that the pixels tell which scan it is
    "batch_size": BATCH,
    "steps": STEPS,
    "schedule.warmup_steps": 5,
    "log_every": 1,
    "eval.every": STEPS,
    "checkpoint.every": 20,
    "checkpoint.best": "",
}


def tiny_config():
    config = digits.get_config()
    config.update_from_flattened_dict(CHANGES)
    return config


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def processes(folder, commands, cwds=None, devices=None):
    """Starts each command as a process of one run, with its output in `folder`, and ends what is left of them."""
    folder.mkdir(parents=True, exist_ok=True)
    coordinator = f"--coordinator=localhost:{free_port()}"
    started = []
    try:
        for i, command in enumerate(commands):
            count = (devices or [1] * len(commands))[i]
            environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
            with open(folder / f"out{i}", "w") as out, open(folder / f"err{i}", "w") as err:
                started.append(
                    subprocess.Popen(
                        [
                            sys.executable,
                            *command,
                            coordinator,
                            f"--num_processes={len(commands)}",
                            f"--process_id={i}",
                        ],
                        cwd=cwds[i] if cwds else ROOT,
                        env=environment,
                        stdout=out,
                        stderr=err,
                    )
                )
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def training(folder, workdir, number, pause=0.0):
    flags = [f"--config.{key}={value}" for key, value in CHANGES.items()]
    config = f"--config={ROOT / 'configs' / 'digits.py'}"
    main = str(ROOT / "tests" / "recorded_main.py")
    return [
        [main, str(folder / f"record{i}"), str(pause), config, *flags, f"--workdir={workdir}"] for i in range(number)
    ]


def codes(started, seconds=300):
    deadline = time.monotonic() + seconds
    return [process.wait(timeout=max(deadline - time.monotonic(), 0)) for process in started]


def wait_for(condition, started, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in started)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said_by(folder, process):
    """What a process has printed, without the lines of the library that connects them."""
    lines = [*(folder / f"out{process}").open(), *(folder / f"err{process}").open()]
    return "".join(line for line in lines if not line.startswith("[Gloo]"))


def finish(folder, workdir, number):
    with processes(folder, training(folder, workdir, number)) as started:
        assert codes(started) == [0] * number, (folder / "err0").read_text()


def recorded(folder):
    """What each process of a start has trained on: a list of {step: digests of its images} by process."""
    records = []
    for path in sorted(folder.glob("record*")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [line["step"] for line in lines]
        assert steps == list(range(steps[0], steps[0] + len(steps)))
        records.append({line["step"]: line["images"] for line in lines})
    return records


def curve(workdir):
    """The training loss by step, and the evaluation metrics."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    (evaluated,) = [line for line in lines if "eval/test/loss" in line]
    return np.array([line["train/loss"] for line in trained]), evaluated


def final_state(workdir):
    program = build_program(tiny_config())
    checkpoints = Checkpoints(workdir / "checkpoints", keep=9, best=None)
    return jax.device_get(checkpoints.restore_state(STEPS, program.abstract_state))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The work directory of a run on the devices of this process."""
    workdir = tmp_path_factory.mktemp("one")
    train.train(tiny_config(), workdir)
    return workdir


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder of a run of two processes that nothing interrupts, with its work directory `run`."""
    folder = tmp_path_factory.mktemp("two")
    finish(folder, folder / "run", 2)
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The same after a SIGTERM to the second process."""
    folder = tmp_path_factory.mktemp("interrupted")
    with processes(folder, training(folder, folder / "run", 2, pause=0.1)) as started:
        # Records appear as the steps are done.
        wait_for(
            lambda: (folder / "record1").exists() and len((folder / "record1").read_text().split("\n")) > 9, started
        )
        started[1].send_signal(signal.SIGTERM)
        assert codes(started) == [128 + signal.SIGTERM] * 2
    return folder


def assert_same_run(workdir, other):
    losses, evaluated = curve(workdir)
    expected_losses, expected = curve(other)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert evaluated["eval/test/examples"] == expected["eval/test/examples"] == 355
    assert evaluated["eval/test/loss"] == pytest.approx(expected["eval/test/loss"], rel=1e-4)


def test_two_processes_train_as_one_does_and_the_first_alone_reports(one_process, two_processes):
    assert_same_run(two_processes / "run", one_process)
    said = said_by(two_processes, 0)
    assert "devices: 2 x cpu on 2 hosts" in said
    assert f"finished step {STEPS}: eval/test/top1" in said
    assert not said_by(two_processes, 1)
    assert len(list((two_processes / "run").glob("events*"))) == 1


def test_a_signal_to_one_process_stops_all_at_one_step(interrupted):
    ends = [max(steps) + 1 for steps in recorded(interrupted)]
    assert 9 <= ends[0] == ends[1] < STEPS
    assert Checkpoints(interrupted / "run" / "checkpoints", keep=9, best=None).latest_step() == ends[0]
    assert f"interrupted at step {ends[0]}; saved" in said_by(interrupted, 0)
    assert "interrupted" not in said_by(interrupted, 1)


def test_four_processes_go_on_where_two_stopped(interrupted, one_process, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(interrupted / "run", workdir)
    finish(tmp_path, workdir, 4)
    assert_same_run(workdir, one_process)
    assert_trained_on_each_position_once([interrupted, tmp_path])


def test_after_a_signal_and_a_kill_the_same_bits_and_each_position_once(interrupted, two_processes, tmp_path):
    workdir, killed, last = tmp_path / "run", tmp_path / "killed", tmp_path / "last"
    shutil.copytree(interrupted / "run", workdir)
    with processes(killed, training(killed, workdir, 2, pause=0.1)) as started:
        wait_for((workdir / "checkpoints" / "40").exists, started)
        started[0].kill()
        assert codes(started)[1] not in (0, None)  # the other ends by itself
    finish(last, workdir, 2)
    ours, theirs = final_state(workdir), final_state(two_processes / "run")
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.tobytes() == b.tobytes()
    assert max(recorded(killed)[0]) < STEPS - 1, "the run was over before the kill"
    assert_trained_on_each_position_once([interrupted, killed, last])


def assert_trained_on_each_position_once(starts):
    """What the last checkpoint was trained on: of each step, what the last start that did it was given."""
    trained = {}
    for folder in starts:
        records = recorded(folder)
        for step in records[0]:
            trained[step] = [image for record in records for image in record.get(step, [])]
    assert sorted(trained) == list(range(STEPS))
    positions = [image for step in range(STEPS) for image in trained[step]]
    undisturbed = build_program(tiny_config()).train_batches(0)
    assert positions == [image for batch in undisturbed for image in digests(np.asarray(batch["image"]))]
    scans = sources.open_with_classes("digits", split="train", data_dir=None, num_classes=10, image_size=8)
    known = {digest for i in range(len(scans)) for digest in digests([scans[i]["image"]])}
    assert len(known) == len(scans)
    for start in range(0, len(positions), len(scans)):  # epoch by epoch
        epoch = positions[start : start + len(scans)]
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= known


def images_at(folder, value):
    for split in ("train", "test"):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            cv2.imwrite(str(folder / split / label / "1.png"), np.full((8, 8, 3), value, np.uint8))


def test_processes_that_differ_are_refused_with_what_differs(tmp_path):
    """The second has another seed, other code, other images at the same path, and a work directory of its own."""
    other = tmp_path / "other"
    for part in ("mixer_jax", "configs"):
        shutil.copytree(ROOT / part, other / part)
    shutil.copy(ROOT / "main.py", other)
    with open(other / "mixer_jax" / "losses.py", "a") as file:
        file.write("# changed\n")
    here, there = tmp_path / "here", tmp_path / "there"
    images_at(here / "images", 0)
    images_at(there / "images", 1)
    flags = [f"--config.{key}={value}" for key, value in CHANGES.items()]
    flags += ["--config.data.source=folder:images", "--config.data.num_classes=2", "--workdir=run"]
    commands = [
        [str(ROOT / "main.py"), f"--config={ROOT / 'configs' / 'digits.py'}", *flags],
        [str(other / "main.py"), f"--config={ROOT / 'configs' / 'digits.py'}", *flags, "--config.seed=7"],
    ]
    with processes(tmp_path, commands, cwds=[here, there]) as started:
        assert codes(started) == [1, 1]
    for process in (0, 1):
        said = said_by(tmp_path, process)
        assert "Traceback" not in said
        (line,) = said.splitlines()
        assert line.startswith("main.py: the processes differ in --workdir (")
        assert "config.seed (0 on process 0, 7 on process 1)" in line
        assert "code of mixer_jax (" in line
        assert 'data of split train ("4 examples of 2 classes, digest' not in line
        assert 'data of split train ("2 examples of 2 classes, digest' in line
        assert "config.mixup" not in line
        assert "python (" not in line
    assert not (here / "run" / ".process_0").exists()


def test_processes_with_different_numbers_of_devices_are_refused(tmp_path):
    with processes(tmp_path, training(tmp_path, tmp_path / "run", 2), devices=[1, 3]) as started:
        assert codes(started) == [1, 1]
    for process in (0, 1):
        said = said_by(tmp_path, process)
        assert "the processes differ in their number of devices (1 on process 0, 3 on process 1)" in said
        assert "Traceback" not in said


def test_many_processes_are_named_in_short():
    assert agreement._by_value([1, 2, 2, 1]) == "1 on processes 0 and 3, 2 on processes 1 and 2"
    assert agreement._by_value(["a"] + 511 * ["b"]) == '"a" on process 0, "b" on processes 1, 2, 3 and 508 more'
    assert agreement._by_value([None, 1]) == "null on process 0, 1 on process 1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1", None, None), "--num_processes and --process_id missing"),
        ((None, 2, 0), "--coordinator missing"),
        (("localhost", 2, 0), "--coordinator=localhost; expected <host>:<port>"),
        (("localhost:port", 2, 0), "--coordinator=localhost:port; expected <host>:<port>"),
        (("localhost:1", 0, 0), "--num_processes=0; expected a positive number"),
        (("localhost:1", 2, 2), "--process_id=2; expected 0 to 1"),
        (("localhost:1", 2, -1), "--process_id=-1; expected 0 to 1"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_flag(given, message):
    with pytest.raises(ConfigError) as error:
        hosts.start(*given)
    assert message in str(error.value)


def python(program, **changes):
    """What a Python program prints, word by word, with changes to the environment; None removes a variable."""
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_on_tpus_jax_finds_the_others_by_itself_and_elsewhere_nothing_starts():
    program = """
import jax
from mixer_jax.errors import ConfigError
from mixer_jax.runtime import hosts
try:
    hosts.start(None, None, None)
    print(jax.distributed.is_initialized())
except ConfigError as error:
    print("ConfigError" if "TPU_SKIP_MDS_QUERY=1" in str(error) else error)
"""
    # What JAX sees on a worker of a TPU slice; its devices are not asked for.
    tpu = {"JAX_FORCE_TPU_INIT": "1", "TPU_WORKER_ID": "0", "JAX_COORDINATOR_PORT": str(free_port())}
    tpu |= {"GCE_METADATA_IP": f"127.0.0.1:{free_port()}", "NO_PROXY": "*"}  # a server that is not there
    slice_ = {"MEGASCALE_COORDINATOR_ADDRESS": "localhost", "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0"}
    hostnames = {"TPU_WORKER_HOSTNAMES": "localhost"}
    assert python(program, JAX_PLATFORMS=None, **tpu, **hostnames, **slice_) == ["True"]
    assert python(program, JAX_PLATFORMS=None, **tpu) == ["False"]  # nothing says that there are others
    assert python(program, JAX_PLATFORMS=None, **tpu, **hostnames) == ["ConfigError"]
    assert python(program, JAX_PLATFORMS="cpu", **tpu, **hostnames, **slice_) == ["False"]


def test_a_signal_before_the_first_step_of_connected_processes_is_not_lost():
    program = f"""
import os, signal, time
from mixer_jax.runtime import hosts
from mixer_jax.runtime.interrupt import InterruptRequest
hosts.start("localhost:{free_port()}", 1, 0)
with InterruptRequest() as interrupt:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(2.5)  # JAX looks once a second whether there was a signal
    while not interrupt.received():
        time.sleep(0.1)
print(interrupt.signal.name)
"""
    assert python(program)[-1:] == ["SIGINT"]


def test_images_that_cannot_be_decoded_end_all_processes_with_what_they_have_trained(tmp_path):
    draw = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for number in range(count):
            folder = tmp_path / "images" / split / str(number % 2)
            folder.mkdir(parents=True, exist_ok=True)
            image = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (folder / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (tmp_path / "images" / "test" / "1" / "7.png").write_bytes(b"broken")  # in the share of the second process
    changes = CHANGES | {"data.source": f"folder:{tmp_path}/images", "data.num_classes": 2, "batch_size": 8}
    changes |= {"steps": 4, "eval.every": 2, "eval.batch_size": 8, "checkpoint.every": 3, "schedule.warmup_steps": 1}
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    command = ["main.py", "--config=digits", *flags, f"--workdir={tmp_path / 'run'}"]
    with processes(tmp_path / "logs", [command] * 2) as started:
        assert codes(started) == [1, 1]
    said = [(tmp_path / "logs" / f"err{i}").read_text() for i in range(2)]
    assert "1 of 8 images of an evaluation cannot be decoded: 1 of other processes" in said[0]
    assert "1 of 8 images of an evaluation cannot be decoded: " in said[1]
    assert "images/test/1/7.png" in said[1]
    assert "Traceback" not in said[0] + said[1]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]
