"""Standard output and error: if they are closed, full or broken, the program still has its result and its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

__all__ = ["discard_output", "flush", "one_line", "tell"]


def one_line(text: str) -> str:
    """Returns the text with unprintable characters, such as ends of lines and invalid bytes, as escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell(text: str) -> None:
    """Print on standard error if it works. Never prints on standard output, as print(file=None) would."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def flush(stream: TextIO | None) -> None:
    """Flush a standard stream; it is None if it was closed before Python started."""
    if stream is not None:
        stream.flush()


def _takes_more(stream: TextIO | None) -> bool:
    try:
        flush(stream)
    except OSError:
        return False
    return True


def discard_output() -> None:
    """Discard the output that could not be written; otherwise Python would fail again on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not _takes_more(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
