"""The folder of a data set while it is being prepared.

It is readable as a data set only when it is whole, because dataset_info.json comes last. Until then a plan says what is
being prepared, so that the same command goes on with it and another one is refused.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from mixer_jax.config.compare import differences
from mixer_jax.errors import ConfigError, in_short, readable
from mixer_jax.workdir import reading
from mixer_jax.workdir.layout import LOCK, write_json
from mixer_jax.workdir.lock import only_process

PLAN, REPORT, INFO = "prepare_plan.json", "prepare_report.json", "dataset_info.json"
WORK = "prepare_work"  # folder of what is only needed until the data set is whole


@contextlib.contextmanager
def workspace(folder: Path, plan: dict) -> Iterator[Path]:
    """Makes the folder of a data set, or opens it again for the same plan; what is refused at once leaves nothing.

    Raises:
      ConfigError: something else is in the folder, or another process is at work there.
    """
    path = folder / PLAN
    if (folder / INFO).exists() and not path.exists():
        raise ConfigError(f"{folder} holds a data set from elsewhere; choose another --name or --data_dir")
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:  # such as a file in the place of a folder
        raise ConfigError(f"--data_dir: {readable(folder)} cannot be made: {error.strerror}") from error
    with only_process(folder / WORK / LOCK, f"{folder}, which another process is preparing,"):
        if path.exists():
            _check_plan(_read(path), plan, folder)
        else:
            write_json(path, plan)
        try:
            yield folder
        except ConfigError:
            if not any(folder.glob("*array_record-*")):
                shutil.rmtree(folder)
                with contextlib.suppress(OSError):  # not empty: another version
                    folder.parent.rmdir()
            raise


def _check_plan(begun, plan, folder):
    changed = differences(plan, begun, ignore=["source"])  # the same files may be reached by another path
    if changed.keys() == {"fingerprint"} and plan["source"] != begun["source"]:
        changed = {"source": (plan["source"], begun["source"])}
    if changed:
        what = "; ".join(
            f"files of --source={plan['source']} have changed"
            if key == "fingerprint"
            else f"{'version of the format' if key == 'format' else '--' + key} is {ours}, was {theirs}"
            for key, (ours, theirs) in changed.items()
        )
        state = "holds a data set" if (folder / INFO).exists() else "holds a data set half prepared"
        raise ConfigError(
            f"{folder} {state} from another input or with other options: {what}. Repeat that command, delete the "
            "folder, or choose another --name or --data_dir"
        )


def check_space(folder: Path, needed: int) -> None:
    """Raises a ConfigError unless so many bytes are free where the folder lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"--data_dir: {needed:,} bytes are needed and {free:,} are free at {folder}; make room, or choose another"
        )


def publish(metadata: Path, folder: Path) -> None:
    """Moves the files that make the folder a data set there, dataset_info.json last."""
    for path in sorted(metadata.iterdir(), key=lambda path: path.name == INFO):  # False before True
        path.replace(folder / path.name)


def finish(folder: Path) -> dict:
    """Removes what was only needed for the work, and returns the report."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return _read(folder / REPORT)


def _read(path: Path) -> dict:
    try:
        return reading.read_object(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{readable(path)} is damaged ({in_short(error)}); delete the folder, and prepare the data set again"
        ) from error
