"""The trainer: takes a run from step to step, and calls back whoever wants to know how it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, SupportsFloat

from fastlenet.data.dataset import Dataset
from fastlenet.fields import Values, integer
from fastlenet.nn import Dropout, Sequential
from fastlenet.training.evaluation import BATCH_SIZE, evaluate, expect_fit
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError, Epoch, History, RunState
from fastlenet.training.step import TrainingStep

__all__ = ["Callback", "DivergedError", "Epoch", "History", "InterruptedRunError", "Trainer"]


class InterruptedRunError(Exception):
    """The run was asked to stop, and stopped between two steps."""


class Callback:
    """What wants to know how a run goes on; every method may be overridden."""

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        """After a step on `images` images with the mean loss float(loss); on a GPU, float() is what waits for the step, and the
        loss is that of the next step after it.
        """

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """After an epoch."""

    def finish(self, trainer: Trainer) -> None:
        """After the last step and its epoch; the model's weights are not yet their average."""

    def close(self) -> None:
        """When the run is over, however it ended; for whoever made the callback to call."""


class Trainer(RunState):
    """A run in progress: takes its state from step to step, and from epoch to epoch.

    Set `stop_requested`, from a signal handler or another thread, to have it stop after the step at hand. `rate` may be set to
    another function from the step, counted from 0, to its learning rate; on a GPU it is asked for all of an epoch's at its
    beginning. The recipe's algorithm becomes the model's. Options: those of RunState, and whether to evaluate after each epoch
    or only after the last. Raises TypeError or ValueError for a model, data and recipe that do not go together.
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        test_batch_size: int = BATCH_SIZE,
        evaluate_every_epoch: bool = True,
        **options: Any,
    ) -> None:
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipe expects a Recipe, got {type(recipe).__name__}")
        test_batch_size = integer("test_batch_size", test_batch_size, 1)
        if options.get("batches_per_epoch") is not None:
            options["batches_per_epoch"] = integer("batches_per_epoch", options["batches_per_epoch"], 1)
        expect_fit(model, data)
        for rate in (recipe.dropout, recipe.dropout_fc1):
            if rate and not any(isinstance(layer, Dropout) and layer.p == rate for layer in model.layers):
                raise ValueError(f"dropout expects a model with nn.Dropout({rate}), as LeNet.of(recipe) makes it")
        super().__init__(model, data, recipe, test_batch_size=test_batch_size, **options)
        model.algorithm = recipe.algorithm
        self.evaluate_every_epoch = Values(bool).convert("evaluate_every_epoch", evaluate_every_epoch)
        self._scheduled = self.rate
        self.evaluation_seconds = 0.0
        self.stop_requested = False
        self._step = self._make_step()

    def _make_step(self) -> TrainingStep:
        if self.model.ops.name != "cuda":
            return TrainingStep(self)
        from fastlenet.training.cuda_step import CapturedStep

        return CapturedStep(self)

    def stop(self) -> None:
        """Ask for an InterruptedRunError after the step at hand."""
        self.stop_requested = True

    def __getstate__(self) -> dict[str, Any]:
        self._step.wait()
        return {name: value for name, value in vars(self).items() if name != "_step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._step = self._make_step()

    @property
    def images_per_epoch(self) -> int:
        """The images that the epoch at hand trains on."""
        return self._starts[-1]

    def run(self, *callbacks: Callback) -> History:
        """Train to the end; the model then holds the weights that were evaluated: their average, where the recipe has one.

        Raises InterruptedRunError, between two steps, once stop_requested is set, and DivergedError. However it ends, the model
        is in evaluation mode afterwards.
        """
        self.model.train()
        try:
            while self.epoch < self.recipe.epochs:
                self._run_epoch(callbacks)
            for callback in callbacks:
                callback.finish(self)
        finally:
            self.model.eval()
        self.take_average()
        return self.history

    def take_average(self) -> None:
        """Give the model the average of its weights, where the recipe has one and it has begun."""
        if self._has_average():
            self.model.parameter_buffer[...] = self.average["parameters"]

    def _run_epoch(self, callbacks: tuple[Callback, ...]) -> None:
        starts = self._starts
        start = time.perf_counter()
        self._step.start()
        while self.position < self.batches:
            images = starts[self.position + 1] - starts[self.position]
            loss = self._step.run(images)
            self.position += 1
            self.images += images
            if self.position == self.batches:
                self._step.wait()
            self.seconds += time.perf_counter() - start
            for callback in callbacks:
                callback.batch(self, loss, images)
            if self.stop_requested and self.position < self.batches:
                raise InterruptedRunError
            start = time.perf_counter()
        self._finish_epoch(callbacks)

    def mean_loss(self) -> float:
        """Of the epoch so far."""
        self._step.wait()
        return self.loss_sum / self.images

    def save(self, path: str | os.PathLike[str]) -> None:
        self._step.wait()
        super().save(path)

    def restore(self, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
        with suppress(DivergedError):  # of steps that are to be forgotten
            self._step.wait()
        super().restore(path, allow_level_change=allow_level_change)
        if self.rate is self._scheduled:
            self.rate = self._scheduled = partial(self.recipe.rate, steps=self.steps)

    def normalise(self, mean: float, std: float) -> None:
        data = self.data
        super().normalise(mean, std)
        if self.data is not data:  # which a step may have brought to a device
            self._step = self._make_step()

    def _has_average(self) -> bool:
        return self.average_from is not None and self.optimizer.steps >= self.average_from

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the average of its weights, for as long as it is evaluated."""
        if not self._has_average():
            yield
            return
        buffer = self.model.parameter_buffer
        kept = buffer.copy()
        buffer[...] = self.average["parameters"]
        try:
            yield
        finally:
            buffer[...] = kept

    def evaluate(self) -> tuple[float, float]:
        """The test accuracy (a fraction) and loss as the recipe wants them: of averaged weights, of shifted images too."""
        start = time.perf_counter()
        with self._averaged():
            result = evaluate(self.model, self.data, self.test_batch_size, tta=self.recipe.tta)
        self.evaluation_seconds += time.perf_counter() - start
        return result

    def _finish_epoch(self, callbacks: tuple[Callback, ...]) -> None:
        self._expect_finite()
        accuracy = test_loss = None
        last = self.epoch + 1 == self.recipe.epochs
        if self.evaluate_every_epoch or last:
            accuracy, test_loss = self.evaluate()
        speed = self.images / self.seconds
        epoch = Epoch(self.epoch + 1, self.loss_sum / self.images, accuracy, test_loss, self.seconds, speed)
        self.history.epochs.append(epoch)
        self.epoch, self.position = self.epoch + 1, 0
        self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0
        self._starts = self._batch_starts(self.recipe, self.epoch)
        for callback in callbacks:
            callback.epoch(self, epoch)
        if self.stop_requested and not last:
            raise InterruptedRunError
