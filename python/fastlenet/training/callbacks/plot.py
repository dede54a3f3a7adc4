"""Plots the curves of a training run to a file of any format that matplotlib writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsFloat

from fastlenet.files import user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.figures import new_figure, save_figure
from fastlenet.training.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plot"]


class Plot(Writer):
    """Plots loss and accuracy over the epochs, again after each epoch.

    It also shows the training loss of every hundredth of an epoch, except for the part of a resumed run that an earlier process
    trained. path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path(path)
        self._curves: list[_Curve] = []

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        if not self._curves or self._curves[-1].seed != run.state.recipe.seed:
            before = run.state.images - images
            loss_before = run.mean_loss() * run.state.images - float(loss) * images if before else 0.0
            self._curves.append(_Curve(run.state.recipe.seed, before, loss_before))
        curve, place = self._curves[-1], run.state.epoch + run.state.images / run.state.images_per_epoch
        if curve.is_due(place) or run.state.position == run.state.batches:
            curve.add(place, run.state.images, run.mean_loss() * run.state.images)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self._curves[-1].epochs = list(run.state.history.epochs)
        figure = new_figure()
        losses = figure.add_subplot()
        accuracies = losses.twinx()
        for curve in self._curves:
            of = f", seed {curve.seed}" if len(self._curves) > 1 else ""
            losses.plot(curve.places, curve.losses, color="C0", alpha=0.3, linewidth=0.8)
            _points(losses, [(e.epoch, e.loss) for e in curve.epochs], f"loss{of}", "C0")
            _points(losses, [(e.epoch, e.val_loss) for e in curve.epochs if e.val_loss is not None], f"val_loss{of}", "C1")
            _points(accuracies, [(e.epoch, 100 * e.accuracy) for e in curve.epochs], f"accuracy{of}", "C2")
            known = [(e.epoch, 100 * e.val_accuracy) for e in curve.epochs if e.val_accuracy is not None]
            _points(accuracies, known, f"val_accuracy{of}", "C3")
        losses.set(xlabel="epoch", ylabel="loss", yscale="log")
        accuracies.set_ylabel("accuracy, %")
        lines = [*losses.get_legend_handles_labels()[0], *accuracies.get_legend_handles_labels()[0]]
        losses.legend(handles=lines, loc="center right")
        with self.attempt():
            save_figure(figure, self.path)


class _Curve:
    """One network's curve: the mean loss of each hundredth of an epoch.

    images_before, loss_before: the images of the current epoch that are not in the curve, and the sum of their losses.
    """

    def __init__(self, seed: int, images_before: int, loss_before: float) -> None:
        self.seed = seed
        self.epochs: list[Epoch] = []
        self.places: list[float] = []
        self.losses: list[float] = []
        self._images, self._loss_sum = images_before, loss_before

    def is_due(self, place: float) -> bool:
        return not self.places or place >= self.places[-1] + 0.01

    def add(self, place: float, images: int, loss_sum: float) -> None:
        """Add a point. images, loss_sum: of the epoch so far."""
        if images <= self._images:  # the last point was in another epoch
            self._images, self._loss_sum = 0, 0.0
        self.places.append(place)
        self.losses.append((loss_sum - self._loss_sum) / (images - self._images))
        self._images, self._loss_sum = images, loss_sum


def _points(axes: Axes, points: Sequence[tuple[float, float]], label: str, color: str) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", label=label, color=color)
