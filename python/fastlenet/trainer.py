"""Training: `fit`, which the command line calls too."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from fastlenet.dataset import Dataset
from fastlenet.evaluation import BATCH_SIZE, evaluate, expect_fit
from fastlenet.fields import Values, integer
from fastlenet.files import reserve
from fastlenet.listener import SECONDS, Listener, Saver, Writer
from fastlenet.nn import Dropout, Sequential
from fastlenet.recipe import Recipe, named_recipe
from fastlenet.run_state import DivergedError, Epoch, History, RunState
from fastlenet.signals import StopSignals
from fastlenet.training_step import TrainingStep

__all__ = ["DivergedError", "Epoch", "History", "InterruptedRunError", "Listener", "Saver", "Trainer", "Writer", "fit"]


class InterruptedRunError(Exception):
    """The run was asked to stop, and stopped between two steps."""


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
        # Not a method: no cycle keeps the model.
        self.rate: Callable[[int], float] = partial(recipe.rate, steps=self.steps)
        self._scheduled = self.rate
        self.evaluation_seconds = 0.0
        self.stop_requested = False
        self._step = self._make_step()

    def _make_step(self) -> TrainingStep:
        step: TrainingStep = getattr(self.model.ops, "TrainingStep", TrainingStep)(self)
        return step

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
    def batches(self) -> int:
        """The steps of the epoch at hand."""
        return len(self._starts) - 1

    @property
    def images_per_epoch(self) -> int:
        """The images that the epoch at hand trains on."""
        return self._starts[-1]

    def run(self, *listeners: Listener) -> History:
        """Train to the end; the model then holds the weights that were evaluated: their average, where the recipe has one.

        Raises InterruptedRunError, between two steps, once stop_requested is set, and DivergedError. However it ends, the model
        is in evaluation mode afterwards.
        """
        self.model.train()
        try:
            while self.epoch < self.recipe.epochs:
                self._run_epoch(listeners)
            for listener in listeners:
                listener.finish(self)
        finally:
            self.model.eval()
        self.take_average()
        return self.history

    def take_average(self) -> None:
        """Give the model the average of its weights, where the recipe has one and it has begun."""
        if self._has_average():
            self.model.parameter_buffer[...] = self.average["parameters"]

    def _run_epoch(self, listeners: tuple[Listener, ...]) -> None:
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
            for listener in listeners:
                listener.batch(self, loss, images)
            if self.stop_requested and self.position < self.batches:
                raise InterruptedRunError
            start = time.perf_counter()
        self._finish_epoch(listeners)

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

    def _finish_epoch(self, listeners: tuple[Listener, ...]) -> None:
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
        for listener in listeners:
            listener.epoch(self, epoch)
        if self.stop_requested and not last:
            raise InterruptedRunError


def fit(
    model: Sequential,
    data: Dataset,
    recipe: str | Recipe = "default",
    *,
    test_batch_size: int = BATCH_SIZE,
    evaluate_every_epoch: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    resume: str | os.PathLike[str] | None = None,
    allow_level_change: bool = False,
    listeners: tuple[Listener, ...] = (),
    **changes: Any,
) -> History:
    """Train a model on a data set and return the history.

    recipe: a Recipe, or the name of one in fastlenet.recipe.RECIPES; changes: fields of it, epochs=3, lr=0.1 and so on.
    checkpoint: a file to write after every epoch and every checkpoint_seconds; resume: one to go on from, to the same bits as
    if nothing had happened. epochs may be another number than the checkpoint was made for, if no fewer than are done, even
    where that run was finished: the learning rate then follows the schedule of the new length from the step at hand on.
    allow_level_change: take a checkpoint of another instruction-set level or backend; the last bits will differ. A checkpoint
    that exists is replaced only by a run that goes on from it, and no other run may write it meanwhile. Where a save fails, a
    RuntimeWarning says so, and the next time it is tried again.

    The result depends on the model, the data and the recipe alone: not on the number of threads, nor on evaluate_every_epoch.

    Ctrl-C ends the training after the step at hand, and so does a listener that calls trainer.stop(): the checkpoint, if there
    is one, is written, and history.interrupted is True. A second Ctrl-C raises KeyboardInterrupt. However the training ends,
    the model is in evaluation mode.

    Raises, before the first step, TypeError for a field that there is not or an argument of another type, ValueError for a
    recipe that makes no sense or a model and data that do not go together, CheckpointError for a file that does not fit,
    exists, or cannot be written; and DivergedError when the loss is no longer finite.
    """
    if not isinstance(recipe, (str, Recipe)):
        raise TypeError(f"recipe expects a Recipe or the name of one, got {type(recipe).__name__}")
    checkpoint_seconds = SECONDS.convert("checkpoint_seconds", checkpoint_seconds)
    try:
        recipe = named_recipe(recipe, **changes) if isinstance(recipe, str) else replace(recipe, **changes)
    except TypeError as error:
        raise TypeError(f"fit: {error}") from None
    trainer = Trainer(model, data, recipe, test_batch_size=test_batch_size, evaluate_every_epoch=evaluate_every_epoch)
    with nullcontext() if checkpoint is None else reserve(checkpoint, resume):
        if resume is not None:
            trainer.restore(resume, allow_level_change=allow_level_change)
        saver = None if checkpoint is None else Saver(checkpoint, checkpoint_seconds)
        return _run(trainer, listeners, saver)


def _run(trainer: Trainer, listeners: tuple[Listener, ...], saver: Saver | None) -> History:
    """To the end, or until it is stopped; the model then holds what can be used, and the checkpoint all the rest."""
    with StopSignals(signal.SIGINT, stop=trainer.stop):
        try:
            trainer.run(*listeners, *(() if saver is None else (saver,)))
        except InterruptedRunError:
            trainer.history.interrupted = True
            if saver is not None:
                saver.save(trainer)
            trainer.take_average()
    if saver is not None and saver.error is not None:
        warnings.warn(f"{saver.error}; the model has its weights, the checkpoint has not", RuntimeWarning, stacklevel=3)
    return trainer.history
