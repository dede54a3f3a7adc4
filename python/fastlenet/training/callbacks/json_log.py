"""The log of a training run: a line of JSON for each epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from fastlenet.files import CheckpointError, user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.history import Epoch

__all__ = ["JsonLog", "LogError"]


class LogError(CheckpointError):
    """A log that cannot be written; one line."""


class JsonLog(Writer):
    """One line of JSON per epoch, on disk as soon as the epoch is over. Raises LogError, where the file cannot be opened.

    What a full disk does not take is written with the next line.
    """

    def __init__(self, path: str | os.PathLike[str], resumed: bool) -> None:
        self.path = user_path(path)
        self._pending = b""
        with self._writing():
            # Unbuffered, so that what a full disk did not take is not tried again when the file is closed.
            self._stream = open(self.path, "ab" if resumed else "wb", buffering=0)  # noqa: SIM115

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self._pending += json.dumps({"seed": run.state.recipe.seed, **asdict(epoch)}).encode() + b"\n"
        with self.attempt(), self._writing():
            while self._pending:  # a disk that is almost full takes a part, and says so when it is given the rest
                self._pending = self._pending[self._stream.write(self._pending) :]

    def close(self) -> None:
        self._stream.close()
