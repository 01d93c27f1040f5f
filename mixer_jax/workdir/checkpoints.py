"""Checkpoints of a run: its state, its config and what it has cost, under `<workdir>/checkpoints/<step>/`."""

import contextlib
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from mixer_jax.errors import ConfigError, RunError, in_short
from mixer_jax.steps.state import TrainState, fingerprint
from mixer_jax.workdir import reading
from mixer_jax.workdir.saved import PARAMS_SUM

logger = logging.getLogger("mixer_jax")


class DamagedError(ConfigError):
    """A checkpoint cannot be read, or is not what was saved; the message names it and says why."""


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, except that it leaves it to `interrupt` to ask JAX whether to stop.

    JAX counts such questions to find a step at which all processes stop; others in between would mislead it.
    """

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class Checkpoints:
    """Saves asynchronously and restores the checkpoints of a work directory (Orbax's CheckpointManager)."""

    def __init__(self, directory: Path, *, keep: int, best: str | None, read_only: bool = False):
        """Opens the directory, and creates it if need be.

        What a kill left there of an unfinished save is removed. An evaluation that cannot be read is set aside.

        Args:
          directory: where they lie, as `<directory>/<step>`.
          keep: how many of the newest checkpoints to keep.
          best: name of the evaluation metric whose best checkpoint is kept as well, or None. A metric whose name ends
            in "loss" is better when it is lower, any other when it is higher.
          read_only: changes nothing in the directory, which must exist, also while a run saves there.

        Raises:
          ConfigError: `keep` is not positive.
        """
        if keep < 1:
            raise ConfigError(f"config.checkpoint.keep={keep}; expected a positive number")
        self.directory = directory
        self._best = best
        self._saving = False  # begun, and not known to have ended
        policy, best_fn = LatestN(keep), None
        lower = best is not None and best.endswith("loss")
        if best:

            def best_fn(metrics):  # the worst there is of one that was not evaluated, {}, or whose metric is no number
                worst = math.inf if lower else -math.inf
                value = metrics.get(best, worst)
                return worst if math.isnan(value) else value

            policy = AnyPreservationPolicy([policy, BestN(get_metric_fn=best_fn, reverse=lower, n=1)])
        if not read_only:
            _on_one_process(lambda: _set_aside_damaged_metrics(directory))
        self._manager = _Manager(
            directory.resolve(),
            item_names=("state", "run"),
            options=ocp.CheckpointManagerOptions(
                read_only=read_only,
                create=not read_only,
                save_interval_steps=0 if read_only else 1,  # Orbax warns of what a read-only manager does not do
                preservation_policy=policy,
                best_fn=best_fn,  # the policy decides; without this, Orbax would not keep the metrics on disk
                best_mode="min" if lower else "max",
                cleanup_tmp_directories=not read_only,
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint, or None if no checkpoint was evaluated by a metric that chooses."""
        best = self._manager.best_step() if self._best else None
        return best if best is not None and self._best in (self._manager.metrics(best) or {}) else None

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, *, run: dict, metrics: dict[str, float]) -> None:
        """Starts saving; the state may be changed or donated as soon as this returns.

        Args:
          state: the training state.
          run: what a JSON file can hold of the run: its config, and what it has spent.
          metrics: evaluation metrics of this state by name, empty if it was not evaluated.

        Raises:
          RunError: this one, or the one before, cannot be written.
        """
        self._saving = True
        sums = {"fingerprint": int(fingerprint(state)), PARAMS_SUM: int(fingerprint(state.params))}
        run = reading.sealed({**run, **sums})
        with self._writing():
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)),
                metrics={self._best: metrics[self._best]} if self._best and metrics else {},
            )

    def restore_newest(
        self, target: TrainState, *, check: Callable[[dict], None]
    ) -> tuple[TrainState, dict] | tuple[None, None]:
        """Restores the newest checkpoint that can be read.

        Newer ones, which are damaged, are reported, and renamed to `<step>.damaged`, which Orbax takes for no
        checkpoint: the run will save at those steps again.

        Args:
          target: as in `restore_state`.
          check: called with the `run` of a checkpoint before its state is read; raises if it is another run's.

        Returns:
          The state and `run`, or twice None if there is no checkpoint.

        Raises:
          ConfigError: there are checkpoints, and none can be read; nothing is renamed.
        """
        damaged = {}
        for step in reversed(self.steps()):
            try:
                run = self.restore_run(step)
                check(run)
                state = self.restore_state(step, target)
            except DamagedError as error:
                damaged[step] = error
                continue
            if damaged:
                _on_one_process(lambda: self._set_aside(damaged))
                self._manager.reload()
            return state, run
        if damaged:
            raise ConfigError(
                f"no checkpoint in {self.directory} can be read: {'; '.join(map(str, damaged.values()))}. "
                "All are left where they are; to train anew, choose another --workdir"
            )
        return None, None

    def _set_aside(self, damaged: dict[int, DamagedError]) -> None:
        for step, error in damaged.items():
            aside = _set_aside(self.directory / str(step))
            logger.warning("%s; it is now %s, and the one before is used", error, aside.name)

    def restore_run(self, step: int) -> dict:
        """Returns what `save` was given as `run` at a step; raises a DamagedError if it cannot be read."""
        return {key: value for key, value in self._read_run(step).items() if key not in ("fingerprint", PARAMS_SUM)}

    def restore_state(self, step: int, target: TrainState) -> TrainState:
        """Returns the state of a step; raises a DamagedError if it cannot be read or is not what was saved.

        Args:
          step: one of `steps`.
          target: a tree of ShapeDtypeStructs with shardings, how the state is to lie on the devices.
        """
        state = self._restore(step, state=ocp.args.StandardRestore(target))
        # Orbax itself passes over a changed bit inside an array.
        if int(fingerprint(state)) != self._read_run(step).get("fingerprint"):
            raise DamagedError(f"{self.directory / str(step)} is damaged: its arrays are not those that were saved")
        return state

    def _read_run(self, step: int) -> dict:
        run = self._restore(step, run=ocp.args.JsonRestore())
        try:
            return reading.check_seal(run)
        except ValueError as error:
            raise DamagedError(f"{self.directory / str(step)}: the record of the run {error}") from error

    def _restore(self, step: int, **item):
        try:
            reading.check_files(self.directory / str(step))
            return self._manager.restore(step, args=ocp.args.Composite(**item))[next(iter(item))]
        except Exception as error:  # what Orbax raises of a damaged checkpoint has many types
            raise DamagedError(f"{self.directory / str(step)} cannot be read ({in_short(error)})") from error

    def check(self) -> None:
        """Raises a RunError if what was being saved in the background has failed; does not wait."""
        if self._saving and not self._manager.is_saving_in_progress():
            self._saving = False
            self.wait()

    def wait(self) -> None:
        """Waits until the checkpoint that is being saved is complete; raises a RunError if it cannot be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the manager's threads; raises a RunError if a checkpoint cannot be written."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk is an OSError to JSON files and a ValueError to arrays
            # What Orbax has begun besides is never ended, of which Python warns below the error's own line.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            reason = re.search(r"Failed to write .*? to file \d+: (.*?)(?: \[|$)", str(error))
            raise RunError(
                f"{self.directory}: a checkpoint cannot be written ({reason[1] if reason else in_short(error)}); "
                "the older ones are whole, and the same command resumes from them"
            ) from error


def _on_one_process(action: Callable[[], None]) -> None:
    """Lets process 0 act on the files that all share, while the others wait."""
    if jax.process_index() == 0:
        action()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("checkpoints")


def _set_aside(path: Path) -> Path:
    """Renames what is damaged, and returns its new name."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():  # the same step, damaged a second time
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.rename(aside)


def _set_aside_damaged_metrics(directory: Path) -> None:
    # Orbax reads the metrics of all checkpoints at once, and nothing else, if one cannot be read.
    for path in directory.glob("*/metrics/metrics"):
        try:
            metrics = reading.read_object(path)
            if not all(isinstance(value, (int, float)) for value in metrics.values()):
                raise ValueError("holds other values than numbers")
        except (OSError, ValueError) as error:
            logger.warning(
                "%s cannot be read (%s): that checkpoint is never the best one; the file is now %s",
                path,
                in_short(error),
                _set_aside(path).name,
            )
