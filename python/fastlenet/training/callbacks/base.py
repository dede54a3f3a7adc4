"""The base classes of callbacks, and the part of a run that a callback sees."""

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
    """A run in progress, as a callback sees it. A Trainer is one."""

    @property
    def state(self) -> RunState:
        """The model, data, recipe, optimizer, history, and the position in the run."""

    def stop(self, reason: str = ...) -> None:
        """Stop the run after the current step, by an InterruptedRunError. history.stopped then gives the reason."""

    def mean_loss(self) -> float:
        """Returns the mean loss of the epoch so far. On a GPU this waits for the steps."""

    def may_save(self) -> bool:
        """Whether a checkpoint may be written now; if not, ask again after the next step."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint. If it raises CheckpointError or DivergedError, the old file stays."""


class Callback:
    """An object that a run calls after each step and each epoch. Override any of its methods.

    >>> from fastlenet import Callback
    >>> class StopAt(Callback):
    ...     def epoch(self, run, epoch):
    ...         if epoch.val_accuracy > 0.99:
    ...             run.stop("it is good enough")
    """

    def begin(self, run: Run) -> None:
        """Called before the first step, also of a run that was resumed."""

    def taught(self, run: Run, images: int) -> None:
        """Called before the first step of an epoch, while a teacher predicts its images: after each part of so many images."""

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        """Called after each step. images: the number of its images. loss: float(loss) is its mean loss.

        On a GPU, float(loss) waits for the step. Call it at once: after the next step it returns the next step's loss.
        """

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """Called after each epoch."""

    def finish(self, run: Run) -> None:
        """Called after the last epoch, before the model's weights are replaced by their average."""

    def end(self, run: Run) -> None:
        """Called when `fit` ends without an error, also if the run was stopped. The model has its final weights, and the
        checkpoint is written.
        """

    def close(self) -> None:
        """Release files and other resources. The code that made the callback calls it after the run, however it ended."""


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


class Writer(Callback):
    """A callback that writes the file at `path`. It reports a failure once and tries again the next time.

    error: the failure of the last attempt, or None. tell: a function that takes the line about a failure, and about its end; by
    default it warns.
    """

    path: Path
    error: CheckpointError | None = None
    tell: Callable[[str], None] = staticmethod(_warn)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A context for the block that writes, which raises CheckpointError if it cannot."""
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
