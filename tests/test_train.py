"""Whole runs: what they write, that resuming is exact, and that a stranger's work directory is refused."""

import dataclasses
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixer_jax.errors import ConfigError, RunError
from mixer_jax.steps import losses
from mixer_jax.training import run as train
from mixer_jax.training.program import build_program
from mixer_jax.training.replay import replay
from mixer_jax.workdir.checkpoints import Checkpoints
from tests.runs import assert_bit_identical, finish, metrics_of, read, saved_state, start, wait_for

ROOT = Path(__file__).parents[1]
TIMING = ("train/img_sec_core", "train/core_days")


def result_of(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_a_run_writes_its_metrics_config_events_and_checkpoints(tiny_config, tmp_path):
    tiny_config.checkpoint.keep = 1
    result = train.train(tiny_config, tmp_path)
    assert result.signal is None
    assert result.step == 20
    assert result.checkpoint == tmp_path / "checkpoints" / "20"
    lines = metrics_of(tmp_path)
    trained = [line for line in lines if "train/loss" in line]
    evaluated = [line for line in lines if "eval/test/top1" in line]
    assert [line["step"] for line in trained] == [5, 10, 15, 20]
    assert [line["step"] for line in evaluated] == [10, 20]
    for line in trained:
        assert set(line) == {
            "step",
            "train/loss",
            "train/top1",
            "train/grad_norm",
            "train/replaced_images",
            "train/damaged_images",
            "train/update_norm",
            "train/learning_rate",
            "train/skipped_updates",
            "train/img_sec_core",
            "train/core_days",
        }
        assert all(math.isfinite(value) for value in line.values())
        assert line["train/img_sec_core"] > 0
    assert [line["train/core_days"] for line in trained] == sorted(line["train/core_days"] for line in trained)
    for line in evaluated:
        assert set(line) == {"step", "eval/test/loss", "eval/test/top1", "eval/test/examples", "eval/test/undecodable"}
        assert line["eval/test/examples"] == 355
    assert {k: v for k, v in evaluated[-1].items() if k != "step"} == result.metrics
    assert result.core_days >= trained[-1]["train/core_days"]
    assert result_of(tmp_path) == {"step": 20, "core_days": result.core_days, "metrics": result.metrics}
    assert json.loads((tmp_path / "config.json").read_text())["model"]["hidden_dim"] == 16

    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("train/loss", "eval/test/top1"):
        written = {line["step"]: line[name] for line in lines if name in line}
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert shown == pytest.approx(written, rel=1e-6)
    assert "hidden_dim" in events.Tensors("hparams")[0].tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory):
    """Where the run of `finished` lies, once one test has asked for it, and its result."""
    return tmp_path_factory.mktemp("finished") / "run", []


@pytest.fixture
def finished(finished_once, tiny_config, tmp_path):
    """The result of a whole run of `tiny_config`, and a copy of its work directory."""
    made, results = finished_once
    tiny_config.checkpoint.keep = 3
    if not results:
        results.append(train.train(tiny_config, made))
    shutil.copytree(made, tmp_path / "run")
    return results[0], tmp_path / "run"


def test_the_first_loss_of_a_run_is_ln_of_the_classes(tiny_config, tmp_path):
    tiny_config.log_every = 1
    tiny_config.steps = 6
    train.train(tiny_config, tmp_path)
    assert metrics_of(tmp_path)[0]["train/loss"] == pytest.approx(math.log(10), rel=1e-6)


class StopAt:
    """Stands in for the signals: asks a run that evaluates nothing before to stop after a number of steps."""

    signal = signal.SIGINT

    def __init__(self, step):
        self._left = step + 1  # the run asks once before its first step, and after each

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def received(self):
        self._left -= 1
        return self._left <= 0


def test_fifty_and_fifty_steps_are_a_hundred_bit_for_bit(tiny_config, tmp_path, monkeypatch):
    tiny_config.steps = 100
    tiny_config.checkpoint.every = tiny_config.eval.every = 100
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    train.train(tiny_config, straight)
    with monkeypatch.context() as patch:
        patch.setattr(train, "InterruptRequest", lambda: StopAt(50))
        result = train.train(tiny_config, parts)
    assert (result.step, result.signal) == (50, signal.SIGINT)
    assert not (parts / "result.json").exists()
    result = train.train(tiny_config, parts)
    assert (result.step, result.signal) == (100, None)
    assert_bit_identical(saved_state(tiny_config, straight, 100), saved_state(tiny_config, parts, 100))

    def trajectory(workdir):
        return [{k: v for k, v in line.items() if k not in TIMING} for line in metrics_of(workdir)]

    assert trajectory(parts) == trajectory(straight)
    core_days = [line["train/core_days"] for line in metrics_of(parts) if "train/core_days" in line]
    assert core_days == sorted(core_days)  # the second part goes on counting where the first stopped
    assert result.core_days >= core_days[-1]
    assert result_of(parts) == {"step": 100, "core_days": result.core_days, "metrics": result.metrics}


@pytest.mark.skipif(jax.device_count() % 2, reason="needs several devices")
def test_a_run_resumes_on_another_mesh_with_rematerialisation_and_accumulation(tiny_config, tmp_path, monkeypatch):
    tiny_config.model.hidden_dim = 64
    tiny_config.model.channels_mlp_dim = 128  # large enough to be cut
    tiny_config.model.num_blocks = 1
    straight = train.train(tiny_config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(train, "InterruptRequest", lambda: StopAt(10))
        train.train(tiny_config, tmp_path / "parts")
    tiny_config.mesh.fsdp = 2
    tiny_config.accumulation_steps = 2
    tiny_config.model.remat = "full"
    parts = train.train(tiny_config, tmp_path / "parts")
    assert parts.step == straight.step
    assert parts.metrics == pytest.approx(straight.metrics, rel=1e-4)
    a, b = (saved_state(tiny_config, tmp_path / name, 20) for name in ("straight", "parts"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), a.params, b.params)


def last_state(workdir):
    run = Checkpoints(workdir / "checkpoints", keep=9, best=None).restore_run(100)
    return saved_state(ConfigDict(run["config"]), workdir, 100)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    out = finish(start(straight))
    assert "finished step 100: eval/test/top1" in out
    assert str(straight / "checkpoints" / "100") in out
    process = start(killed)
    wait_for(lambda: (killed / "checkpoints" / "40").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = Checkpoints(killed / "checkpoints", keep=9, best=None).steps()
    assert steps[-1] < 100, "the run was over before the kill"
    finish(start(killed))
    assert_bit_identical(last_state(killed), last_state(straight))
    steps = [line["step"] for line in metrics_of(killed) if "train/loss" in line]
    assert steps == list(range(10, 101, 10))  # each once, although some were trained twice


def test_a_full_disk_ends_the_run_with_one_line_that_names_the_folder(tmp_path):
    # Of each file, in KiB, so that the arrays of a checkpoint are what does not fit.
    process = start(tmp_path, before=["bash", "-c", 'ulimit -f 100; exec "$@"', "bash"])
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert err.splitlines()[-1].startswith(f"main.py: {tmp_path}/checkpoints: a checkpoint cannot be written (File too")
    assert "Traceback" not in err
    assert Checkpoints(tmp_path / "checkpoints", keep=9, best=None).steps() == []


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before_and_nothing_else(
    tiny_config, finished, tmp_path, caplog
):
    straight, harmed = finished[1], tmp_path / "harmed"
    shutil.copytree(straight, harmed)
    for path in (harmed / "checkpoints" / "20" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level("INFO", logger="mixer_jax"):
        assert train.train(tiny_config, harmed).step == 20
    assert f"resuming from {harmed}/checkpoints/10" in caplog.messages
    assert_bit_identical(saved_state(tiny_config, harmed, 20), saved_state(tiny_config, straight, 20))
    assert (harmed / "checkpoints" / "20.damaged").is_dir()


def test_a_second_process_in_a_work_directory_is_refused_by_name(tiny_config, tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from mixer_jax.workdir import lock\n"
        "with lock.only_process(Path(sys.argv[1]) / 'lock', 'it'): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"is in use by process {holder.pid} on {socket.gethostname()};"):
        train.train(tiny_config, tmp_path)
    holder.kill()
    holder.wait()
    assert train.train(tiny_config, tmp_path).step == 20  # the lock died with its process, although the file stayed
    assert f"process {os.getpid()} on" in read(tmp_path / "lock")


@pytest.fixture
def poison(monkeypatch):
    """Makes the losses infinite of the steps in whose batch the number of zeros is a multiple of seven."""
    create = losses.create_loss

    def create_poisoned(*args, **kwargs):
        loss = create(*args, **kwargs)
        return lambda logits, labels: loss(logits, labels) * jnp.where((labels[:, 0] == 1).sum() % 7 == 0, jnp.inf, 1.0)

    monkeypatch.setattr(losses, "create_loss", create_poisoned)


def poisoned_steps(config):
    """The steps of a config that the fixture `poison` meets."""
    return [
        step
        for step, batch in enumerate(build_program(config).train_batches(0), start=1)
        if (jax.device_get(batch["label"]) == 0).sum() % 7 == 0
    ]


@pytest.mark.usefixtures("poison")
def test_a_step_that_is_not_finite_stops_the_run_names_it_and_replays(tiny_config, tmp_path):
    tiny_config.mixup = 0.0  # which would mix the labels by which batches are poisoned
    tiny_config.loss.label_smoothing = 0.0
    tiny_config.model.num_blocks = 1
    bad = poisoned_steps(tiny_config)
    tiny_config.checkpoint.every = bad[0] - 1
    with pytest.raises(RunError, match=f"^step {bad[0]}: the loss or .*replay --workdir={tmp_path} --step={bad[0]}`"):
        train.train(tiny_config, tmp_path)
    assert Checkpoints(tmp_path / "checkpoints", keep=9, best=None).latest_step() == bad[0] - 1
    metrics, layers = replay(tmp_path, bad[0])
    assert metrics["loss"] == np.inf
    assert not layers["head"]["finite"]
    with pytest.raises(RunError, match=f"the run stopped at step {bad[0]}"):
        replay(tmp_path, bad[0] + 1)

    straight = tmp_path / "straight"  # the same with skip, from there or from the start
    tiny_config.nonfinite = "skip"
    tiny_config.checkpoint.every = 10
    for workdir in (tmp_path, straight):
        assert train.train(tiny_config, workdir).step == 20
        skipped = {line["step"]: line["train/skipped_updates"] for line in metrics_of(workdir) if "train/loss" in line}
        assert skipped == {step: sum(other <= step for other in bad) for step in (5, 10, 15, 20) if step in skipped}
    assert_bit_identical(saved_state(tiny_config, tmp_path, 20), saved_state(tiny_config, straight, 20))
    tiny_config.nonfinite = "stop"
    with pytest.raises(ConfigError, match=f"this run has left out {len(bad)} updates; resume it with 'skip'"):
        train.train(tiny_config, straight)


def test_a_replayed_step_is_that_of_the_run_bit_for_bit(tiny_config, tmp_path):
    tiny_config.log_every = 1
    tiny_config.checkpoint.every = 8
    tiny_config.checkpoint.keep = 1
    tiny_config.checkpoint.best = None
    train.train(tiny_config, tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    written = {line["step"]: line for line in metrics_of(tmp_path) if "train/loss" in line}
    for step in (3, 20):  # from the start, because the checkpoint is gone, and from the one of step 16
        metrics, layers = replay(tmp_path, step)
        assert {f"train/{name}": float(value) for name, value in metrics.items()} == {
            name: value for name, value in written[step].items() if name not in ("step", *TIMING)
        }
        for kind, total in (("gradients", "grad_norm"), ("updates", "update_norm")):
            assert math.hypot(*(of[kind] for of in layers.values())) == pytest.approx(metrics[total], rel=1e-5)
        assert all(of["finite"] for of in layers.values())
    params = saved_state(tiny_config, tmp_path, 20).params
    assert {"stem", "head", "MixerBlock_1/token_mixing/Dense_0"} <= set(layers)
    moved = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(params["stem"])))
    assert layers["stem"]["parameters"] == pytest.approx(moved, abs=float(layers["stem"]["updates"]))
    assert sorted(path for path in tmp_path.rglob("*")) == before
    for step in (0, 21):
        with pytest.raises(ConfigError, match=f"--step={step}; the steps of .* are 1 to 20"):
            replay(tmp_path, step)
    with pytest.raises(ConfigError, match="holds no run"):
        replay(tmp_path / "nothing", 1)
    command = [sys.executable, "-m", "mixer_jax", "replay", f"--workdir={tmp_path}", "--step=18"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in shown[1:-1]] == list(layers)
    assert f"loss {written[18]['train/loss']:.6g}, " in shown[-1]


def test_a_key_that_is_newer_than_the_checkpoint_counts_as_its_default(tiny_config, tmp_path):
    tiny_config.mixup = tiny_config.model.stoch_depth = 0.0
    train.train(tiny_config, tmp_path)
    for path in (tmp_path / "checkpoints").glob("*/run/metadata"):  # as if from before there were these keys
        run = json.loads(path.read_text())
        del run["config"]["mixup"], run["config"]["model"]["stoch_depth"], run["sha256"]
        path.write_text(json.dumps(run))
    assert train.train(tiny_config, tmp_path).step == 20
    tiny_config.mixup = 0.5
    with pytest.raises(ConfigError, match=r"another config: config.mixup=0.5 here, 0.0 there\."):
        train.train(tiny_config, tmp_path)


def test_a_work_directory_that_cannot_be_used_is_named(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--workdir=.*file cannot be used: "):
        train.train(tiny_config, tmp_path / "file")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("")
    with pytest.raises(ConfigError, match="--workdir=.*run cannot be used: "):
        train.train(tiny_config, tmp_path / "run")


def test_a_finished_run_is_evaluated_again_and_nothing_is_trained(tiny_config, finished):
    first, workdir = finished
    written, result = metrics_of(workdir), result_of(workdir)
    (workdir / "result.json").unlink()  # as a kill between the last step and this file leaves it
    second = train.train(tiny_config, workdir)
    assert second == dataclasses.replace(first, checkpoint=workdir / "checkpoints" / "20")
    assert metrics_of(workdir) == written
    assert result_of(workdir) == result


def test_a_run_that_begins_anew_has_no_result(tiny_config, finished, monkeypatch):
    _, workdir = finished
    shutil.rmtree(workdir / "checkpoints")
    monkeypatch.setattr(train, "InterruptRequest", lambda: StopAt(5))
    train.train(tiny_config, workdir)
    assert not (workdir / "result.json").exists()


def test_a_work_directory_of_another_config_is_refused_with_the_keys_that_differ(tiny_config, finished):
    tiny_config.mixup = 0.5
    tiny_config.model.dropout = 0.2
    tiny_config.log_every = 1
    with pytest.raises(ConfigError) as error:
        train.train(tiny_config, finished[1])
    message = str(error.value)
    assert "config.mixup=0.5 here, 0.2 there" in message
    assert "config.model.dropout=0.2 here, 0.1 there" in message
    assert "log_every" not in message
    assert "--workdir" in message


def test_keys_that_change_nothing_of_the_trajectory_may_change(tiny_config, finished):
    tiny_config.log_every = 1
    tiny_config.eval.every = 7
    tiny_config.checkpoint.every = 3
    tiny_config.data.threads = 2
    assert train.train(tiny_config, finished[1]).step == 20


def test_evaluation_sees_every_example_whatever_the_batch(tiny_config, tmp_path):
    tiny_config.steps = 6
    results = []
    for batch_size in (jax.device_count(), 128, 512):
        tiny_config.eval.batch_size = batch_size
        results.append(train.train(tiny_config, tmp_path / str(batch_size)).metrics)
    for result in results:
        assert result["eval/test/examples"] == 355
        assert result["eval/test/top1"] == results[0]["eval/test/top1"]
        np.testing.assert_allclose(result["eval/test/loss"], results[0]["eval/test/loss"], rtol=1e-5)


def test_profile_writes_a_trace(tiny_config, tmp_path):
    tiny_config.profile = True
    train.train(tiny_config, tmp_path)
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
