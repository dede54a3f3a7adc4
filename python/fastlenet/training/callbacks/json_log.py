"""A log of a training run: one line of JSON per epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from fastlenet.files import CheckpointError, user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.history import Epoch

__all__ = ["JsonLog", "LogError"]


class LogError(CheckpointError):
    """The log cannot be written. The message is one line."""


class JsonLog(Writer):
    """Writes one line of JSON after each epoch, unbuffered. A line that could not be written is written with the next one. A
    loss that is infinite is null, since JSON has no word for it.

    path: the file. resumed: append to it instead of replacing it. Raises LogError if the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], resumed: bool) -> None:
        self.path = user_path(path)
        self._pending = b""
        with self._writing():
            # Unbuffered, so that closing the file does not try again to write what a full disk refused.
            self._stream = open(self.path, "ab" if resumed else "wb", buffering=0)  # noqa: SIM115

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def epoch(self, run: Run, epoch: Epoch) -> None:
        numbers = {name: value if value is None or math.isfinite(value) else None for name, value in asdict(epoch).items()}
        self._pending += json.dumps({"seed": run.state.recipe.seed, **numbers}, allow_nan=False).encode() + b"\n"
        with self.attempt(), self._writing():
            while self._pending:  # an almost full disk writes a part, and raises an error for the rest
                self._pending = self._pending[self._stream.write(self._pending) :]

    def close(self) -> None:
        self._stream.close()
