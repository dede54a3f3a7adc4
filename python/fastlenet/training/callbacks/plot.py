"""Plots the curves of a training run to a file of any format that matplotlib writes."""

from __future__ import annotations

import os
from typing import SupportsFloat

from fastlenet.files import user_path
from fastlenet.training.callbacks.base import Run, Writer
from fastlenet.training.figures import COLOURS, add_note, as_epochs, new_panels, save_figure
from fastlenet.training.history import METRICS, Epoch

__all__ = ["Plot"]


class Plot(Writer):
    """Plots loss and accuracy over the epochs, again after each epoch.

    It also shows the training loss of every hundredth of an epoch, except for the part of a resumed run that an earlier process
    trained. A note says whether the training loss includes label smoothing, distorted images or dropout. path: the file.
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
        figure, losses, accuracies = new_panels()
        for number, curve in enumerate(self._curves):
            losses.plot(curve.places, curve.losses, color=COLOURS["loss"], alpha=0.3, linewidth=0.8)
            for name in METRICS:
                points = [(e.epoch, value) for e in curve.epochs if (value := getattr(e, name)) is not None]
                label = f"_{name} {number}" if number else name  # one name is enough for the curves of one colour
                axes = accuracies if "accuracy" in name else losses
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", label=label, color=COLOURS[name])
        if len(self._curves) > 1:
            losses.set_title(f"{len(self._curves)} networks, a curve for each", loc="left", fontsize="medium")
        losses.set_yscale("log")
        add_note(figure, run.state.history.note)
        as_epochs(figure, losses, accuracies)
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
