"""Which learning rate: a sweep from far too small to too large, and what the loss says on the way."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from dataclasses import dataclass, replace
from typing import SupportsFloat

from fastlenet.data.dataset import Dataset
from fastlenet.fields import Values, integer
from fastlenet.nn import Sequential
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.figures import new_figure, save_figure
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import InterruptedRunError, Trainer

__all__ = ["Sweep", "find_lr"]

_MEMORY = 0.95  # of the running mean that smooths the loss: of about 20 steps
_RATE = Values(float, "a positive number", 0, sys.float_info.max, above=True)
_DIVERGED = 3.0  # times the smallest loss so far


@dataclass(frozen=True)
class Sweep:
    """The rates of a sweep, the smoothed loss after each, and the rate to train with."""

    rates: list[float]
    losses: list[float]

    @property
    def suggestion(self) -> float:
        """Half of the rate of the smallest loss: where the loss no longer falls, the rate is already too large."""
        return self.rates[self.losses.index(min(self.losses))] / 2

    def table(self, lines: int = 20) -> str:
        """Rates and losses, at most so many of them."""
        every = max(1, math.ceil(len(self.rates) / lines))
        rows = [f"{rate:10.2e}{loss:10.4f}" for rate, loss in zip(self.rates[::every], self.losses[::every], strict=True)]
        return "\n".join([f"{'rate':>10}{'loss':>10}", *rows])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the loss over the rate, and the rate suggested. Raises PlotError."""
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.suggestion, color="C1", label=f"suggested: {self.suggestion:.2g}")
        axes.set(xlabel="learning rate", ylabel="training loss, smoothed", xscale="log")
        axes.legend()
        save_figure(figure, path)


class _Record(Callback):
    """Smooths the loss, and stops the run after so many steps, or where it has diverged."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = 0.0

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        value = float(loss)
        if not math.isfinite(value):  # where the step does not say so itself
            run.stop()
            return
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * value
        self.rates.append(run.state.optimizer.lr)
        self.losses.append(self._mean / (1 - _MEMORY ** (len(self.losses) + 1)))  # as if the mean had not begun at 0
        diverged = self.losses[-1] > _DIVERGED * min(self.losses)
        if diverged or len(self.losses) == self._steps:
            run.stop()


def find_lr(
    model: Sequential, data: Dataset, recipe: Recipe, *, low: float = 1e-4, high: float = 10.0, steps: int = 300
) -> Sweep:
    """Trains on with a rate that grows from low to high, by the same factor in each step, until the loss has diverged.

    The model is then good for nothing. Everything else is as in the recipe, so that the rate found is for it. Raises ValueError
    unless 0 < low < high and steps > 1, and as Trainer does; DivergedError where the first loss is not
    finite. Source: Smith 2017.
    """
    low, high = _RATE.convert("low", low), _RATE.convert("high", high)
    if low >= high:
        raise ValueError(f"high expects a rate above low, {low}, got {high}")
    steps = integer("steps", steps, 2)
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe expects a Recipe, got {type(recipe).__name__}")
    endless = replace(recipe, epochs=steps, batch_size_end=0, plain_epochs=0)  # the record stops it

    def rate(step: int) -> float:
        return low * float((high / low) ** (step / (steps - 1)))

    trainer, record = Trainer(model, data, endless, evaluate_every_epoch=False, rate=rate), _Record(steps)
    with contextlib.suppress(InterruptedRunError, DivergedError):
        trainer.run(record)
    if not record.losses:
        raise DivergedError("the loss is not finite before the first step; weights or images are too large to learn from")
    return Sweep(record.rates, record.losses)
