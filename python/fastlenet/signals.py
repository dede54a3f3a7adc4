"""Signals that end a program: the first one stops it in good order, a later one at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

__all__ = ["STOP_SIGNALS", "StopSignals", "StoppedBySignal", "exit_with"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, what ends a job, a terminal that is closed

_GRACE = 0.5  # seconds in which a second signal is the first one once more


class StoppedBySignal(KeyboardInterrupt):
    """Raised wherever the program stands; number: the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """While it is entered, the first of these signals calls `stop`, and `number` is set; one that comes later stops at once.

    Where `stop` is None, the first one stops at once too: it raises StoppedBySignal. One that follows within half a second is
    the same one, as where a process group and a wrapper both pass it on. Taken over are only signals that Python or the system
    would handle: one that is ignored, as by nohup and in the background of a script, stays ignored, and a handler of the
    program's own stays. Outside the main thread, where Python allows no handlers, nothing is taken over.
    """

    def __init__(self, *numbers: int, stop: Callable[[], None] | None = None) -> None:
        self._numbers, self.stop = numbers, stop
        self.number: int | None = None
        self._came = 0.0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._came = number, now
            if self.stop is not None:
                self.stop()
                return
        elif now - self._came < _GRACE:
            return
        raise StoppedBySignal(number)


def exit_with(code: int) -> NoReturn:
    """End the process with that code, whichever of STOP_SIGNALS come while it ends."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
