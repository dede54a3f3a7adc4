"""Writes checkpoints during a run."""

from __future__ import annotations

import os
import time
from typing import SupportsFloat

from fastlenet.fields import Values
from fastlenet.files import user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.history import Epoch

__all__ = ["SECONDS", "Saver"]

SECONDS = Values(float, "a non-negative number", 0)  # from one checkpoint to the next


class Saver(Writer):
    """Writes a checkpoint after every epoch, and every `seconds` seconds within an epoch."""

    def __init__(self, path: str | os.PathLike[str], seconds: float = 10.0) -> None:
        self.path, self.seconds = user_path(path), SECONDS.convert("seconds", seconds)
        self._due = time.monotonic() + seconds

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        if time.monotonic() >= self._due and run.state.position < run.state.batches and run.may_save():
            self.save(run)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self.save(run)

    def finish(self, run: Run) -> None:
        """Save again if the last attempt failed, or if nothing has been saved because there were no epochs."""
        if self.error is not None or not self.path.exists():
            self.save(run)

    def save(self, run: Run) -> None:
        with self.attempt():
            run.save(self.path)
        self._due = time.monotonic() + self.seconds
