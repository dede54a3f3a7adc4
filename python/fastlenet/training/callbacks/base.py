"""What a callback is, and what it sees of the run that calls it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, SupportsFloat

from fastlenet.files import CheckpointError
from fastlenet.training.history import Epoch
from fastlenet.training.state import RunState

__all__ = ["Callback", "Run", "Writer"]


class Run(Protocol):
    """A run in progress, as a callback sees it: its state, and what it can be asked for. A Trainer is one."""

    @property
    def state(self) -> RunState:
        """Model, data, recipe, optimizer, history, and the place in the run."""

    def stop(self) -> None:
        """Ask for an InterruptedRunError after the step at hand."""

    def mean_loss(self) -> float:
        """Of the epoch so far; on a GPU it waits for the steps."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint. Raises CheckpointError and DivergedError; the old file then stays."""


class Callback:
    """What wants to know how a run goes on; every method may be overridden."""

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        """After a step on `images` images with the mean loss float(loss); on a GPU, float() is what waits for the step, and the
        loss is that of the next step after it.
        """

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, run: Run) -> None:
        """After the last step and its epoch; the model's weights are not yet their average."""

    def close(self) -> None:
        """When the run is over, however it ended; for whoever made the callback to call."""


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
