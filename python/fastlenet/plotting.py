"""Curves of a training run, in any file format that matplotlib writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastlenet.lr_finder import Sweep
from fastlenet.trainer import Epoch, Listener, Trainer

__all__ = ["Plot", "PlotError", "expect_plottable", "plot_sweep"]


class PlotError(ValueError):
    """A plot that cannot be drawn; one line that says what to do."""


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(f"--plot needs matplotlib ({error}); pip install 'fastlenet[plot]'") from None
    return Figure(figsize=(8, 4.5), layout="constrained")


def expect_plottable(path: str | os.PathLike[str]) -> None:
    """PlotError, before hours of work, if matplotlib is missing or does not know the file's ending."""
    known = _figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise PlotError(f"--plot {path}: the name expects one of the endings {', '.join(sorted(known))}")


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise PlotError(f"--plot {path}: cannot be written ({error.strerror or error})") from None


class Plot(Listener):
    """Draws loss and accuracy over the epochs, anew after each one.

    Between the epochs' means it shows the training loss of every hundredth of an epoch, but for the part of a resumed run that
    an earlier process did.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._runs: list[_Run] = []

    def batch(self, trainer: Trainer, loss: float, images: int) -> None:
        if not self._runs or self._runs[-1].seed != trainer.recipe.seed:
            self._runs.append(_Run(trainer.recipe.seed))
        self._runs[-1].add(loss, images, trainer.epoch + trainer.images / trainer.images_per_epoch)

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self._runs[-1].epochs = list(trainer.history.epochs)
        figure = _figure()
        losses = figure.add_subplot()
        accuracies = losses.twinx()
        for run in self._runs:
            of = f", seed {run.seed}" if len(self._runs) > 1 else ""
            losses.plot(run.places, run.losses, color="C0", alpha=0.3, linewidth=0.8)
            _points(losses, [(e.epoch, e.loss) for e in run.epochs], f"training loss{of}", "C0")
            _points(losses, [(e.epoch, e.test_loss) for e in run.epochs if e.test_loss is not None], f"test loss{of}", "C1")
            known = [(e.epoch, 100 * e.accuracy) for e in run.epochs if e.accuracy is not None]
            _points(accuracies, known, f"test accuracy{of}", "C2")
        losses.set(xlabel="epoch", ylabel="loss", yscale="log")
        accuracies.set_ylabel("accuracy, %")
        lines = [*losses.get_legend_handles_labels()[0], *accuracies.get_legend_handles_labels()[0]]
        losses.legend(handles=lines, loc="center right")
        _save(figure, self.path)


class _Run:
    """One network's curve: the mean loss of each hundredth of an epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epochs: list[Epoch] = []
        self.places: list[float] = []
        self.losses: list[float] = []
        self._sum, self._images = 0.0, 0

    def add(self, loss: float, images: int, place: float) -> None:
        self._sum += loss * images
        self._images += images
        if not self.places or place >= self.places[-1] + 0.01:
            self.places.append(place)
            self.losses.append(self._sum / self._images)
            self._sum, self._images = 0.0, 0


def _points(axes: Any, points: Sequence[tuple[float, float]], label: str, color: str) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", label=label, color=color)


def plot_sweep(sweep: Sweep, path: str | os.PathLike[str]) -> None:
    """Draws the loss over the rate, and the rate suggested. Raises PlotError."""
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot(sweep.rates, sweep.losses)
    axes.axvline(sweep.suggestion, color="C1", label=f"suggested: {sweep.suggestion:.2g}")
    axes.set(xlabel="learning rate", ylabel="training loss, smoothed", xscale="log")
    axes.legend()
    _save(figure, path)
