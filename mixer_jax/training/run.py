"""A training run: starts or resumes what a config describes, and says how it ended."""

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mixer_jax.config import base
from mixer_jax.config.checks import check_finite
from mixer_jax.config.compare import complete, differences, flatten
from mixer_jax.errors import ConfigError, RunError
from mixer_jax.runtime import agreement
from mixer_jax.runtime.interrupt import InterruptRequest
from mixer_jax.steps import state as state_lib
from mixer_jax.training import loop, progress
from mixer_jax.training import start as transfer
from mixer_jax.training.program import Program, build_program
from mixer_jax.workdir import lock
from mixer_jax.workdir import metric_files as writer
from mixer_jax.workdir.checkpoints import Checkpoints
from mixer_jax.workdir.layout import CLASSES_FILE, RESULT_FILE

logger = logging.getLogger("mixer_jax")

# Keys that change neither the data, nor the state, nor the length of a run: they may change when it resumes. So may
# `nonfinite`: where a run stopped, it can go on with skip, and until there both are the same. The last three say where
# and in which order the same sums are computed, which shifts results by rounding as other devices do.
_FREE_KEYS = (
    "log_every",
    "profile",
    "sweep",
    "eval",
    "checkpoint",
    "data.data_dir",
    "data.workers",
    "data.threads",
    "data.prefetch",
    "nonfinite",
    "mesh",
    "accumulation_steps",
    "model.remat",
)


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


def run(config: ConfigDict, workdir: Path) -> Result:
    """Trains as the config says, from the newest checkpoint of the work directory if it has one.

    Args:
      config: a recipe, with the keys of configs/base.py.
      workdir: where checkpoints, metrics.jsonl, TensorBoard events, config.json, classes.txt and, at the end,
        result.json go; created if need be.

    Returns:
      How the run ended.

    Raises:
      ConfigError: a value of the config is wrong, the work directory holds another config's checkpoint, damaged ones
        alone, or is in use by another run, or the processes that run this together differ.
      RunError: what the run writes cannot be written, or the loss or a gradient is not finite.
    """
    described = json.loads(config.to_json_best_effort())
    check_finite(described)
    _check_other_run(config.init_from, workdir)
    with InterruptRequest() as interrupt, contextlib.ExitStack() as opened:
        program = build_program(config)
        if jax.process_count() > 1:
            agreement.check(_facts(program, described), workdir)
        try:
            if jax.process_index() == 0:
                (workdir / "checkpoints").mkdir(parents=True, exist_ok=True)
                opened.enter_context(lock.only_process(workdir))
            checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep, best=config.checkpoint.best)
            opened.callback(checkpoints.close)
            state, core_days = _start(program, checkpoints, described)
            finished = int(state.step) == program.total_steps
            if jax.process_index() == 0:
                (workdir / "config.json").write_text(json.dumps(described, indent=2) + "\n")
                names = program.sources[config.data.split].class_names
                (workdir / CLASSES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
                if not finished:  # one whose checkpoints were removed, to train anew
                    (workdir / RESULT_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"--workdir={workdir} cannot be used: {error}") from error
        _describe(program, state, workdir)
        if interrupt.received():
            return _result(state, core_days, {}, checkpoints, interrupt.signal)
        if finished:
            logger.info("%s holds the finished run; to train again, remove it or choose another --workdir", workdir)
            metrics = loop.evaluate(state, program.evaluators, interrupt.received)
            result = _result(state, core_days, metrics, checkpoints, interrupt.signal if not metrics else None)
        else:
            run = {"config": described, "core_days": core_days}
            result = _train(config, program, state, checkpoints, workdir, run, interrupt)
        if result.signal is None and jax.process_index() == 0:
            _write(result, workdir / RESULT_FILE)
        return result


def _train(
    config: ConfigDict,
    program: Program,
    state: state_lib.TrainState,
    checkpoints: Checkpoints,
    workdir: Path,
    run: dict,
    interrupt: InterruptRequest,
) -> Result:
    start, stop = int(state.step), program.total_steps
    profiled = config.profile and jax.process_index() == 0  # the others do the same
    metric_writer = writer.create(workdir, start=start)
    report = progress.TrainReport(
        metric_writer,
        start=start,
        stop=stop,
        every=config.log_every,
        batch_size=config.batch_size,
        core_days=run["core_days"],
        skipped=int(state.skipped),
        stop_on_nonfinite=config.nonfinite == "stop",
    )
    actions = [lambda _: checkpoints.check()]
    if profiled:
        actions.append(progress.profile(workdir, start=start, stop=stop))
    with (
        _naming_replay(workdir),
        contextlib.closing(metric_writer),
        contextlib.closing(report),
        progress.above_bar(),
    ):
        metric_writer.write_hparams(run["config"])
        state, metrics = loop.train(
            state,
            train_step=program.train_step,
            batches=program.train_batches(start),
            stop=stop,
            evaluators=program.evaluators,
            checkpoints=checkpoints,
            run=run,
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


def _facts(program: Program, described: dict) -> dict[str, object]:
    """Returns what has to be the same on all processes."""
    config = {f"config.{key}": value for key, value in flatten(described).items()}
    data = {f"data of split {split}": agreement.fingerprint(source) for split, source in program.sources.items()}
    return config | agreement.environment() | data


def _result(
    state: state_lib.TrainState,
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
    described = {"step": result.step, "core_days": result.core_days, "metrics": metrics}
    try:
        path.write_text(json.dumps(described, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def _start(program: Program, checkpoints: Checkpoints, described: dict) -> tuple[state_lib.TrainState, float]:
    """Returns the state to start from and the core-days that it has cost: the newest checkpoint's, or new ones."""

    def check_same_config(saved):
        theirs = complete(saved["config"], json.loads(base.get_config().to_json_best_effort()))
        if changed := differences(described, theirs, ignore=_FREE_KEYS):
            listed = "; ".join(f"config.{key}={here!r} here, {there!r} there" for key, (here, there) in changed.items())
            raise ConfigError(
                f"{checkpoints.directory} holds a checkpoint of another config: {listed}. "
                "Start with the same values to resume it, or choose another --workdir"
            )

    state, saved = checkpoints.restore_newest(program.abstract_state, check=check_same_config)
    if state is None:
        keys = {"seed": described["seed"], "init_from": described["init_from"]}
        return transfer.initial_state(program.init, **keys, image_size=described["data"]["image_size"]), 0.0
    if described["nonfinite"] == "stop" and state.skipped:
        raise ConfigError(
            f"config.nonfinite='stop', but this run has left out {int(state.skipped)} updates; resume it with 'skip'"
        )
    logger.info("resuming from %s/%d", checkpoints.directory, int(state.step))
    return state, saved["core_days"]


def _check_other_run(init_from: str | None, workdir: Path) -> None:
    """Raises a ConfigError if the weights to start from are those of the run itself, which resumes without that key."""
    folder, own = Path(init_from or "").expanduser().resolve(), workdir.resolve()
    if init_from and (folder == own or folder.parent == own / "checkpoints"):
        raise ConfigError(
            f"config.init_from={init_from!r} is in this run's own --workdir: leave the key out to resume the run, "
            "or choose another --workdir to start a new one from its weights"
        )


def _describe(program: Program, state: state_lib.TrainState, workdir: Path) -> None:
    devices = program.mesh.devices.flatten()
    logger.info("parameters:\n%s", writer.overview(state.params))
    logger.info(
        "devices: %d x %s on %d host%s; mesh: %s",
        len(devices),
        devices[0].device_kind,
        jax.process_count(),
        "s" if jax.process_count() > 1 else "",
        ", ".join(f"{axis}={size}" for axis, size in program.mesh.shape.items()),
    )
    logger.info("steps %d to %d; work directory: %s", int(state.step), program.total_steps, workdir)
