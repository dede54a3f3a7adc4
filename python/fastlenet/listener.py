"""What wants to know how a run goes on: the interface, and what writes files meanwhile."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from fastlenet.fields import Values
from fastlenet.files import CheckpointError, user_path

if TYPE_CHECKING:
    from fastlenet.run_state import Epoch
    from fastlenet.trainer import Trainer

__all__ = ["SECONDS", "Listener", "Saver", "Writer"]

SECONDS = Values(float, "a non-negative number", 0)  # from one checkpoint to the next


class Listener:
    """What wants to know how a run goes on; every method may be overridden."""

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        """After a step on `images` images with the mean loss float(loss); on a GPU, float() is what waits for the step, and the
        loss is that of the next step after it.
        """

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, trainer: Trainer) -> None:
        """After the last step and its epoch; the model's weights are not yet their average."""

    def close(self) -> None:
        """When the run is over, however it ended; for whoever made the listener to call."""


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


class Writer(Listener):
    """A listener that writes the file at `path`. A failure is told once, and the next time it is tried again.

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
