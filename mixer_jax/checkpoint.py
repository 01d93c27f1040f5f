"""Checkpoints of a run: its state, its config and what it has cost, under `<workdir>/checkpoints/<step>/`."""

import math
from pathlib import Path

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from mixer_jax.config import ConfigError
from mixer_jax.state import TrainState


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, except that it leaves it to `interrupt` to ask JAX whether to stop.

    JAX counts such questions to find a step at which all processes stop; others in between would mislead it.
    """

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class Checkpoints:
    """Saves asynchronously and restores the checkpoints of a work directory (Orbax's CheckpointManager)."""

    def __init__(self, directory: Path, *, keep: int, best: str | None):
        """Opens the directory, and creates it if need be.

        Args:
          directory: where they lie, as `<directory>/<step>`.
          keep: how many of the newest checkpoints to keep.
          best: name of the evaluation metric whose best checkpoint is kept as well, or None. A metric whose name ends
            in "loss" is better when it is lower, any other when it is higher.

        Raises:
          ConfigError: `keep` is not positive.
        """
        if keep < 1:
            raise ConfigError(f"config.checkpoint.keep={keep}; expected a positive number")
        self.directory = directory
        self._best = best
        policy, best_fn = LatestN(keep), None
        lower = best is not None and best.endswith("loss")
        if best:

            def best_fn(metrics):  # of a checkpoint that was not evaluated, {}, it is the worst value there is
                return metrics.get(best, math.inf if lower else -math.inf)

            policy = AnyPreservationPolicy([policy, BestN(get_metric_fn=best_fn, reverse=lower, n=1)])
        self._manager = _Manager(
            directory.resolve(),
            item_names=("state", "run"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=best_fn,  # the policy decides; without this, Orbax would not keep the metrics on disk
                best_mode="min" if lower else "max",
                cleanup_tmp_directories=True,
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
        """
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)),
            metrics={self._best: metrics[self._best]} if self._best and metrics else {},
        )

    def restore_run(self, step: int) -> dict:
        """Returns what `save` was given as `run` at a step; raises a ConfigError if it cannot be read."""
        return self._restore(step, run=ocp.args.JsonRestore())

    def restore_state(self, step: int, target: TrainState) -> TrainState:
        """Returns the state of a step; raises a ConfigError if it cannot be read.

        Args:
          step: one of `steps`.
          target: a tree of ShapeDtypeStructs with shardings, how the state is to lie on the devices.
        """
        return self._restore(step, state=ocp.args.StandardRestore(target))

    def _restore(self, step: int, **item):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**item))[next(iter(item))]
        except Exception as error:  # what Orbax raises of a damaged checkpoint has many types
            older = [other for other in self.steps() if other < step]
            raise ConfigError(
                f"{self.directory / str(step)} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); "
                f"remove that folder to resume from {f'step {older[-1]}' if older else 'the start'}"
            ) from error

    def wait(self) -> None:
        """Waits until the checkpoint that is being saved is complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the manager's threads."""
        self._manager.close()
