"""What writes files while a run goes on: checkpoints, and the rules for every other file."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsFloat

from fastlenet.fields import Values
from fastlenet.files import CheckpointError, user_path
from fastlenet.training.trainer import Callback, Epoch, Trainer

__all__ = ["SECONDS", "Saver", "Writer"]

SECONDS = Values(float, "a non-negative number", 0)  # from one checkpoint to the next


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


class Writer(Callback):
    """A callback that writes the file at `path`. A failure is told once, and the next time it is tried again.

    error: of the last time, or None; tell: takes the line about a failure, and the one that it is over; a warning by default.
    """

    path: Path
    error: CheckpointError | None = None
    tell: Callable[[str], None] = staticmethod(_warn)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """For the block that writes, and raises CheckpointError where it cannot."""
        try:
            yield
        except CheckpointError as error:
            if self.error is None:
                self.tell(f"{error}; the training goes on, and the next time it is tried again")
            self.error = error
        else:
            if self.error is not None:
                self.tell(f"{self.path}: could be written this time")
            self.error = None


class Saver(Writer):
    """Writes a checkpoint after every epoch, and between them every so many seconds."""

    def __init__(self, path: str | os.PathLike[str], seconds: float = 10.0) -> None:
        self.path, self.seconds = user_path(path), SECONDS.convert("seconds", seconds)
        self._due = time.monotonic() + seconds

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        if time.monotonic() >= self._due and trainer.position < trainer.batches:
            self.save(trainer)

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.save(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Once more if the last time failed, and after no epochs at all."""
        if self.error is not None or not self.path.exists():
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        with self.attempt():
            trainer.save(self.path)
        self._due = time.monotonic() + self.seconds
