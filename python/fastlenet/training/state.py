"""The state of a training run: everything that the rest of the run depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.data.dataset import Dataset
from fastlenet.nn import Sequential
from fastlenet.optim import SGD, AdamW, Muon, Optimizer
from fastlenet.training.history import History
from fastlenet.training.recipe import Recipe

__all__ = ["DivergedError", "RunState"]

Array = npt.NDArray[Any]


class DivergedError(FloatingPointError):
    """The loss or the weights are no longer finite; the message says where."""


def _optimizer(model: Sequential, recipe: Recipe) -> Optimizer:
    if recipe.optimizer == "adamw":
        return AdamW(model, recipe.lr, (recipe.momentum, 0.999), weight_decay=recipe.weight_decay)
    nesterov = recipe.nesterov and recipe.momentum > 0
    if recipe.optimizer == "muon":
        return Muon(model, recipe.lr, recipe.momentum, nesterov, recipe.weight_decay, matrix_lr=recipe.muon_lr)
    return SGD(model, recipe.lr, recipe.momentum, nesterov, recipe.weight_decay)


class RunState:
    """A run between two steps: the model, its optimizer, and the place in the data; all of which a checkpoint holds.

    batches_per_epoch: at most so many; None: all. settings: facts of the caller's, which go into every checkpoint; passengers:
    arrays by name, which go into every checkpoint and come back out of it.

    epoch: how many are complete; position, images, loss_sum and seconds: batches and images of the epoch at hand that are
    done, the sum of their losses, and their time. starts: where the epoch's batches start, and the last one ends. steps: of
    the whole run. average: the running average of the weights, "parameters", where the recipe has one; it begins with step
    average_from. schedule_note: what a resumption did to the schedule, where the number of epochs is another.
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        batches_per_epoch: int | None = None,
        settings: Mapping[str, Any] | None = None,
        passengers: Mapping[str, Array] | None = None,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self.batches_per_epoch = batches_per_epoch
        self.settings, self.passengers = dict(settings or {}), dict(passengers or {})
        self.optimizer = _optimizer(model, recipe)
        self.history = History()
        self.epoch = 0
        self.begin_epoch()
        self.steps = self.steps_left(recipe, 0, 0)
        self.schedule_note = ""
        self.average_from = recipe.average_from(self.steps)
        self.average: dict[str, Array] = {}
        if self.average_from is not None:
            self.average["parameters"] = model.ops.empty(model.parameter_buffer.shape)
            self.average["parameters"][...] = model.parameter_buffer

    # --- the place in the run ---

    @property
    def batches(self) -> int:
        """The steps of the epoch at hand."""
        return len(self.starts) - 1

    @property
    def images_per_epoch(self) -> int:
        """The images that the epoch at hand trains on."""
        return self.starts[-1]

    def begin_epoch(self) -> None:
        """Stand before the first batch of the epoch at hand."""
        self.position, self.images, self.loss_sum, self.seconds = 0, 0, 0.0, 0.0
        self.starts = self.batch_starts(self.recipe, self.epoch)

    def batch_starts(self, recipe: Recipe, epoch: int, position: int = 0, images: int = 0) -> list[int]:
        """Where the batches of an epoch start, from the batch of that position on, before which stand so many images."""
        starts = [0] * position + recipe.batch_starts(epoch, len(self.data.train_images), images)
        return starts if self.batches_per_epoch is None else starts[: self.batches_per_epoch + 1]

    def steps_left(self, recipe: Recipe, epoch: int, position: int, images: int = 0) -> int:
        """From a place in the run to its end."""
        if epoch >= recipe.epochs:
            return 0
        here = len(self.batch_starts(recipe, epoch, position, images)) - 1 - position
        if not recipe.batch_size_end:  # all epochs are alike
            return here + (recipe.epochs - epoch - 1) * (len(self.batch_starts(recipe, 0)) - 1)
        return here + sum(len(self.batch_starts(recipe, later)) - 1 for later in range(epoch + 1, recipe.epochs))

    def rate(self, step: int) -> float:
        """The recipe's learning rate of a step, counted from 0."""
        return self.recipe.rate(step, self.steps)

    # --- what it holds ---

    def expect_finite(self) -> None:
        """Raises DivergedError if a weight is infinite or NaN: the next loss would be."""
        if not np.isfinite(self.model.parameter_buffer).all():
            raise DivergedError(f"weights are no longer finite in epoch {self.epoch + 1} after step {self.position}")

    def normalise(self, mean: float, std: float) -> None:
        """Normalise the images by these numbers from now on."""
        if (mean, std) != (self.data.mean, self.data.std):
            self.data = replace(self.data, mean=mean, std=std)

    def tensors(self) -> dict[str, Mapping[str, Array]]:
        """Everything that a checkpoint holds, by the prefix of its names; live."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state(),
            "average": self.average,
            "passenger": self.passengers,
        }

    # --- the average of the weights ---

    def has_average(self) -> bool:
        """Whether the recipe has one, and it has begun."""
        return self.average_from is not None and self.optimizer.steps >= self.average_from

    def take_average(self) -> None:
        """Give the model the average of its weights, where there is one."""
        if self.has_average():
            self.model.parameter_buffer[...] = self.average["parameters"]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with the average of its weights, for as long as it is evaluated."""
        if not self.has_average():
            yield
            return
        buffer = self.model.parameter_buffer
        kept = buffer.copy()
        buffer[...] = self.average["parameters"]
        try:
            yield
        finally:
            buffer[...] = kept
