"""Interrupting a run politely: the first SIGINT or SIGTERM asks it to save and stop."""

import signal
import types


class InterruptRequest:
    """A context in which SIGINT (Ctrl-C) and SIGTERM set a flag; a second signal acts at once.

    Attributes:
      signal: the signal received, or None.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._previous = {}

    def __enter__(self) -> "InterruptRequest":
        self._previous = {number: signal.signal(number, self._receive) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def received(self) -> bool:
        """Returns whether a signal has been received."""
        return self.signal is not None

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
