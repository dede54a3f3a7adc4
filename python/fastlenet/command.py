"""What the command lines share: every failure that a user can meet is one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["CTRL_C", "UsageError", "run_command"]

CTRL_C = 130
_USAGE, _CLOSED_PIPE = 2, 141


class UsageError(ValueError):
    """A command line that makes no sense; one line."""


def run_command(name: str, command: Callable[[], int], *expected: type[Exception]) -> int:
    """The exit code of a command: its own, or 2 after one line about one of the expected errors, 130 after Ctrl-C.

    An output that takes no more counts as expected, and memory that does not suffice. A reader that has gone, as of
    `| head -1`, ends the command without a word and with 141, the code of a program that SIGPIPE ended.
    """
    try:
        try:
            return command()
        finally:
            _flush()
    except BrokenPipeError:
        _discard_output()
        return _CLOSED_PIPE
    except MemoryError:
        return _fail(name, "not enough memory; a smaller --batch-size or --test-batch-size needs less")
    except OSError as error:
        _discard_output()
        return _fail(name, f"{error.filename or 'standard output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return CTRL_C
    except Exception as error:
        if isinstance(error, (UsageError, *expected)):
            return _fail(name, str(error))
        raise


def _fail(name: str, message: str) -> int:
    print(f"{name}: error: {message}", file=sys.stderr)
    return _USAGE


def _flush() -> None:
    print(end="", flush=True)  # unlike sys.stdout.flush() where standard output is closed, and sys.stdout is None


def _discard_output() -> None:
    """Let what standard output has not taken vanish, instead of failing once more when Python ends."""
    try:
        _flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
