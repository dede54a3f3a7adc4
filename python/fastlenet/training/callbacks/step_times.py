"""Measures the parts of the time of training steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import SupportsFloat

from fastlenet.profiling import Line, Profiler, profile_table
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.history import Epoch

__all__ = ["StepProfile", "StepTimes"]


class StepTimes(Callback):
    """Measures an epoch's steps, and with a profiler their ops. Leaves out the first step, which makes the buffers."""

    def __init__(self, profiler: Profiler | None = None) -> None:
        self._profiler = profiler
        self._before = self.seconds = 0.0
        self.lines: dict[str, Line] = {}

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        if run.state.position == 1:
            self._before = run.state.seconds
            if self._profiler is not None:
                self._profiler.reset()
        elif run.state.position == run.state.batches:  # before the evaluation
            self.seconds = run.state.seconds - self._before
            if self._profiler is not None:
                self.lines = self._profiler.lines


class StepProfile(StepTimes):
    """Writes a table of the time of each op after the last epoch. write: takes the text; None prints it."""

    _NOTHING = "no profile: it leaves out an epoch's first step, and the last epoch had no other step in this run"

    def __init__(self, profiler: Profiler, write: Callable[[str], None] | None = None) -> None:
        super().__init__(profiler)
        self._write = write or partial(print, flush=True)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        if run.state.epoch == run.state.recipe.epochs:
            self._write(profile_table(self.lines, self.seconds) if self.lines else self._NOTHING)
