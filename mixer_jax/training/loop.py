"""The training loop: runs the objects that it is given, and never sees a config."""

import collections
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

import jax

from mixer_jax.errors import RunError
from mixer_jax.evaluators.evaluator import Evaluator, check_metrics
from mixer_jax.evaluators.examples import UndecodableError
from mixer_jax.steps.state import TrainState
from mixer_jax.steps.types import Batch, TrainStep
from mixer_jax.training.progress import NonFiniteError, TrainReport
from mixer_jax.workdir.checkpoints import Checkpoints
from mixer_jax.workdir.metric_files import metric_writers

logger = logging.getLogger("mixer_jax")

# Steps handed to the device before the host waits for the oldest: enough to keep the device busy, few enough that the
# batches they hold stay small.
_IN_FLIGHT = 4


def train(
    state: TrainState,
    *,
    train_step: TrainStep,
    batches: Iterator[Batch],
    stop: int,
    evaluators: dict[str, Evaluator],
    checkpoints: Checkpoints,
    run: dict,
    report: TrainReport,
    writer: metric_writers.MetricWriter,
    eval_every: int,
    checkpoint_every: int,
    evaluate_checkpoints: bool,
    actions: list[Callable[[int], object]],
    interrupted: Callable[[], bool],
) -> tuple[TrainState, dict[str, float]]:
    """Trains from the state's step to step `stop`.

    Args:
      state: where to start; its buffers are donated.
      train_step: (state, batch) -> (state, metrics), jitted.
      batches: the global batches of steps state.step, state.step + 1, ...
      stop: the last step.
      evaluators: by what they are called in the metrics.
      checkpoints: where the state is saved.
      run: what is saved beside the state; "core_days" is added.
      report: takes the training metrics.
      writer: takes the evaluation metrics, as "eval/<evaluator>/<metric>".
      eval_every: evaluate every so many steps, and at the end.
      checkpoint_every: save every so many steps, and at the end.
      evaluate_checkpoints: whether to evaluate whenever a checkpoint is saved.
      actions: called with the step after every step.
      interrupted: asked after every step and before every batch of an evaluation; if it says yes, the state is saved,
        without an evaluation, and the loop ends.

    Returns:
      The last state, and the evaluation metrics of it: empty if it was not evaluated, because of an interruption.
    """
    in_flight: collections.deque[dict[str, jax.Array]] = collections.deque()
    metrics: dict[str, float] = {}
    saved = int(state.step)

    def save(metrics: dict[str, float]) -> None:
        nonlocal saved
        saved = int(state.step)
        checkpoints.save(state, run={**run, "core_days": report.core_days}, metrics=metrics)

    try:
        for step in range(int(state.step) + 1, stop + 1):
            state, train_metrics = train_step(state, next(batches))
            report.step_done(step, train_metrics)
            for action in actions:
                action(step)
            in_flight.append(train_metrics)
            if len(in_flight) > _IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            ending = interrupted()
            saving = ending or step % checkpoint_every == 0 or step == stop
            evaluating = step % eval_every == 0 or step == stop or (saving and evaluate_checkpoints and not ending)
            if not (evaluating or saving):
                continue
            with report.paused():
                # Before the evaluation, unless that says whether the checkpoint is the best. Of several processes one
                # whose evaluation fails ends all, and could not save alone.
                if not (evaluating and evaluate_checkpoints) and (saving or jax.process_count() > 1):
                    save({})
                metrics = evaluate(state, evaluators, interrupted) if evaluating else {}
                ending = ending or interrupted()
                if (saving or ending) and saved < step:
                    save(metrics)
                if metrics:
                    writer.write_scalars(step, metrics)
            if ending:
                break
        checkpoints.wait()
        report.flush()
    except NonFiniteError:  # the state is that of the step before
        raise
    except Exception as error:
        # What is trained is saved, whatever has failed, if the step before has left a state. Of several processes the
        # others go on, and cannot help, unless they have met the same.
        together = jax.process_count() == 1 or isinstance(error, UndecodableError)
        if together and not state.step.is_deleted() and int(state.step) > saved:
            with contextlib.suppress(RunError):  # which is not to hide the first one
                save({})
                checkpoints.wait()
        raise
    return state, metrics


def evaluate(state: TrainState, evaluators: dict[str, Evaluator], interrupted: Callable[[], bool]) -> dict[str, float]:
    """Runs every evaluator on a state, and returns {"eval/<evaluator>/<metric>": value}, or {} if it is interrupted."""
    metrics: dict[str, float] = {}
    for title, evaluator in evaluators.items():
        values = evaluator.measure(state, interrupted)
        if not values and interrupted():
            logger.info("step %d: the evaluation is left, to save before the run ends", int(state.step))
            return {}
        check_metrics(title, evaluator, values)
        metrics |= {f"eval/{title}/{name}": value for name, value in values.items()}
        logger.info("step %d: %s %s", int(state.step), title, _in_words(values))
    return metrics


def _in_words(values: Mapping[str, float]) -> str:
    """Returns metrics as text: "top-1 0.9859, loss 0.2318 on 355 examples"; of several seeds their mean is enough."""
    shown = [
        f"{name.replace('top1', 'top-1')} {value:.4f}"
        for name, value in values.items()
        if name not in ("examples", "undecodable") and "/seed_" not in name
    ]
    counted = f" on {values['examples']} examples" if "examples" in values else ""
    undecodable = f", {values['undecodable']} undecodable" if values.get("undecodable") else ""
    return ", ".join(shown) + counted + undecodable
