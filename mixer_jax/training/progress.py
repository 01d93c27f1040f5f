"""What a run shows while it trains: metrics, rate, progress bar or lines, profiles, by clu's periodic actions."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import jax
import numpy as np
from clu import asynclib
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mixer_jax.errors import RunError
from mixer_jax.workdir.metric_files import metric_writers, periodic_actions

logger = logging.getLogger("mixer_jax")

_COUNTS = ("replaced_images", "damaged_images")


class NonFiniteError(RunError):
    """The loss or the gradient of a step was not finite, and its update was left out.

    Attributes:
      step: the first such step.
    """

    def __init__(self, step: int):
        super().__init__(f"step {step}: the loss or the gradient is not finite; its update was not made")
        self.step = step


class TrainReport(periodic_actions.PeriodicAction):
    """Writes the training metrics and the progress every so many steps, without making the device wait.

    The metrics of a step are fetched in a background thread, which notes when the device had them: the rate is that of
    the device, not of the thread that hands it work. Of "replaced_images" and "damaged_images" all steps since the last
    report are counted. On a terminal the progress is a bar, in a log a line a report. Updates that the device left out
    are found in the same way: `step_done` and `paused` raise a NonFiniteError if the run is to stop at them, `paused`
    before what is inside; otherwise they are shown.
    """

    def __init__(
        self,
        writer: metric_writers.MetricWriter,
        *,
        start: int,
        stop: int,
        every: int,
        batch_size: int,
        core_days: float,
        skipped: int,
        stop_on_nonfinite: bool,
    ):
        super().__init__(every_steps=every, on_steps=[stop])
        self.core_days = core_days  # spent on training steps, earlier runs of the same work directory included
        self._writer = writer
        self._stop = stop
        self._batch_size = batch_size
        self._pool = asynclib.Pool("TrainReport", max_workers=1)
        self._metrics: dict[str, jax.Array] = {}
        self._counts: dict[str, list[jax.Array]] = {name: [] for name in _COUNTS}  # by step since the last report
        self._step = start
        self._skipped, self._skipped_up_to = skipped, start  # how many updates, and the step at which it was so
        self._stop_on_nonfinite = stop_on_nonfinite
        self._nonfinite: NonFiniteError | None = None
        self._first = start + 1
        self._counted = start  # the last step whose images are in a rate
        self._since = time.monotonic()
        self._seconds = 0.0  # since the last report, up to self._since
        on_terminal = jax.process_index() == 0 and sys.stderr.isatty()
        self._bar = tqdm(total=stop, initial=start, unit="step", disable=not on_terminal, dynamic_ncols=True)

    def step_done(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics (scalars on the device) of a step; to be called after every step."""
        if self._nonfinite and jax.process_count() == 1:  # several processes stop together, in `paused`
            raise self._nonfinite
        self._step, self._metrics = step, metrics
        for name, counts in self._counts.items():
            counts.append(metrics[name])
        if step == self._first:
            self._pool(self._exclude_first)(step, metrics)
        self(step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps what happens inside out of the rates and the core-days; raises behind it what could not be written."""
        self._pool.join()
        jax.block_until_ready(self._metrics)
        self._count_skipped(self._step, int(self._metrics["skipped_updates"]))
        if self._nonfinite:
            raise self._nonfinite
        now = time.monotonic()
        self._seconds += now - self._since
        self._spend(now - self._since)
        yield
        self._writer.flush()
        self._since = time.monotonic()

    def flush(self) -> None:
        """Waits until all is written; raises what a background thread raised."""
        self._pool.join()
        self._writer.flush()

    def close(self) -> None:
        """Waits until all is written, and ends the progress bar."""
        try:
            self._pool.close()
        finally:
            self._bar.close()

    def _exclude_first(self, step, metrics):
        # The first step compiles: its time is spent, but it says nothing about the rate.
        jax.block_until_ready(metrics)
        now = time.monotonic()
        self._spend(now - self._since)
        self._since, self._seconds, self._counted = now, 0.0, step

    def _count_skipped(self, step, skipped):
        more = skipped - self._skipped
        if more and self._stop_on_nonfinite:
            # The device left out the update of the first such step and all since.
            self._nonfinite = self._nonfinite or NonFiniteError(step - more + 1)
        elif more:
            logger.warning(
                "steps %d to %d: %d update%s left out, because the loss or the gradient was not finite",
                self._skipped_up_to + 1,
                step,
                more,
                "s" if more > 1 else "",
            )
        self._skipped, self._skipped_up_to = skipped, step

    def _spend(self, seconds):
        self.core_days += seconds * jax.device_count() / timedelta(days=1).total_seconds()

    def _apply(self, step: int, t: float) -> None:
        del t  # the time at which the step was handed to the device, not at which it was done
        self._pool(self._write)(step, {**self._metrics, **self._counts})
        self._counts = {name: [] for name in _COUNTS}

    def _write(self, step, metrics):
        values = {f"train/{name}": float(np.sum(value)) for name, value in jax.device_get(metrics).items()}
        now = time.monotonic()
        self._spend(now - self._since)
        seconds = self._seconds + now - self._since
        steps = step - self._counted
        self._since, self._seconds, self._counted = now, 0.0, step
        self._count_skipped(step, int(values["train/skipped_updates"]))
        progress = f"loss {values['train/loss']:.4f}"
        if steps:
            rate = values["train/img_sec_core"] = steps * self._batch_size / seconds / jax.device_count()
            progress += f", {rate:,.1f} img/sec/core"
        for name in _COUNTS:
            if count := int(values[f"train/{name}"]):
                progress += f", {count} image{'s' if count > 1 else ''} {name.partition('_')[0]}"
        values["train/core_days"] = self.core_days
        self._writer.write_scalars(step, values)
        self._bar.set_postfix_str(progress, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._bar.disable:
            left = timedelta(seconds=round((self._stop - step) * seconds / steps)) if steps else "unknown"
            logger.info("step %d/%d (%.1f%%): %s, ETA %s", step, self._stop, 100 * step / self._stop, progress, left)


def profile(directory: Path, *, start: int, stop: int) -> Callable[[int], object]:
    """Makes the action that traces up to five steps, from the tenth of the run on if there are so many.

    Args:
      directory: where the trace goes, under plugins/profile/.
      start: step that the run starts from.
      stop: step that it ends at; the trace ends before it.

    Returns:
      An action to be called with the step after every step.
    """
    # The action begins a trace after a step and ends it after a later one: of a single step there is none.
    steps = min(5, (stop - start) // 2)
    if not steps:
        logger.warning("config.profile: no trace, because a trace takes two steps or more, and this run has one")
        return lambda _: None
    first = max(min(start + 10, stop - steps), start + 1)
    return periodic_actions.Profile(
        logdir=str(directory),
        num_profile_steps=steps,
        profile_duration_ms=None,
        first_profile=first,
        every_secs=None,
    )


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """A context in which the project's messages are shown, also where nobody has set up logging: in a notebook."""
    if logger.handlers or logger.level != logging.NOTSET:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = propagate


def above_bar() -> contextlib.AbstractContextManager:
    """Returns a context in which the project's log lines appear above a progress bar instead of through it."""
    return logging_redirect_tqdm(loggers=[logger])
