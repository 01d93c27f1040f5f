"""The folder of a data set while it is being prepared.

It is readable as a data set only when it is whole, because dataset_info.json comes last. Until then a plan says what is
being prepared, so that the same command goes on with it and another one is refused.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mixer_jax.config.compare import differences
from mixer_jax.errors import ConfigError, readable
from mixer_jax.workdir import reading
from mixer_jax.workdir.layout import LOCK, write_json
from mixer_jax.workdir.lock import only_process

PLAN, REPORT, INFO = "prepare_plan.json", "prepare_report.json", "dataset_info.json"
WORK = "prepare_work"  # folder of what is only needed until the data set is whole
_TITLES = {"format": "version of the format"}  # of what is no flag
_DEFAULTS = {"class_order": "name", "labels": None}  # of options that a plan of an older version does not record


@contextlib.contextmanager
def workspace(folder: Path, plan: dict) -> Iterator[Path]:
    """Makes the folder of a data set, or opens it again for the same plan; what is refused at once leaves nothing.

    Raises:
      ConfigError: something else is in the folder or its place, or another process is at work there.
    """
    path = folder / PLAN
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"--data_dir: {readable(folder)} is no path in UTF-8, and the writer of ArrayRecord files takes no other"
        ) from None
    if os.path.lexists(folder / INFO) and not os.path.lexists(path):
        raise ConfigError(f"{readable(folder)} holds a data set from elsewhere; choose another --name or --data_dir")
    with contextlib.ExitStack() as held:
        try:
            (folder / WORK).mkdir(parents=True, exist_ok=True)
            lock = only_process(folder / WORK / LOCK, f"{readable(folder)}, which another process is preparing,")
            held.enter_context(lock)
        except OSError as error:
            raise ConfigError(
                f"--data_dir: {readable(folder)} cannot be written in: {error.strerror}; choose another folder"
            ) from error
        begun = os.path.lexists(path)
        if begun:
            _check_plan(read(path, folder), plan, folder)
        try:
            if not begun:
                write_json(path, plan)
            yield folder
        except (ConfigError, OSError) as error:
            if not any(folder.glob("*array_record-*")):
                _clear(folder)
            if isinstance(error, OSError):  # such as no room
                reason = f"writing to {readable(folder)} has stopped: {error}; the same command goes on from there"
                raise ConfigError(f"--data_dir: {reason}") from error
            raise


def _clear(folder: Path) -> None:
    """Removes from a folder what was begun there, and the folder unless somebody else has put something there."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or there is another version beside it
        folder.rmdir()
        folder.parent.rmdir()


def read(path: Path, folder: Path) -> dict:
    """Returns the JSON object in a file of the folder of a data set.

    Raises:
      ConfigError: it cannot be read, or is damaged.
    """
    try:
        return reading.read_object(path)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{readable(path)} {reason}; delete {readable(folder)}, and prepare the data set again")


def _check_plan(begun, plan, folder):
    begun = {key: default for key, default in _DEFAULTS.items() if key in plan} | begun
    changed = differences(plan, begun, ignore=["source"])  # the same files may be reached by another path
    if changed.keys() == {"fingerprint"} and plan["source"] != begun.get("source"):
        changed = {"source": (plan["source"], begun.get("source"))}
    if changed:
        what = "; ".join(
            f"files of --source={readable(plan['source'])} have changed"
            if key == "fingerprint"
            else f"{_TITLES.get(key, '--' + key)} is {readable(ours)}, was {readable(theirs)}"
            for key, (ours, theirs) in changed.items()
        )
        state = "holds a data set" if (folder / INFO).exists() else "holds a data set half prepared"
        raise ConfigError(
            f"{readable(folder)} {state} from another input or with other options: {what}. Repeat that command, "
            "delete the folder, or choose another --name or --data_dir"
        )


def check_space(folder: Path, needed: int) -> None:
    """Raises a ConfigError unless so many bytes are free where the folder lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"--data_dir: {needed:,} bytes are needed and {free:,} are free at {readable(folder)}; make room, or "
            "choose another"
        )


def publish(metadata: Path, folder: Path) -> None:
    """Moves the files that make the folder a data set there, dataset_info.json last."""
    for path in sorted(metadata.iterdir(), key=lambda path: path.name == INFO):  # False before True
        path.replace(folder / path.name)


def finish(folder: Path) -> dict:
    """Removes what was only needed for the work, and returns the report; raises a ConfigError if that is damaged."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    report = read(folder / REPORT, folder)
    if not all(isinstance(report.get(key), dict) for key in ("splits", "classes", "unreadable", "skipped")):
        raise ConfigError(
            f"{readable(folder / REPORT)} is no report of `prepare`; delete {readable(folder)}, and prepare the data "
            "set again"
        )
    return report
