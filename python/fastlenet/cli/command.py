"""What the command lines share: every failure that a user can meet is one line on standard error, and an exit code."""

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

__all__ = ["UsageError", "fail_in_one_line", "run_command"]

_USAGE, _INTERNAL, _CLOSED_PIPE = 2, 3, 141
# What the system says where a stream takes no more; errors of files name them.
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class UsageError(ValueError):
    """A command line that makes no sense; one line."""


def run_command(name: str, command: Callable[[], int], *expected: type[Exception]) -> int:
    """The exit code of a command: its own, or 2 after one line about one of the expected errors, 130 after Ctrl-C.

    An output that takes no more counts as expected, memory that does not suffice, and a module that cannot be imported. A
    reader that has gone, as of `| head -1`, ends the command without a word and with 141, the code of a program that SIGPIPE
    ended. Any other error is a mistake in this package: one line, and 3. FASTLENET_TRACEBACK=1 prints where an error arose.

    Standard output and error show what their encoding lacks as an escape sequence, from here on.
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
        return _explain(name, error, (UsageError, *expected))
    finally:
        discard_output()


def fail_in_one_line(name: str) -> None:
    """For a process that is a command: what no run_command catches, while modules are being imported, ends as it would there.

    Warnings, which are for programmers, are not shown unless Python was asked for them.
    """

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> NoReturn:
        code = _explain(name, error, ())
        discard_output()
        sys.exit(code)

    sys.excepthook = end
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """At Ctrl-C while modules are imported: some of them take a KeyboardInterrupt for a module that is missing."""
    tell("\ninterrupted")
    os._exit(128 + number)


def _explain(name: str, error: BaseException, expected: tuple[type[Exception], ...]) -> int:
    """Tell why the command fails; its exit code."""
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
    """What the system says, and of which file; of none where it is standard output that takes no more."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    return f"standard output: {reason}" if error.errno in _OF_OUTPUT else reason


def _print_whatever_comes() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
