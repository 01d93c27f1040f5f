"""Reading one checkpoint, of a run that may be going on, or a copy of its folder, on a host of any devices."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mixer_jax.config import base, ranges
from mixer_jax.config.compare import complete
from mixer_jax.config.paths import utf8_path
from mixer_jax.errors import ConfigError, in_short
from mixer_jax.steps.state import fingerprint_of_arrays
from mixer_jax.workdir import layout, reading

PARAMS_SUM = "params_fingerprint"  # in a checkpoint's record of the run: the sum over its parameters alone


def locate(folder: Path) -> Path:
    """Returns the folder of a checkpoint: the newest of a work directory, or `<workdir>/checkpoints/<step>` itself.

    Raises:
      ConfigError: there is no checkpoint, or its path is not in UTF-8.
    """
    folder = utf8_path("checkpoint", folder)
    steps = [int(path.name) for path in layout.checkpoints_folder(folder).glob("*") if path.name.isdecimal()]
    checkpoint = layout.checkpoints_folder(folder) / str(max(steps)) if steps else folder
    if not (checkpoint / "state").is_dir():
        raise ConfigError(f"{folder} holds no checkpoint; expected a work directory or its checkpoints/<step>")
    return checkpoint


def read_params(folder: Path) -> dict:
    """Reads the parameters of a checkpoint without its optimizer's state, on a host of any number of devices.

    Nothing is written: the run that the checkpoint belongs to may be going on.

    Args:
      folder: as in `locate`.

    Returns:
      The parameter tree, NumPy arrays.

    Raises:
      ConfigError: there is no checkpoint, it cannot be read, or the parameters are not those that were saved.
    """
    checkpoint = locate(folder)
    state = (checkpoint / "state").resolve()
    with _reading(checkpoint), contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        target = {"params": handler.metadata(state).tree["params"]}
        on_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        args = ocp.args.PyTreeRestore(target, restore_args=on_host, partial_restore=True)
        params = handler.restore(state, args=args)["params"]
        found = fingerprint_of_arrays(params)
    run = read_run(checkpoint)
    recorded = run.get(PARAMS_SUM) if isinstance(run, dict) else None  # older checkpoints have none
    if recorded not in (None, found):  # Orbax itself passes over a changed bit inside an array
        raise ConfigError(f"{checkpoint} is damaged: its parameters are not those that were saved")
    return params


def read_run(folder: Path) -> dict:
    """Reads what was saved of the run beside its state: its config, and what it had spent.

    Args:
      folder: as in `locate`.

    Raises:
      ConfigError: there is no checkpoint, or it cannot be read.
    """
    checkpoint = locate(folder)
    with _reading(checkpoint), contextlib.closing(ocp.JsonCheckpointHandler()) as handler:
        return reading.check_seal(handler.restore((checkpoint / "run").resolve()))


def read_config(folder: Path) -> dict:
    """Reads the config of a checkpoint's run, with the defaults of keys that are newer than it.

    Args:
      folder: as in `locate`.

    Raises:
      ConfigError: as `read_run`.
    """
    return config_of(read_run(folder), locate(folder))


def config_of(run: object, checkpoint: Path) -> dict:
    """Returns the config in what `read_run` has read of a checkpoint, complete; a ConfigError if there is none."""
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise ConfigError(f"{checkpoint} holds no config of a run; expected a checkpoint of this project")
    config = complete(run["config"], base.defaults())
    ranges.check_saved(config, checkpoint)
    return config


@contextlib.contextmanager
def _reading(checkpoint: Path) -> Iterator[None]:
    """Turns what is raised inside into a ConfigError that names the checkpoint."""
    try:
        reading.check_files(checkpoint)
        yield
    except Exception as error:  # what Orbax raises of a damaged checkpoint has many types
        raise ConfigError(f"{checkpoint} cannot be read ({in_short(error)})") from error
