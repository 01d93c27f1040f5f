"""A case of the fuzz test, in a process of its own that is forked from one where the libraries are imported already."""

import contextlib
import dataclasses
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mixer_jax.data.decode import ImageError
from mixer_jax.errors import ConfigError, RunError

SECONDS = 60  # that a case may take
MEMORY = 4 * 2**30  # bytes that it may hold at once
_LONGEST_LINE = 2200
_ROOT = Path(__file__).parents[2]
_OF_LOGGING = re.compile(r"^(\d\d:\d\d:\d\d|\W*$)")


@dataclasses.dataclass(frozen=True)
class Case:
    """Something to try.

    Attributes:
      kind: which of the kinds of the fuzz test it belongs to.
      name: what it tries, to tell it from the others.
      run: does it in the folder that it is given, which is the current one, too, and its own; returns what came of it,
        text, or raises as the program does.
      unchanged: what `run` has to return if it is accepted and nothing is said; None where anything is right.
      damaged: name of the file that a message about it is to name.
      count: how many cases it stands for.
    """

    kind: str
    name: str
    run: Callable[[Path], str]
    unchanged: str | None = None
    damaged: str | None = None
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
      case: the case.
      what: "refused", "accepted", or one of the failures "traceback", "hang", "memory", "changed" and "unclear".
      said: the message, or the last that was printed.
      result: what `Case.run` returned, if it was accepted.
      seconds: how long it took.
      memory: the most bytes that it held.
    """

    case: Case
    what: str
    said: str
    result: str
    seconds: float
    memory: int

    @property
    def failed(self) -> bool:
        """Whether the fuzz test fails by it."""
        return self.what not in ("refused", "accepted")


def command(*argv: str) -> str:
    """Runs a command line as `mixer_jax` does; returns what it printed, its messages behind it."""
    from mixer_jax.__main__ import main

    sys.argv = ["mixer_jax", *argv]  # where ml_collections looks for the keys that are changed
    try:
        main(sys.argv)
    except SystemExit as end:
        if end.code:
            raise
    sys.stdout.flush()
    return Path("stdout").read_text(errors="replace")


def in_its_own_process(*argv: str) -> str:
    """Runs a command line as `command` does, from a new interpreter."""
    ran = subprocess.run([sys.executable, "-m", "mixer_jax", *argv], env=os.environ | {"PYTHONPATH": str(_ROOT)})
    if ran.returncode:
        sys.exit(ran.returncode)
    return Path("stdout").read_text(errors="replace")


def run_all(cases: Iterable[Case], folder: Path, *, processes: int, seconds: float) -> Iterator[Outcome]:
    """Runs cases side by side until there are no more, or the time is over, and yields what came of each."""
    running: dict[int, tuple[Case, Path, float, int]] = {}
    deadline, cases, number = time.monotonic() + seconds, iter(cases), 0
    while True:
        while len(running) < processes and time.monotonic() < deadline and (case := next(cases, None)):
            number += 1
            own = folder / f"{case.kind}-{number}"
            own.mkdir()
            pid, pipe = _fork(case, own)
            running[pipe] = (case, own, time.monotonic(), pid)
        if not running:
            return
        ready, _, _ = select.select(list(running), [], [], 0.2)
        for pipe in list(running):
            case, own, start, pid = running[pipe]
            hung = time.monotonic() - start > SECONDS
            if pipe not in ready and not hung:
                continue
            del running[pipe]
            if hung:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            yield _outcome(case, own, start, pid, pipe, hung=hung)
            shutil.rmtree(own, ignore_errors=True)


def _fork(case: Case, own: Path) -> tuple[int, int]:
    ours, theirs = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    status = 1
    try:
        os.setsid()
        os.chdir(own)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        resource.setrlimit(resource.RLIMIT_AS, (8 * MEMORY, 8 * MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with os.fdopen(theirs, "w") as report:
            json.dump(_tried(case, own), report)
        status = 0
    finally:
        os._exit(status)


def _tried(case: Case, own: Path) -> dict:
    """Runs the case in this process."""
    try:
        result = case.run(own)
    except (ConfigError, RunError, ImageError) as error:
        return {"what": "refused", "said": str(error)}
    except SystemExit as end:
        sys.stdout.flush()
        if isinstance(end.code, str):
            return {"what": "refused", "said": end.code}
        printed = [Path(name).read_text(errors="replace") for name in ("stdout", "stderr")]
        lines = [line for line in "\n".join(printed).splitlines() if line.strip()]
        refused = [line for line in lines if not line.startswith("Pass --help")]  # absl's second line
        return {
            "what": "refused" if refused else "unclear",
            "said": refused[-1] if refused else f"exit code {end.code}",
        }
    except BaseException as error:  # also a KeyboardInterrupt that nobody sent
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {"what": "traceback", "said": f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"}
    return {"what": "accepted", "said": "", "result": result}


def _outcome(case: Case, own: Path, start: float, pid: int, pipe: int, *, hung: bool) -> Outcome:
    with os.fdopen(pipe) as report:
        text = "" if hung else report.read()
    _, status, usage = os.wait4(pid, 0)
    seconds, memory = time.monotonic() - start, usage.ru_maxrss * 1024
    errors = (own / "stderr").read_text(errors="replace") if (own / "stderr").exists() else ""
    if hung:
        return Outcome(case, "hang", f"killed after {seconds:.0f} s", "", seconds, memory)
    if not text:
        return Outcome(case, "traceback", f"died ({status}): {errors[-300:]}", "", seconds, memory)
    tried = json.loads(text)
    what, said = tried["what"], tried["said"]
    if memory > MEMORY:
        what, said = "memory", f"{memory / 2**30:.1f} GiB ({said})"
    elif "Traceback (most recent call last)" in errors and what != "traceback":
        what, said = "traceback", errors[-300:]
    elif what == "refused" and ("\n" in said.strip() or len(said) > _LONGEST_LINE):
        what = "unclear"
    elif what == "accepted" and _changed_silently(case, tried["result"], errors):
        what, said = "changed", f"{tried['result'][-200:]!r} in the place of {str(case.unchanged)[-200:]!r}"
    return Outcome(case, what, said, tried.get("result", ""), seconds, memory)


def _changed_silently(case: Case, result: str, errors: str) -> bool:
    """Returns whether the result is another than of what is whole, and no message names what is damaged."""
    said = case.damaged is not None and case.damaged in errors
    return case.unchanged is not None and result != case.unchanged and not said
