"""A training run: starts or resumes what a config describes, and says how it ended."""

import contextlib
import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mixer_jax.config import ranges
from mixer_jax.config.compare import flatten
from mixer_jax.config.paths import utf8_path
from mixer_jax.data import class_names
from mixer_jax.errors import ConfigError, RunError, shown
from mixer_jax.runtime import agreement, numerics
from mixer_jax.runtime.interrupt import InterruptRequest
from mixer_jax.steps.state import TrainState
from mixer_jax.training import loop, progress, resume
from mixer_jax.training.program import Program, build_program
from mixer_jax.workdir import layout, lock, metric_files
from mixer_jax.workdir.checkpoints import Checkpoints

logger = logging.getLogger("mixer_jax")


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: the last step.
      checkpoint: folder of the checkpoint of that step, or None if the run was interrupted before its first step.
      core_days: core-days of all its training steps.
      metrics: evaluation metrics of it, empty if it was not evaluated, because of an interruption.
      signal: the signal that interrupted the run, or None if it is finished.
    """

    step: int
    checkpoint: Path | None
    core_days: float
    metrics: dict[str, float]
    signal: int | None


@numerics.pinned()
def train(config: ConfigDict, workdir: str | Path, *, extend: bool = False) -> Result:
    """Trains as the config says, from the newest checkpoint of the work directory if it has one.

    In the main thread it takes the signals that ask to stop; in another one it trains to its end. Where nobody has set
    up logging for "mixer_jax", its messages are shown on the standard error output.

    Args:
      config: a recipe, with the keys of mixer_jax/config/base.py.
      workdir: where checkpoints, metrics and the other files of `workdir.layout` go; created if need be.
      extend: whether steps, epochs and schedule may differ from those of the checkpoint that it goes on from. From
        there on the learning rate is that of the new schedule, as if it had been so from the start.

    Returns:
      How the run ended.

    Raises:
      ConfigError: a value of the config is wrong, the work directory holds another config's checkpoint, damaged ones
        alone, or is in use by another run, or the processes that run this together differ.
      RunError: what the run writes cannot be written, or the loss or a gradient is not finite.
    """
    if not hasattr(config, "to_json_best_effort"):
        raise ConfigError(f"config={shown(config)}; expected a config, such as mixer_jax.load_config('digits')")
    ranges.check(config)
    workdir = utf8_path("--workdir", workdir)
    record = {"config": json.loads(config.to_json_best_effort()), "settings": numerics.settings()}
    resume.check_other_run(config.init_from, workdir)
    with progress.shown(), InterruptRequest() as interrupt, contextlib.ExitStack() as opened:
        program = build_program(config)
        record["class_names"] = list(program.sources[config.data.split].class_names)
        record["environment"] = {**agreement.environment(), "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}
        if jax.process_count() > 1:
            agreement.check(_facts(program, record), workdir)
        try:
            if jax.process_index() == 0:
                layout.checkpoints_folder(workdir).mkdir(parents=True, exist_ok=True)
                opened.enter_context(lock.only_process(workdir / layout.LOCK, f"--workdir={workdir}"))
            directory = layout.checkpoints_folder(workdir)
            checkpoints = Checkpoints(directory, keep=config.checkpoint.keep, best=config.checkpoint.best)
            opened.callback(checkpoints.close)
            state, record = resume.restore_or_begin(program, checkpoints, record, extend=extend)
            finished = int(state.step) == program.total_steps
            if jax.process_index() == 0:
                _describe_in_files(record, workdir, finished=finished)
        except OSError as error:
            raise ConfigError(f"--workdir={workdir} cannot be used: {error}") from error
        _describe(program, state, workdir)
        if interrupt.received():
            return _result(state, record["core_days"], {}, checkpoints, interrupt.signal)
        if finished:
            logger.info(
                "%s holds the finished run; to train it longer, raise its length and add --extend; to train again, "
                "remove it or choose another --workdir",
                workdir,
            )
            metrics = loop.evaluate(state, program.evaluators, interrupt.received)
            signal = interrupt.signal if not metrics and program.evaluators else None
            result = _result(state, record["core_days"], metrics, checkpoints, signal)
        else:
            result = _run_loop(config, program, state, checkpoints, workdir, record, interrupt)
        if result.signal is None and jax.process_index() == 0:
            _write(result, workdir / layout.RESULT)
        return result


def _run_loop(
    config: ConfigDict,
    program: Program,
    state: TrainState,
    checkpoints: Checkpoints,
    workdir: Path,
    record: dict,
    interrupt: InterruptRequest,
) -> Result:
    first, stop = int(state.step), program.total_steps
    profiled = config.profile and jax.process_index() == 0  # the others do the same
    metric_writer = metric_files.create_writer(workdir, start=first)
    report = progress.TrainReport(
        metric_writer,
        start=first,
        stop=stop,
        every=config.log_every,
        batch_size=config.batch_size,
        core_days=record["core_days"],
        skipped=int(state.skipped),
        stop_on_nonfinite=config.nonfinite == "stop",
    )
    actions: list[Callable[[int], object]] = [lambda _: checkpoints.check()]
    if profiled:
        actions.append(progress.profile(workdir, start=first, stop=stop))
    with (
        _naming_replay(workdir),
        contextlib.closing(metric_writer),
        contextlib.closing(report),
        progress.above_bar(),
    ):
        metric_writer.write_hparams(record["config"])
        state, metrics = loop.train(
            state,
            train_step=program.train_step,
            batches=program.train_batches(first),
            stop=stop,
            evaluators=program.evaluators,
            checkpoints=checkpoints,
            run=record,
            report=report,
            writer=metric_writer,
            eval_every=config.eval.every,
            checkpoint_every=config.checkpoint.every,
            evaluate_checkpoints=bool(config.checkpoint.best),
            actions=actions,
            interrupted=interrupt.received,
        )
    finished = int(state.step) == stop and (metrics or not program.evaluators)
    return _result(state, report.core_days, metrics, checkpoints, None if finished else interrupt.signal)


@contextlib.contextmanager
def _naming_replay(workdir: Path) -> Iterator[None]:
    """Adds to the error of a step that is not finite what to do about it."""
    try:
        yield
    except progress.NonFiniteError as error:
        raise RunError(
            f"{error}. See its norms by `python -m mixer_jax replay --workdir={workdir} --step={error.step}`, "
            "or go on without such updates by --config.nonfinite=skip"
        ) from error


def _facts(program: Program, record: dict) -> dict[str, object]:
    """Returns what has to be the same on all processes."""
    config = {f"config.{key}": value for key, value in flatten(record["config"]).items()}
    settings = {f"JAX's setting {name}": value for name, value in record["settings"].items()}
    data = {f"data of split {split}": agreement.fingerprint(source) for split, source in program.sources.items()}
    return config | settings | agreement.environment() | data


def _result(
    state: TrainState,
    core_days: float,
    metrics: dict[str, float],
    checkpoints: Checkpoints,
    signal: int | None,
) -> Result:
    step, best = int(state.step), checkpoints.best_step()
    if best is not None:
        logger.info("best checkpoint: %s", checkpoints.directory / str(best))
    checkpoint = checkpoints.directory / str(step) if step else None
    return Result(step=step, checkpoint=checkpoint, core_days=core_days, metrics=metrics, signal=signal)


def _write(result: Result, path: Path) -> None:
    metrics = {name: value if math.isfinite(value) else None for name, value in result.metrics.items()}
    try:
        layout.write_json(path, {"step": result.step, "core_days": result.core_days, "metrics": metrics})
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def _describe_in_files(record: dict, workdir: Path, *, finished: bool) -> None:
    layout.write_json(workdir / layout.CONFIG, record["config"])
    with layout.whole_file(layout.classes_file(workdir), "wb") as file:
        file.write(class_names.to_bytes(record["class_names"]))
    if not finished:  # one whose checkpoints were removed, to train anew, or that is extended
        (workdir / layout.RESULT).unlink(missing_ok=True)


def _describe(program: Program, state: TrainState, workdir: Path) -> None:
    devices = program.mesh.devices.flatten()
    logger.info("parameters:\n%s", metric_files.overview(state.params))
    logger.info(
        "devices: %d x %s on %d host%s; mesh: %s",
        len(devices),
        devices[0].device_kind,
        jax.process_count(),
        "s" if jax.process_count() > 1 else "",
        ", ".join(f"{axis}={size}" for axis, size in program.mesh.shape.items()),
    )
    logger.info("steps %d to %d; work directory: %s", int(state.step), program.total_steps, workdir)
