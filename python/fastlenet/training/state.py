"""The state of a training run: everything that the rest of the run depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.dataset import Dataset
from fastlenet.inference.facts import ModelFacts
from fastlenet.nn import Sequential
from fastlenet.normalisation import PerChannel
from fastlenet.training.history import History
from fastlenet.training.optimizers import OPTIMIZERS
from fastlenet.training.recipe import Recipe
from fastlenet.training.schedule import Schedule, expect_schedule, share
from fastlenet.training.teaching import Teaching
from fastlenet.training.weights import image_weights, sample_weights

__all__ = ["DivergedError", "RunState"]


class DivergedError(FloatingPointError):
    """The loss or the weights are no longer finite. The message names the epoch and the step."""


class RunState:
    """A run between two steps: the model, its optimizer, and the position in the data. A checkpoint holds all of it.

    batches_per_epoch: the largest number of batches of an epoch, or None for all. schedule: a function from a step and the
    number of steps to the share of the recipe's lr; it replaces the recipe's schedule. sample_weight: a weight for each
    training image, or None. teaching: of a teacher, or None. settings: data of the caller that every checkpoint stores.
    passengers: arrays by name that every checkpoint stores and gives back.

    epoch: the number of complete epochs. position, images, loss_sum, correct, seconds: of the current epoch, the batches and
    images done, the sum of the images' losses, the images classified correctly, and the time. starts: where the batches of the
    current epoch start, and where the last one ends.
    steps: of the whole run. average: {"parameters": the running average of the weights} if the recipe has one; it begins at
    step average_from. schedule_note: how resuming with another number of epochs changed the schedule, or "".
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        batches_per_epoch: int | None = None,
        schedule: Schedule | None = None,
        sample_weight: object = None,
        teaching: Teaching | None = None,
        settings: Mapping[str, object] | None = None,
        passengers: Mapping[str, Array] | None = None,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self.batches_per_epoch, self.schedule, self.teaching = batches_per_epoch, schedule, teaching
        self.settings, self.passengers = dict(settings or {}), dict(passengers or {})
        self.sample_weight = None if sample_weight is None else sample_weights(sample_weight, data)
        self.weights = image_weights(str(recipe.class_weight), self.sample_weight, data)  # in the loss; None: all are 1
        self.optimizer = OPTIMIZERS[recipe.optimizer](model, recipe)
        self.history = History(recipe=recipe)
        self.epoch = 0
        self.begin_epoch()
        self.steps = self.steps_left(recipe, 0, 0)
        if schedule is not None:
            expect_schedule(schedule, self.steps)
        self.schedule_note = ""
        self.average_from = recipe.average_from(self.steps)
        self.average: dict[str, Array] = {}
        if self.average_from is not None:
            self.average["parameters"] = model.ops.empty(model.parameter_buffer.shape)
            self.average["parameters"][...] = model.parameter_buffer

    # --- the place in the run ---

    @property
    def batches(self) -> int:
        """The number of steps of the current epoch."""
        return len(self.starts) - 1

    @property
    def images_per_epoch(self) -> int:
        """The number of images that the current epoch trains on."""
        return self.starts[-1]

    def begin_epoch(self) -> None:
        """Move to the first batch of the current epoch."""
        self.position = self.images = self.correct = 0
        self.loss_sum = self.seconds = 0.0
        self.starts = self.batch_starts(self.recipe, self.epoch)

    def batch_starts(self, recipe: Recipe, epoch: int, position: int = 0, images: int = 0) -> list[int]:
        """Returns where the batches of an epoch start, and as the last element where the last one ends.

        position: the batch from which to count; images: the number of images before it. Earlier batches have starts of 0.
        """
        starts = [0] * position + recipe.batch_starts(epoch, len(self.data.train_images), images)
        return starts if self.batches_per_epoch is None else starts[: self.batches_per_epoch + 1]

    def steps_left(self, recipe: Recipe, epoch: int, position: int, images: int = 0) -> int:
        """Returns the number of steps from a position in the run to its end."""
        if epoch >= recipe.epochs:
            return 0
        here = len(self.batch_starts(recipe, epoch, position, images)) - 1 - position
        if not recipe.batch_size_end:  # all epochs are alike
            return here + (recipe.epochs - epoch - 1) * (len(self.batch_starts(recipe, 0)) - 1)
        return here + sum(len(self.batch_starts(recipe, later)) - 1 for later in range(epoch + 1, recipe.epochs))

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        if self.schedule is None:
            return self.recipe.rate(step, self.steps)
        return self.recipe.lr * share(self.schedule, step, self.steps)

    # --- what it holds ---

    def expect_finite(self) -> None:
        """Raise DivergedError if a weight is infinite or NaN, since the next loss would not be finite."""
        if not np.isfinite(self.model.parameter_buffer).all():
            raise DivergedError(f"weights are no longer finite in epoch {self.epoch + 1} after step {self.position}")

    def normalise(self, mean: PerChannel, std: PerChannel) -> None:
        """Normalise the images by this mean and standard deviation from now on."""
        if (mean, std) != (self.data.mean, self.data.std):
            self.data = replace(self.data, mean=mean, std=std)

    def tell_model(self) -> None:
        """Let the model know the images and classes that it is trained on, so that it can predict from raw images."""
        data = self.data
        recipe = self.recipe
        self.model.facts = ModelFacts(
            data.input_shape, data.mean, data.std, data.class_labels, asdict(recipe), recipe.preprocessing
        )

    @contextmanager
    def told(self) -> Iterator[None]:
        """A context in which the model knows this."""
        kept = self.model.facts
        self.tell_model()
        try:
            yield
        finally:
            self.model.facts = kept

    def tensors(self) -> dict[str, Mapping[str, Array]]:
        """Returns the arrays that a checkpoint holds, by the prefix of their names. They are not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "passenger": self.passengers,
        }

    # --- the average of the weights ---

    def has_average(self) -> bool:
        """Whether the recipe has an average of the weights, and it has begun."""
        return self.average_from is not None and self.optimizer.steps >= self.average_from

    def take_average(self) -> None:
        """Copy the average of the weights into the model, if there is one."""
        if self.has_average():
            self.model.parameter_buffer[...] = self.average["parameters"]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the model has the average of its weights, if there is one."""
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
