"""Running one step of a finished or failed run again, to look at it."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mixer_jax.config import base, ranges
from mixer_jax.config.compare import complete
from mixer_jax.config.paths import utf8_path
from mixer_jax.errors import ConfigError, RunError
from mixer_jax.runtime import numerics
from mixer_jax.steps.state import TrainState
from mixer_jax.training import start
from mixer_jax.training.program import Program, build_program
from mixer_jax.training.resume import check_run, check_settings
from mixer_jax.workdir import layout, reading
from mixer_jax.workdir.checkpoints import Checkpoints

logger = logging.getLogger("mixer_jax")


@numerics.pinned()
def replay(workdir: str | Path, step: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Runs a step of a run again, by itself or from the nearest checkpoint before it, with the config of the run.

    What happens at a step follows from config, seed and step, so that on the same devices the metrics are those of the
    run to the bit. The work directory is only read, and may be in use by the run.

    Args:
      workdir: the work directory of the run.
      step: number of the step, 1 for the first.

    Returns:
      The metrics of the step, as `train_step.make_train_step` says, and its `layer_norms`.

    Raises:
      ConfigError: there is no such run or step.
      RunError: the run stopped at an earlier step, because its loss or gradient was not finite.
    """
    workdir = utf8_path("--workdir", workdir)
    config, checkpoints = _open(workdir)
    program = build_program(config)
    if not 1 <= step <= program.total_steps:
        raise ConfigError(f"--step={step}; the steps of {workdir} are 1 to {program.total_steps}")
    state = _state_before(program, checkpoints, step, config)
    batches = program.train_batches(int(state.step))
    while int(state.step) < step - 1:
        state, metrics = program.train_step(state, next(batches))
        if config.nonfinite == "stop" and metrics["skipped_updates"]:
            raise RunError(f"the run stopped at step {int(state.step)}, where the loss or the gradient is not finite")
    batch = next(batches)
    # With its norms a step is another program, whose last bits may differ: the metrics are those of the run's own.
    observed_step = build_program(config, observe=layer_norms).train_step
    _, observed = observed_step(jax.tree.map(jnp.copy, state), batch)
    _, metrics = program.train_step(state, batch)
    return jax.device_get((metrics, observed["layers"]))


def layer_norms(params: dict, gradients: dict, updates: dict) -> dict:
    """Returns the norms of every layer, the innermost module that holds parameters.

    Args:
      params: the model's parameters before the update.
      gradients: a tree like it, before clipping.
      updates: a tree like it, what is added to the parameters.

    Returns:
      {"layers": {name: {"parameters", "gradients", "updates": L2 norm, "finite": whether all elements of all are}}}.
    """
    trees = {"parameters": params, "gradients": gradients, "updates": updates}
    layers: dict[str, dict[str, list[jax.Array]]] = {}
    for kind, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            layer = "/".join(key.key for key in path[:-1])
            layers.setdefault(layer, {name: [] for name in trees})[kind].append(leaf)
    return {
        "layers": {
            layer: {
                **{kind: optax.tree.norm(leaves) for kind, leaves in kinds.items()},
                "finite": jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(kinds)]).all(),
            }
            for layer, kinds in layers.items()
        }
    }


def _open(workdir: Path) -> tuple[ConfigDict, Checkpoints]:
    """Returns the config of a run, from its newest checkpoint or, if it has none, config.json; and its checkpoints."""
    directory, described = layout.checkpoints_folder(workdir), workdir / layout.CONFIG
    if not directory.is_dir() or not described.is_file():
        raise ConfigError(f"--workdir={workdir} holds no run; expected {directory} and {described}")
    checkpoints = Checkpoints(directory, keep=1, best=None, read_only=True)
    steps = checkpoints.steps()
    if steps:
        saved = checkpoints.restore_run(steps[-1])
        check_run(saved, directory / str(steps[-1]))
        check_settings(numerics.settings(), saved, directory)
        config = complete(saved["config"], base.defaults())
    else:
        config = complete(_described(described), base.defaults())
    ranges.check_saved(config, described if not steps else directory / str(steps[-1]))
    return ConfigDict(config), checkpoints


def _described(file: Path) -> dict:
    try:
        return reading.read_object(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def _state_before(program: Program, checkpoints: Checkpoints, step: int, config: ConfigDict) -> TrainState:
    before = [saved for saved in checkpoints.steps() if saved < step]
    if before:
        logger.info("step %d, from the checkpoint of step %d", step, before[-1])
        return checkpoints.restore_state(before[-1], program.abstract_state)
    logger.info("step %d, from the start: there is no checkpoint before it", step)
    return start.initial_state(program.init, config.to_dict())
