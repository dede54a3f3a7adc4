"""Curves of a training run, in any file format that matplotlib writes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from fastlenet.files import CheckpointError, user_path, write_atomically
from fastlenet.training.callbacks.saver import Writer
from fastlenet.training.lr_finder import Sweep
from fastlenet.training.trainer import Epoch, Trainer

__all__ = ["Plot", "PlotError", "expect_plottable", "plot_sweep"]


class PlotError(CheckpointError):
    """A plot that cannot be drawn; one line that says what to do."""


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(f"a plot needs matplotlib ({error}); pip install 'fastlenet[plot]'") from None
    except Exception as error:  # of a configuration that makes no sense, as MPLBACKEND
        raise PlotError(f"a plot needs matplotlib, which cannot be imported ({_first_line(error)})") from None
    return Figure(figsize=(8, 4.5), layout="constrained")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def expect_plottable(path: str | os.PathLike[str]) -> None:
    """PlotError, before hours of work, if matplotlib is missing or does not know the file's ending."""
    known = _figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise PlotError(f"{path}: the name of a plot expects one of the endings {', '.join(sorted(known))}")


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=150)
    except Exception as error:  # matplotlib, which reads fonts and a configuration, raises what it pleases
        raise PlotError(f"{path}: cannot be drawn ({_first_line(error)})") from None
    write_atomically(path, picture.getvalue())


class Plot(Writer):
    """Draws loss and accuracy over the epochs, anew after each one.

    Between the epochs' means it shows the training loss of every hundredth of an epoch, but for the part of a resumed run that
    an earlier process did.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path(path)
        self._runs: list[_Run] = []

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        if not self._runs or self._runs[-1].seed != trainer.recipe.seed:
            before = trainer.images - images
            loss_before = trainer.mean_loss() * trainer.images - float(loss) * images if before else 0.0
            self._runs.append(_Run(trainer.recipe.seed, before, loss_before))
        run, place = self._runs[-1], trainer.epoch + trainer.images / trainer.images_per_epoch
        if run.is_due(place) or trainer.position == trainer.batches:
            run.add(place, trainer.images, trainer.mean_loss() * trainer.images)

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
        with self.attempt():
            _save(figure, self.path)


class _Run:
    """One network's curve: the mean loss of each hundredth of an epoch; before: images of the epoch, and their losses' sum,
    that are not in it."""

    def __init__(self, seed: int, images_before: int, loss_before: float) -> None:
        self.seed = seed
        self.epochs: list[Epoch] = []
        self.places: list[float] = []
        self.losses: list[float] = []
        self._images, self._loss_sum = images_before, loss_before

    def is_due(self, place: float) -> bool:
        return not self.places or place >= self.places[-1] + 0.01

    def add(self, place: float, images: int, loss_sum: float) -> None:
        """A point; images and loss_sum: of the epoch so far."""
        if images <= self._images:  # of another epoch than the last point
            self._images, self._loss_sum = 0, 0.0
        self.places.append(place)
        self.losses.append((loss_sum - self._loss_sum) / (images - self._images))
        self._images, self._loss_sum = images, loss_sum


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
