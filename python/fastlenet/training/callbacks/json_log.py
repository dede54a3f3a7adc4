"""A log of a training run: one line of JSON per epoch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fastlenet.files import CheckpointError, expect_own_links, user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.history import Epoch

__all__ = ["JsonLog", "LogError"]

_BLOCK = 1 << 16  # bytes


class LogError(CheckpointError):
    """The log cannot be written. The message is one line."""


class JsonLog(Writer):
    """Writes one line of JSON after each epoch, unbuffered. A line that could not be written is written with the next one. A
    loss that is infinite is null, since JSON has no word for it.

    path: the file. resumed: append to it, behind its last whole line, instead of replacing it. Raises LogError if
    the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], resumed: bool) -> None:
        self.path = user_path(path)
        self._pending = b""
        with self._writing():
            expect_own_links(self.path)
            # Unbuffered, so that closing the file does not try again to write what a full disk refused.
            self._stream = open(self.path, "ab" if resumed else "wb", buffering=0)  # noqa: SIM115
            if resumed and stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):
                self._stream.truncate(_end_of_lines(self.path))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            raise LogError(str(error)) from None
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def epoch(self, run: Run, epoch: Epoch) -> None:
        numbers = {name: value if value is None or math.isfinite(value) else None for name, value in asdict(epoch).items()}
        self._pending += json.dumps({"seed": run.state.recipe.seed, **numbers}, allow_nan=False).encode() + b"\n"
        with self.attempt(), self._writing():
            while self._pending:  # an almost full disk writes a part, and raises an error for the rest
                self._pending = self._pending[self._stream.write(self._pending) :]

    def close(self) -> None:
        with contextlib.suppress(OSError):  # all that can be written is
            self._stream.close()


def _end_of_lines(path: Path) -> int:
    """Where the last whole line of a file ends. A run that was killed in the middle of a line left the rest."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
