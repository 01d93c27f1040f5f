"""A sweep over learning rates: chosen on a held-out part of the training images, tested once."""

import dataclasses
import logging
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mixer_jax.config import ranges
from mixer_jax.config.paths import utf8_path
from mixer_jax.errors import ConfigError, RunError, shown
from mixer_jax.training import run as training_run
from mixer_jax.training.progress import NonFiniteError
from mixer_jax.workdir import layout

logger = logging.getLogger("mixer_jax")

_HELD_OUT = "held_out"  # what its metrics are called
_CHOOSES = f"eval/{_HELD_OUT}/top1"


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a sweep.

    Attributes:
      trials: learning rate -> top-1 accuracy on the held-out images; only of the trials that are finished.
      learning_rate: the best one; of several the first. None if the sweep was interrupted before it was known.
      metrics: evaluation metrics of the last run, trained with it as the config says; empty if it was interrupted.
      workdir: the sweep's work directory, with a run in each of `learning_rate=<rate>/` and `final/`.
      signal: the signal that interrupted the sweep, or None.
    """

    trials: dict[float, float]
    learning_rate: float | None
    metrics: dict[str, float]
    workdir: Path
    signal: int | None

    def table(self) -> str:
        """Returns the result as Markdown."""
        lines = ["| learning rate | held-out top-1 |", "|---|---|"]
        for rate, top1 in self.trials.items():
            chosen = "**" if rate == self.learning_rate else ""
            lines.append(f"| {chosen}{rate:g}{chosen} | {chosen}{top1:.4f}{chosen} |")
        scores = [f"{name} {value:.4f}" for name, value in self.metrics.items() if name.endswith("top1")]
        if scores:
            lines += ["", f"learning rate {self.learning_rate:g}, trained on all: {', '.join(scores)}"]
        return "\n".join(lines)


def sweep(config: ConfigDict, workdir: str | Path) -> Result:
    """Trains with each learning rate of `config.sweep`, chooses the best, and trains with that as the config says.

    Every run has a work directory of its own and can be resumed: after an interruption, the same call goes on. A trial
    is judged by its last state. The final run is not started again with another learning rate, such as one that a
    grid extended later would choose: its test has been seen.

    Args:
      config: a recipe with `config.sweep`.
      workdir: where the runs and the result, sweep.json, go; created if need be.

    Returns:
      The result.

    Raises:
      ConfigError: a value of the config is wrong, or the work directory holds runs of another config.
    """
    workdir = utf8_path("--workdir", workdir)
    trials, signal = try_rates(config, workdir)
    if signal:
        return Result(trials, None, {}, workdir, signal)
    return train_final(config, best_rate(trials), trials, workdir)


def try_rates(config: ConfigDict, workdir: Path) -> tuple[dict[float, float], int | None]:
    """Trains with each learning rate; a trial whose loss is not finite counts as an accuracy of 0.

    Args:
      config: as in `sweep`.
      workdir: as in `sweep`.

    Returns:
      Top-1 accuracy on the held-out images by learning rate, and the signal that interrupted the trials, or None.

    Raises:
      ConfigError: as `sweep`.
    """
    _check(config)
    trials = {}
    for rate in config.sweep.learning_rates:
        logger.info("sweep: learning rate %g on %s", rate, config.sweep.train_split)
        try:
            result = training_run.train(_trial(config, rate), layout.trial_folder(workdir, rate))
        except RunError as error:
            if not isinstance(error.__cause__, NonFiniteError):
                raise
            logger.warning("sweep: learning rate %g diverges: %s", rate, error.__cause__)
            trials[rate] = 0.0
            continue
        if result.signal:
            return trials, result.signal
        trials[rate] = result.metrics[_CHOOSES]
    return trials, None


def best_rate(trials: dict[float, float]) -> float:
    """Returns the learning rate of the highest accuracy, of several the first."""
    return max(trials, key=trials.__getitem__)


def train_final(config: ConfigDict, rate: float, trials: dict[float, float], workdir: Path) -> Result:
    """Trains with a learning rate as the config says, tests, and writes sweep.json.

    Args:
      config: as in `sweep`.
      rate: the learning rate.
      trials: what `try_rates` returned, for the record.
      workdir: as in `sweep`.
    """
    logger.info("sweep: learning rate %g is chosen; training on %s", rate, config.data.split)
    final = config.copy_and_resolve_references()
    final.schedule.learning_rate = rate
    result = training_run.train(final, workdir / layout.FINAL_RUN)
    if not result.signal and jax.process_index() == 0:
        tried = [{"learning_rate": rate, "held_out_top1": top1} for rate, top1 in trials.items()]
        described = {"trials": tried, "learning_rate": rate, "metrics": result.metrics}
        try:
            layout.write_json(workdir / layout.SWEEP, described)
        except OSError as error:
            raise RunError(f"{workdir / layout.SWEEP} cannot be written: {error.strerror}") from error
    return Result(trials, rate, {} if result.signal else result.metrics, workdir, result.signal)


def _trial(config: ConfigDict, rate: float) -> ConfigDict:
    trial = config.copy_and_resolve_references()
    trial.schedule.learning_rate = rate
    trial.data.split = config.sweep.train_split
    trial.eval.splits = {_HELD_OUT: config.sweep.held_out_split}
    return trial


def _check(config: ConfigDict) -> None:
    ranges.check(config)
    rates = config.sweep.learning_rates
    if not rates or len({layout.trial_folder(Path(), rate) for rate in rates}) < len(rates):
        expected = "different numbers, such as (0.003, 0.01)"
        raise ConfigError(f"config.sweep.learning_rates={shown(rates)}; expected {expected}")
    for key in ("train_split", "held_out_split"):
        if not config.sweep[key]:
            raise ConfigError(f"config.sweep.{key} is empty; expected a split, such as 'train[:98%]' or 'train[98%:]'")
    if config.checkpoint.best:
        raise ConfigError(
            f"config.checkpoint.best={config.checkpoint.best!r} chooses by what the sweep must not see; "
            "set it to nothing: --config.checkpoint.best="
        )
