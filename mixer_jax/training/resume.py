"""What a run starts from: the newest checkpoint of its work directory, if it is of the same run, or the beginning."""

import logging
from pathlib import Path

from mixer_jax.config import base
from mixer_jax.config.compare import complete, differences
from mixer_jax.config.paths import local_path
from mixer_jax.errors import ConfigError
from mixer_jax.steps.state import TrainState
from mixer_jax.training import start
from mixer_jax.training.program import Program
from mixer_jax.workdir import layout
from mixer_jax.workdir.checkpoints import Checkpoints, DamagedError

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
# Keys of a run's length, which may change when it is extended.
_LENGTH_KEYS = ("steps", "epochs", "schedule")


def restore_or_begin(
    program: Program, checkpoints: Checkpoints, record: dict, *, extend: bool
) -> tuple[TrainState, dict]:
    """Returns the state to go on from, the newest checkpoint's or a new one, and the record with what it has cost.

    Args:
      program: of the run's config.
      checkpoints: of its work directory.
      record: what is saved beside the state: "config" and JAX's "settings", among others.
      extend: whether the run's length may differ from the checkpoint's.

    Raises:
      ConfigError: the checkpoint is another run's, or none can be read, or `start.initial_state` does.
    """
    config = record["config"]

    def check_same_run(saved: dict) -> None:
        check_run(saved, checkpoints.directory)
        _check_same_run(record, saved, checkpoints.directory, extend=extend)

    state, saved = checkpoints.restore_newest(program.abstract_state, check=check_same_run)
    if state is None or saved is None:
        return start.initial_state(program.init, config), record | {"core_days": 0.0}
    if config["nonfinite"] == "stop" and state.skipped:
        raise ConfigError(
            f"config.nonfinite='stop', but this run has left out {int(state.skipped)} updates; resume it with 'skip'"
        )
    step = int(state.step)
    if step > program.total_steps:
        raise ConfigError(f"this run has done {step} steps, and the config asks for {program.total_steps}; raise them")
    extended = saved.get("extended", [])
    if changed := _changed_keys(config, saved["config"], ignore=_FREE_KEYS):
        before = {key: there for key, (_, there) in changed.items()}
        extended = [*extended, {"step": step, "before": before}]
        logger.info("extending from step %d to %d", step, program.total_steps)
    logger.info("resuming from %s/%d", checkpoints.directory, step)
    return state, record | {"core_days": saved["core_days"]} | ({"extended": extended} if extended else {})


def check_other_run(init_from: str | None, workdir: Path) -> None:
    """Raises a ConfigError if the weights to start from are those of the run itself, which resumes without that key."""
    if not init_from:
        return
    folder, own = local_path("config.init_from", init_from).resolve(), workdir.resolve()
    if folder == own or layout.workdir_of(folder) == own:
        raise ConfigError(
            f"config.init_from={init_from!r} is in this run's own --workdir: leave the key out to resume the run, "
            "or choose another --workdir to start a new one from its weights"
        )


def check_run(saved: dict, checkpoint: Path) -> None:
    """Raises a DamagedError if what was saved of a run, beside its state, lacks what a run goes on from."""
    core_days = saved.get("core_days")
    whole = isinstance(saved.get("config"), dict) and isinstance(saved.get("settings", {}), dict)
    if not whole or not isinstance(core_days, (int, float)) or not isinstance(saved.get("extended", []), list):
        raise DamagedError(f"{checkpoint} holds no record of a run; expected its config, settings and core_days")


def check_settings(settings: dict, saved: dict, directory: Path) -> None:
    """Raises a ConfigError if JAX's settings are other than those of the run that a checkpoint was saved by."""
    for name, here in settings.items():
        there = saved.get("settings", {}).get(name)  # of a run before it was recorded, what is JAX's default
        if here != there:
            raise ConfigError(
                f"JAX's setting {name} is {here!r} here, and was {there!r} in the run of {directory}; set it as it was"
            )


def _check_same_run(record: dict, saved: dict, directory: Path, *, extend: bool) -> None:
    """Raises a ConfigError if a checkpoint is another run's, or was computed under other settings of JAX."""
    check_settings(record["settings"], saved, directory)
    changed = _changed_keys(record["config"], saved["config"], ignore=_FREE_KEYS)
    of_length = {key for key in changed if key.split(".")[0] in _LENGTH_KEYS}
    if not changed or (extend and of_length == changed.keys()):
        return
    listed = "; ".join(f"config.{key}={here!r} here, {there!r} there" for key, (here, there) in changed.items())
    hint = ", or add --extend to train this run to another length" if of_length == changed.keys() else ""
    raise ConfigError(
        f"{directory} holds a checkpoint of another config: {listed}. "
        f"Start with the same values to resume it, or choose another --workdir{hint}"
    )


def _changed_keys(config: dict, saved: dict, *, ignore: tuple[str, ...]) -> dict[str, tuple]:
    """Returns {key: (value here, value there)}; a key that one of them lacks counts as its default."""
    defaults = base.defaults()
    return differences(complete(config, defaults), complete(saved, defaults), ignore=ignore)
