"""What the steps of a training run spend their time on."""

from __future__ import annotations

from dataclasses import replace
from typing import SupportsFloat

from fastlenet.profiling import Line, Profiler, profile_table
from fastlenet.training.trainer import Callback, Epoch, Trainer

__all__ = ["StepProfile", "StepTimes"]


class StepTimes(Callback):
    """The seconds of an epoch's steps, and a profiler's lines of their ops; without the first step, which makes the buffers."""

    def __init__(self, profiler: Profiler | None = None) -> None:
        self._profiler = profiler
        self._before = self.seconds = 0.0
        self.lines: dict[str, Line] = {}

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        if trainer.position == 1:
            self._before = trainer.seconds
            if self._profiler is not None:
                self._profiler.reset()
        elif trainer.position == trainer.batches:  # the evaluation, which follows, is left out
            self.seconds = trainer.seconds - self._before
            if self._profiler is not None:
                self.lines = {name: replace(line) for name, line in self._profiler.lines.items()}


class StepProfile(StepTimes):
    """Prints, after the last epoch, what its training steps spent their time on."""

    _NOTHING = "no profile: it leaves out an epoch's first step, and the last epoch had no other in this run"

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if trainer.epoch == trainer.recipe.epochs:
            print(profile_table(self.lines, self.seconds) if self.lines else self._NOTHING, flush=True)
