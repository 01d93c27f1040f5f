"""Interrupting a run politely: a signal asks it to save and stop, all its processes together."""

import os
import signal
import threading
import types
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

# Ctrl-C, what schedulers send, a terminal that is closed (a lost ssh connection), and Slurm's warning before its limit.
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SAID = b"\ninterrupted: saving, then the run ends; Ctrl-C once more ends it at once\n"
_Handler = Callable[[int, types.FrameType | None], object] | int | None  # what signal.signal takes and returns


class InterruptRequest:
    """A context in which SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1 ask to stop.

    A SIGINT after the first signal does what it did outside: of the commands it ends the process at once, and from
    outside Python, so that nothing can stand in its way. Other signals change nothing then: schedulers send several,
    and what is being saved shall be saved. SIGHUP stays ignored where it is, as under nohup.

    In a process of its own, a signal sets a flag. Where `hosts.start` has connected several, that would stop one and
    leave the others waiting for it. There, JAX takes SIGTERM, whichever process receives it, and all stop at the next
    step that none of them is past; the other signals are passed on as SIGTERM.

    Python hands signals to the main thread alone: in another one, nothing asks.

    Attributes:
      signal: the first signal that asked, or None; SIGTERM where another process received it.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._connected = jax.distributed.is_initialized()
        self._asked, self._agreed = 0, False
        self._previous: dict[int, _Handler] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "InterruptRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._terminals = [file for file in (1, 2) if os.isatty(file)]
        for number in _ASKING:
            ignored = signal.getsignal(number) is signal.SIG_IGN and number == signal.SIGHUP
            if not ignored and not (self._connected and number == signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            _set_handler(number, handler)

    def received(self) -> bool:
        """Returns whether to stop now; of several processes, each has to ask equally often."""
        if not self._connected:
            return self.signal is not None
        if self._agreed:
            return True
        # JAX stops at one number only, the highest that any process has asked with, plus one. So the questions are
        # counted: after a signal before the first one that is 1, which the steps of a resumed run would never meet.
        self._asked += 1
        self._agreed = multihost_utils.reached_preemption_sync_point(self._asked)
        if self._agreed and self.signal is None:
            self.signal = signal.SIGTERM
        return self._agreed

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.signal = self.signal or signal.Signals(number)
        _set_handler(signal.SIGINT, self._previous[signal.SIGINT])
        for file in self._terminals:
            if not os.isatty(file):  # closed: what is written there would be an error, and cost the checkpoint
                os.dup2(os.open(os.devnull, os.O_WRONLY), file)
        if number == signal.SIGINT and self._terminals:
            os.write(self._terminals[-1], _SAID)
        if self._connected:
            os.kill(os.getpid(), signal.SIGTERM)


def _set_handler(number: int, handler: _Handler) -> None:
    if handler is not None:  # None: set by other than Python code, which cannot be set again
        signal.signal(number, handler)
