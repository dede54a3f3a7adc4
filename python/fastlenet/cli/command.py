"""Shared by all commands: every failure that a user can cause is one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

from fastlenet.signals import StoppedBySignal
from fastlenet.streams import discard_output, flush, one_line, tell

__all__ = ["UsageError", "explain", "fail_in_one_line", "run_command"]

_USAGE, _INTERNAL, _CLOSED_PIPE = 2, 70, 141  # 70: EX_SOFTWARE of sysexits.h
# The errors of a standard stream that cannot be written; errors of other files have the file's name.
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class UsageError(ValueError):
    """A wrong command line. The message is one line."""


def run_command(name: str, command: Callable[[], int], *expected: type[Exception]) -> int:
    """Run a command and return its exit code. An expected error prints one line and returns 2; Ctrl-C returns 130.

    expected: the errors that a user can cause. An output that cannot be written, too little memory, and a module that cannot be
    imported are always expected. A closed pipe, as of `| head -1`, ends the command silently with 141, the code of a program
    that SIGPIPE ended. Any other error is a fault in this package: it prints one line and returns 70. Set FASTLENET_TRACEBACK=1
    to print where an error arose.

    Characters that the encoding of standard output or error lacks are printed as escape sequences from here on.
    """
    try:
        try:
            if signal.getsignal(signal.SIGINT) is _end_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            _print_whatever_comes()
            return command()
        finally:
            flush(sys.stdout)
    except (Exception, KeyboardInterrupt) as error:
        return explain(name, error, (UsageError, *expected))
    finally:
        discard_output()


def fail_in_one_line(name: str) -> None:
    """Treat errors outside run_command, while modules are imported, as it does. For a process that is a command.

    Hides warnings, which are for programmers, unless Python's options ask for them.
    """

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> NoReturn:
        code = explain(name, error, ())
        discard_output()
        sys.exit(code)

    sys.excepthook = end
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the process at Ctrl-C while modules are imported; some of them would take KeyboardInterrupt for a missing module."""
    tell("\ninterrupted")
    os._exit(128 + number)


def explain(name: str, error: BaseException, expected: tuple[type[Exception], ...]) -> int:
    """Print why a command fails. Returns its exit code. expected: the errors that a user can cause."""
    if os.environ.get("FASTLENET_TRACEBACK") == "1":
        import traceback

        tell("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    code = _USAGE
    if isinstance(error, KeyboardInterrupt):
        code = 128 + (error.number if isinstance(error, StoppedBySignal) else signal.SIGINT)
        tell("\ninterrupted")
    elif isinstance(error, BrokenPipeError):
        code = _CLOSED_PIPE
    elif isinstance(error, MemoryError):
        tell(f"{name}: error: not enough memory; a smaller --batch-size or --test-batch-size needs less")
    elif isinstance(error, expected):
        tell(f"{name}: error: {one_line(str(error))}")
    elif isinstance(error, ImportError):
        while error.__cause__ is not None:  # NumPy's own text is a page long
            error = error.__cause__
        tell(f"{name}: error: {one_line(str(error))}")
    elif isinstance(error, OSError):
        tell(f"{name}: error: {one_line(_reason(error))}")
    else:
        code = _INTERNAL
        what = one_line(f"{type(error).__name__}: {error}")
        tell(f"{name}: internal error: {what} (please report it; FASTLENET_TRACEBACK=1 prints where it arose)")
    return code


def _reason(error: OSError) -> str:
    """The system's message with the file's name; standard output has none."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    return f"standard output: {reason}" if error.errno in _OF_OUTPUT else reason


def _print_whatever_comes() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
