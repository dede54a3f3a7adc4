"""Signals that end a program: the first one stops it at a safe point, a later one at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn

__all__ = ["STOP_SIGNALS", "StopSignals", "StoppedBySignal", "exit_with"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, the end of a job, a closed terminal

_GRACE = 0.5  # seconds in which a second signal counts as the first one


class StoppedBySignal(KeyboardInterrupt):
    """Raised by a signal at any point of the program; number: the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """A context in which the first of these signals sets `number` and calls `stop`, and a later one raises StoppedBySignal.

    If `stop` is None, the first signal raises StoppedBySignal too. A signal within half a second of the first one is ignored,
    because a process group and a wrapper may both pass the same signal on.

    Only signals with Python's or the system's default handler are handled. A signal that is ignored, as under nohup or in the
    background of a script, stays ignored, and a handler of the program stays in place. Outside the main thread, where Python
    allows no handlers, this does nothing.
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

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """A context for what must not be left half done: the first signal, if it comes in it, takes effect at its end."""
        stop, self.stop = self.stop, _nothing
        number = self.number
        try:
            yield
        finally:
            self.stop = stop
        if self.number is not None and number is None:
            if stop is None:
                raise StoppedBySignal(self.number)
            stop()

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


def _nothing() -> None:
    pass


def exit_with(code: int) -> NoReturn:
    """End the process with that code. STOP_SIGNALS that arrive meanwhile do not change it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
