"""What a run writes and shows: metrics across restarts, rates, and that the loop never waits for either."""

import json
import threading

import numpy as np
import pytest
from clu import asynclib
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixer_jax.errors import RunError
from mixer_jax.training import progress
from mixer_jax.workdir import metric_files as writer


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_hold_numbers_and_null_for_what_is_none(tmp_path):
    out = writer.JsonLinesWriter(tmp_path / "metrics.jsonl", start=0)
    out.write_scalars(1, {"a": 1.5, "b": 3, "c": np.float32(0.25), "d": float("nan"), "e": np.float32("inf")})
    out.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "step": 1,
        "a": 1.5,
        "b": 3,
        "c": 0.25,
        "d": None,
        "e": None,
    }


def test_a_restart_drops_what_was_written_after_its_checkpoint_and_counts_what_is_damaged(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    out = writer.JsonLinesWriter(path, start=0)
    for step in (10, 20, 30):
        out.write_scalars(step, {"train/loss": step})
    out.close()
    with path.open("ab") as file:
        file.write(b'123\n{"loss": 3}\n\xff\n{"step": 40, "train/lo')
    with caplog.at_level("WARNING", logger="mixer_jax"):
        out = writer.JsonLinesWriter(path, start=20)
    assert caplog.messages == [f"{path}: left out 4 damaged lines"]
    out.write_scalars(30, {"train/loss": 31})
    out.close()
    assert lines(path) == [{"step": s, "train/loss": v} for s, v in ((10, 10), (20, 20), (30, 31))]


def test_tensorboard_shows_a_restart_from_its_checkpoint_on(tmp_path):
    for start, value in ((0, 1.0), (20, 2.0)):
        out = writer.TensorBoardWriter(tmp_path, start=start)
        for step in range(start + 10, 50, 10):
            out.write_scalars(step, {"train/loss": value})
        out.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]


@pytest.mark.parametrize("kind", ["jsonl", "tensorboard"])
def test_what_cannot_be_written_is_an_error_of_the_next_flush_that_names_the_file(tmp_path, kind, file_size_limit):
    if kind == "jsonl":
        out = writer.JsonLinesWriter(tmp_path / "metrics.jsonl", start=0)
    else:
        out = writer.TensorBoardWriter(tmp_path, start=0)
    (path,) = tmp_path.iterdir()
    with file_size_limit(600):
        for step in range(50):
            out.write_scalars(step, {"train/loss": 1.0})
        for end in (out.flush, out.close):
            with pytest.raises(RunError, match=f"{path} cannot be written: File too large"):
                end()
    assert path.stat().st_size == 600


def test_what_is_not_written_is_refused(tmp_path):
    with pytest.raises(NotImplementedError, match="writes scalars and texts only"):
        writer.TensorBoardWriter(tmp_path, start=0).write_images(1, {})


class Collected:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.written = {}

    def write_scalars(self, step, scalars):
        self.written[step] = scalars

    def flush(self):
        pass


class Later:
    """A number that the device has not computed yet."""

    def __init__(self, value):
        self.done = threading.Event()
        self._value = value

    def __array__(self, dtype=None, copy=None):
        assert self.done.wait(timeout=30)
        return np.asarray(self._value, dtype or np.float32)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in the place of the monotonic one of the report."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


def report(out, clock, every=2, stop=100, start=0, skipped=0, stop_on_nonfinite=True):
    made = progress.TrainReport(
        out,
        start=start,
        stop=stop,
        every=every,
        batch_size=64,
        core_days=0.5,
        skipped=skipped,
        stop_on_nonfinite=stop_on_nonfinite,
    )
    assert clock.now == 1000.0
    return made


def metrics_of(loss, replaced=0, skipped=0, damaged=0):
    return {
        "loss": loss,
        "replaced_images": np.int32(replaced),
        "damaged_images": np.int32(damaged),
        "skipped_updates": np.int32(skipped),
    }


def test_metrics_are_fetched_without_waiting_for_them(clock):
    out = Collected()
    made = report(out, clock)
    late = Later(3.0)
    made.step_done(1, metrics_of(np.float32(4)))
    made.flush()
    made.step_done(2, metrics_of(late))  # returns although step 2 is not computed
    made.step_done(3, metrics_of(np.float32(2)))
    assert out.written == {}
    clock.now += 1.0
    late.done.set()
    made.flush()
    assert out.written[2]["train/loss"] == 3.0
    made.close()


def test_rates_leave_out_the_compilation_and_pauses_and_core_days_the_pauses(clock, monkeypatch):
    monkeypatch.setattr(progress.jax, "device_count", lambda: 4)
    out = Collected()
    made = report(out, clock)
    metrics = metrics_of(np.float32(1))

    def step(number, seconds):
        clock.now += seconds
        made.step_done(number, metrics)
        made.flush()

    step(1, 50.0)  # the compilation
    step(2, 2.0)
    assert out.written[2]["train/img_sec_core"] == pytest.approx(64 / 2.0 / 4)
    assert out.written[2]["train/core_days"] == pytest.approx(0.5 + 4 * 52 / 86_400)
    step(3, 3.0)
    clock.now += 1.0
    with made.paused():
        clock.now += 1000.0
    step(4, 4.0)
    assert out.written[4]["train/img_sec_core"] == pytest.approx(2 * 64 / 8.0 / 4)
    assert out.written[4]["train/core_days"] == pytest.approx(0.5 + 4 * 60 / 86_400)
    made.close()


def test_replaced_and_damaged_images_are_counted_over_the_steps_of_a_report(clock, caplog):
    out = Collected()
    made = report(out, clock, every=3, stop=6)
    with caplog.at_level("INFO", logger="mixer_jax"):
        for number, replaced in enumerate((1, 0, 2, 0, 0, 0), start=1):
            clock.now += 1.0
            made.step_done(number, metrics_of(np.float32(1), replaced, damaged=2 * replaced))
            made.flush()
    made.close()
    assert [out.written[step]["train/replaced_images"] for step in (3, 6)] == [3, 0]
    assert [out.written[step]["train/damaged_images"] for step in (3, 6)] == [6, 0]
    assert "3 images replaced, 6 images damaged" in caplog.messages[0]
    assert "replaced" not in caplog.messages[1]
    assert "damaged" not in caplog.messages[1]


def test_the_first_report_of_a_single_step_has_no_rate(clock):
    out = Collected()
    made = report(out, clock, every=1)
    made.step_done(1, metrics_of(np.float32(1)))
    made.flush()
    assert "train/img_sec_core" not in out.written[1]
    made.close()


def test_the_first_step_that_is_not_finite_stops_the_run_by_the_report_after_it(clock):
    made = report(Collected(), clock, every=4)
    for step, skipped in enumerate([0, 0, 0, 0, 0, 1, 2, 3], start=1):  # after the sixth, no update is made
        clock.now += 1.0
        made.step_done(step, metrics_of(np.float32(np.nan if skipped else 1), skipped=skipped))
        made.flush()
    with pytest.raises(progress.NonFiniteError, match="step 6: the loss or the gradient is not finite") as error:
        made.step_done(9, metrics_of(np.float32(1), skipped=4))
    assert error.value.step == 6
    made.close()


def test_a_step_that_is_not_finite_stops_the_run_before_anything_is_done_with_its_state(clock):
    made = report(Collected(), clock, every=100)
    for step, skipped in enumerate([0, 0, 1, 2], start=1):
        made.step_done(step, metrics_of(np.float32(1), skipped=skipped))
    done = []
    with pytest.raises(progress.NonFiniteError) as error, made.paused():
        done.append("saved")
    assert error.value.step == 3
    assert not done
    made.close()


def test_updates_that_are_skipped_are_shown_when_there_are_more_of_them(clock, caplog):
    made = report(Collected(), clock, every=2, start=10, skipped=3, stop_on_nonfinite=False)
    with caplog.at_level("WARNING", logger="mixer_jax"):
        for step, skipped in enumerate([3, 3, 4, 5, 5, 5], start=11):
            clock.now += 1.0
            made.step_done(step, metrics_of(np.float32(1), skipped=skipped))
            made.flush()
        with made.paused():
            pass
    made.close()
    assert caplog.messages == [
        "steps 13 to 14: 2 updates left out, because the loss or the gradient was not finite",
    ]


def test_progress_is_a_line_with_step_loss_rate_and_time_left(clock, caplog):
    made = report(Collected(), clock)
    with caplog.at_level("INFO", logger="mixer_jax"):
        for number in (1, 2):
            clock.now += 2.0
            made.step_done(number, metrics_of(np.float32(1.25)))
            made.flush()
    made.close()
    rate = 64 / 2.0 / progress.jax.device_count()
    assert caplog.messages == [f"step 2/100 (2.0%): loss 1.2500, {rate:,.1f} img/sec/core, ETA 0:03:16"]


def test_what_fails_in_the_background_fails_the_run(clock):
    class Full(Collected):
        def write_scalars(self, *_):
            raise TypeError("not a number")

    made = report(Full(), clock)
    made.step_done(1, metrics_of(np.float32(1)))
    made.flush()
    clock.now += 1.0
    made.step_done(2, metrics_of(np.float32(1)))
    with pytest.raises(asynclib.AsyncError, match="not a number"):
        made.flush()
    made.close()


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (0, 12), (0, 3), (0, 2), (0, 1), (50, 53), (50, 100)])
def test_a_profile_ends_before_the_run_does(start, stop, tmp_path, monkeypatch):
    running, traced = [False], []
    monkeypatch.setattr("jax.profiler.start_trace", lambda _: running.__setitem__(0, True))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: running.__setitem__(0, False))
    action = progress.profile(tmp_path, start=start, stop=stop)
    for step in range(start + 1, stop + 1):
        traced.append(running[0])
        action(step)
    assert not running[0]
    assert sum(traced) == (5 if stop - start >= 10 else min((stop - start) // 2, 5))
