"""Standard output and error: closed, full or gone, they never cost a program its result or its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

__all__ = ["discard_output", "flush", "one_line", "tell"]


def one_line(text: str) -> str:
    """The text with what cannot be printed, as a line's end or half a character in a file's name, as an escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell(text: str) -> None:
    """Print on standard error, if there is one that takes it; never on standard output, which print(file=None) would do."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def flush(stream: TextIO | None) -> None:
    if stream is not None:  # as it is where it was closed before Python started
        stream.flush()


def _takes_more(stream: TextIO | None) -> bool:
    try:
        flush(stream)
    except OSError:
        return False
    return True


def discard_output() -> None:
    """Let what an output has not taken vanish, instead of failing once more when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not _takes_more(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
