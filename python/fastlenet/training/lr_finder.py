"""Finds a learning rate: raises it from far too small to too large, and records the loss."""

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
from fastlenet.training.figures import COLOURS, new_figure, save_figure
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import InterruptedRunError, Trainer

__all__ = ["Sweep", "find_lr"]

_MEMORY = 0.95  # decay of the running mean that smooths the loss over about 20 steps
_RATE = Values(float, "a positive number", 0, sys.float_info.max, above=True)
_DIVERGED = 3.0  # times the smallest loss so far


@dataclass(frozen=True)
class Sweep:
    """The learning rates of a sweep, the smoothed loss after each, and the suggested rate."""

    rates: list[float]
    losses: list[float]

    @property
    def suggestion(self) -> float:
        """Half of the rate with the smallest loss, because at that rate the loss has just stopped falling."""
        return self.rates[self.losses.index(min(self.losses))] / 2

    def table(self, lines: int = 20) -> str:
        """Returns the rates and losses as a table of about `lines` lines."""
        every = max(1, math.ceil(len(self.rates) / lines))
        rows = [f"{rate:10.2e}{loss:10.4f}" for rate, loss in zip(self.rates[::every], self.losses[::every], strict=True)]
        return "\n".join([f"{'rate':>10}{'loss':>10}", *rows])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Plot the loss over the rate, with the suggested rate, to a file. Raises PlotError if it cannot."""
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.suggestion, color=COLOURS["val_loss"], linestyle="--")
        axes.set(xlabel="learning rate", ylabel="training loss, smoothed", xscale="log")
        axes.annotate(  # above the axes, where no curve is
            f"suggested: {self.suggestion:.2g}",
            (self.suggestion, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=COLOURS["val_loss"],
            annotation_clip=False,
        )
        save_figure(figure, path)


class _Record(Callback):
    """Smooths the loss. Stops the run after `steps` steps, or when it has diverged."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._mean = 0.0

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        value = float(loss)
        if not math.isfinite(value):  # some steps do not check this themselves
            run.stop()
            return
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * value
        self.rates.append(run.state.optimizer.lr)
        self.losses.append(self._mean / (1 - _MEMORY ** (len(self.losses) + 1)))  # corrects the mean for its start at 0
        diverged = self.losses[-1] > _DIVERGED * min(self.losses)
        if diverged or len(self.losses) == self._steps:
            run.stop()


def find_lr(
    model: Sequential,
    data: Dataset,
    recipe: Recipe,
    *,
    low: float = 1e-4,
    high: float = 10.0,
    steps: int = 300,
    sample_weight: object = None,
) -> Sweep:
    """Train with a learning rate that grows from low to high by the same factor in each step, until the loss has diverged.

    The model is useless afterwards. All other settings are the recipe's, so the result is valid for this recipe, and for this
    sample_weight, as fit takes it. Returns the sweep; its `suggestion` is the rate to train with. Raises ValueError unless
    0 < low < high and steps > 1, the errors of Trainer, and DivergedError if the first loss is not finite. Source: Smith 2017.
    """
    low, high = _RATE.convert("low", low), _RATE.convert("high", high)
    if low >= high:
        raise ValueError(f"high expects a rate above low, {low}, got {high}")
    steps = integer("steps", steps, 2)
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe expects a Recipe, got {type(recipe).__name__}")
    endless = replace(recipe, epochs=steps, batch_size_end=0, plain_epochs=0)  # the callback stops it

    def rate(step: int) -> float:
        return low * float((high / low) ** (step / (steps - 1)))

    trainer, record = (
        Trainer(model, data, endless, evaluate_every_epoch=False, rate=rate, sample_weight=sample_weight),
        _Record(steps),
    )
    with contextlib.suppress(InterruptedRunError, DivergedError):
        trainer.run(record)
    if not record.losses:
        raise DivergedError("the loss is not finite before the first step; weights or images are too large to learn from")
    return Sweep(record.rates, record.losses)
