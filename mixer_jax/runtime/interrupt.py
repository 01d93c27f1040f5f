"""Interrupting a run politely: SIGINT or SIGTERM asks it to save and stop, all its processes together."""

import os
import signal
import types

import jax
from jax.experimental import multihost_utils


class InterruptRequest:
    """A context in which SIGINT (Ctrl-C) and SIGTERM ask to stop; a SIGINT after that acts at once.

    A SIGTERM after that changes nothing: schedulers send several, and what is being saved shall be saved.

    In a process of its own, a signal sets a flag. Where `hosts.start` has connected several, that would stop one and
    leave the others waiting for it. There, JAX takes SIGTERM, whichever process receives it, and all stop at the next
    step that none of them is past; SIGINT is passed on as SIGTERM.

    Attributes:
      signal: the first signal that asked, or None; SIGTERM where another process received it.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._connected = jax.distributed.is_initialized()
        self._asked, self._agreed = 0, False
        self._previous = {}

    def __enter__(self) -> "InterruptRequest":
        numbers = (signal.SIGINT,) if self._connected else (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

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
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
        if self._connected:
            os.kill(os.getpid(), signal.SIGTERM)
