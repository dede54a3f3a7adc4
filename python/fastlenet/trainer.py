"""Training: `fit`, which the command line calls too."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.config import config
from fastlenet.data import Dataset
from fastlenet.nn import Sequential
from fastlenet.optim import SGD
from fastlenet.philox import permutation

__all__ = ["Epoch", "History", "InterruptedRunError", "Listener", "Recipe", "Trainer", "evaluate", "fit"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum, and a one-cycle rate.

    lr: the peak of the rate, reached linearly after the share `warm_up` of all steps and left linearly for zero.
    """

    epochs: int = 3
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    warm_up: float = 0.2
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "epochs": (self.epochs >= 0, "a non-negative integer"),
            "batch_size": (self.batch_size >= 1, "a positive integer"),
            "lr": (math.isfinite(self.lr) and self.lr >= 0, "a non-negative number"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "warm_up": (0 <= self.warm_up <= 1, "a number in [0, 1]"),
            "weight_decay": (math.isfinite(self.weight_decay) and self.weight_decay >= 0, "a non-negative number"),
            "label_smoothing": (0 <= self.label_smoothing <= 1, "a number in [0, 1]"),
            "seed": (0 <= self.seed < 2**64, "an integer in 0..2^64-1"),
        }
        for name, (holds, expected) in checks.items():
            if not holds:
                raise ValueError(f"{name} expects {expected}, got {getattr(self, name)!r}")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0..steps-1."""
        rising = round(self.warm_up * steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (steps - step) / (steps - rising)


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean training loss, test accuracy (a fraction) and loss, seconds and images/s of training."""

    epoch: int
    loss: float
    accuracy: float | None
    test_loss: float | None
    seconds: float
    images_per_second: float


@dataclass
class History:
    """The epochs of a run."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """The last epoch's test accuracy: the final one, not the best."""
        return self.epochs[-1].accuracy if self.epochs else None


class Listener:
    """What wants to know how a run goes on; every method may be overridden."""

    def batch(self, trainer: Trainer, loss: float, images: int) -> None:
        """After a step on `images` images with the mean loss `loss`."""

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """After an epoch."""


class InterruptedRunError(Exception):
    """The run was asked to stop, and stopped between two steps."""


def evaluate(model: Sequential, data: Dataset, batch_size: int = 1000) -> tuple[float, float]:
    """The accuracy (a fraction) and the mean loss on the test images; leaves the model's mode as it was."""
    ops, count = model.ops, len(data.test_images)
    training = model.training
    model.eval()
    correct, loss = 0, 0.0
    try:
        for start in range(0, count, batch_size):
            index = np.arange(start, min(start + batch_size, count))
            x = ops.gather_images(data.test_images, index, mean=data.mean, std=data.std)
            logits = model(x)
            labels = data.test_labels[index]
            batch_loss, _ = ops.softmax_cross_entropy(logits, labels)
            loss += batch_loss * len(index)
            correct += int((logits.argmax(axis=1) == labels).sum())
    finally:
        model.training = training
    return correct / count, loss / count


class Trainer:
    """A run in progress: the model, its optimizer, and the place in the data; all of which a checkpoint holds.

    Set `stop_requested`, from a signal handler or another thread, to have it stop after the step at hand.
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        test_batch_size: int = 1000,
        evaluate_every_epoch: bool = True,
        batches_per_epoch: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if test_batch_size < 1:
            raise ValueError(f"test_batch_size expects a positive integer, got {test_batch_size}")
        self.model, self.data, self.recipe = model, data, recipe
        self.test_batch_size, self.evaluate_every_epoch = test_batch_size, evaluate_every_epoch
        self.settings = dict(settings or {})
        self.optimizer = SGD(model, recipe.lr, recipe.momentum, recipe.momentum > 0, recipe.weight_decay)
        batches = math.ceil(len(data.train_images) / recipe.batch_size)
        self.batches = batches if batches_per_epoch is None else min(batches, batches_per_epoch)
        self.steps = recipe.epochs * self.batches
        self.history = History()
        self.epoch, self.position = 0, 0  # completed epochs, and batches of the one at hand
        self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0  # of the epoch at hand
        self.stop_requested = False
        h, w = data.train_images.shape[1:]
        self._batch: Array = model.ops.empty((recipe.batch_size, 1, h, w))
        self._logits_gradient: Array = model.ops.empty((recipe.batch_size, data.classes))

    # --- running ---

    def run(self, *listeners: Listener) -> History:
        """Train to the end. Raises InterruptedRunError, between two steps, once stop_requested is set."""
        self.model.train()
        while self.epoch < self.recipe.epochs:
            self._run_epoch(listeners)
        return self.history

    def _run_epoch(self, listeners: tuple[Listener, ...]) -> None:
        size = self.recipe.batch_size
        order = permutation(len(self.data.train_images), self.recipe.seed, self.epoch)
        while self.position < self.batches:
            start = time.perf_counter()
            index = order[self.position * size : (self.position + 1) * size]
            loss = self._step(index)
            self.position += 1
            self.loss_sum += loss * len(index)
            self.images += len(index)
            self.seconds += time.perf_counter() - start
            for listener in listeners:
                listener.batch(self, loss, len(index))
            if self.stop_requested and self.position < self.batches:
                raise InterruptedRunError
        self._finish_epoch(listeners)

    def _step(self, index: Array) -> float:
        model, data, ops = self.model, self.data, self.model.ops
        x = ops.gather_images(data.train_images, index, mean=data.mean, std=data.std, out=self._batch[: len(index)])
        loss, dlogits = ops.softmax_cross_entropy(
            model(x),
            data.train_labels[index],
            label_smoothing=self.recipe.label_smoothing,
            out=self._logits_gradient[: len(index)],
        )
        model.backward(dlogits)
        self.optimizer.lr = self.recipe.rate(self.epoch * self.batches + self.position, self.steps)
        self.optimizer.step()
        return float(loss)

    def _finish_epoch(self, listeners: tuple[Listener, ...]) -> None:
        loss = self.loss_sum / self.images
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} in epoch {self.epoch + 1}; a smaller --lr may help")
        accuracy = test_loss = None
        last = self.epoch + 1 == self.recipe.epochs
        if self.evaluate_every_epoch or last:
            accuracy, test_loss = evaluate(self.model, self.data, self.test_batch_size)
        epoch = Epoch(self.epoch + 1, loss, accuracy, test_loss, self.seconds, self.images / self.seconds)
        self.history.epochs.append(epoch)
        self.epoch, self.position = self.epoch + 1, 0
        self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0
        for listener in listeners:
            listener.epoch(self, epoch)
        if self.stop_requested and not last:
            raise InterruptedRunError

    # --- checkpoints ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that the rest of the run depends on. Raises CheckpointError; the old file then stays."""
        tensors = {f"model.{name}": array for name, array in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": array for name, array in self.optimizer.state().items()}
        facts = config()
        save_checkpoint(
            path,
            tensors,
            {
                "version": facts["version"],
                "level": facts["level"],
                "recipe": asdict(self.recipe),
                "settings": self.settings,
                "data": self.data.fingerprint,
                "test_batch_size": self.test_batch_size,
                "steps": self.steps,
                "epoch": self.epoch,
                "position": self.position,
                "dropout_counter": self.model.dropout_counter,
                "sums": [self.loss_sum, self.images, self.seconds],
                "history": [asdict(epoch) for epoch in self.history.epochs],
            },
        )

    def restore(self, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
        """Go on from a checkpoint of the same model, data and recipe. Raises CheckpointError and then changes nothing."""
        tensors, facts = load_checkpoint(path)
        try:
            self._check(path, facts, allow_level_change)
            history = [Epoch(**epoch) for epoch in facts["history"]]
            epoch, position, counter = int(facts["epoch"]), int(facts["position"]), int(facts["dropout_counter"])
            loss_sum, images, seconds = float(facts["sums"][0]), int(facts["sums"][1]), float(facts["sums"][2])
            if not (0 <= epoch <= self.recipe.epochs and 0 <= position < max(1, self.batches)):
                raise ValueError(f"epoch {epoch}, position {position}")
            parts: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}}
            for name, array in tensors.items():
                part, _, key = name.partition(".")
                parts[part][key] = array
            if {name: a.shape for name, a in parts["optimizer"].items()} != {
                name: a.shape for name, a in self.optimizer.state().items()
            }:
                raise ValueError("its optimizer state is not of this model")
            self.model.load_state_dict(parts["model"])
            self.optimizer.load_state(parts["optimizer"])
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: does not fit this run ({error})") from None
        self.history.epochs = history
        self.epoch, self.position, self.model.dropout_counter = epoch, position, counter
        self.loss_sum, self.images, self.seconds = loss_sum, images, seconds

    def _check(self, path: str | os.PathLike[str], facts: Mapping[str, Any], allow_level_change: bool) -> None:
        level = config()["level"]
        if facts["level"] != level and not allow_level_change:
            raise CheckpointError(
                f"{path}: made at level {facts['level']}, this is {level}, whose last bits differ; set "
                f"FASTLENET_ISA={facts['level']}, or allow it with --allow-level-change"
            )
        if facts["data"] != self.data.fingerprint:
            raise CheckpointError(f"{path}: made on other training data than {self.data.name}")
        for name, value in asdict(self.recipe).items():
            if facts["recipe"].get(name) != value:
                raise CheckpointError(f"{path}: made with {name} {facts['recipe'].get(name)}, not {value}")
        if facts["steps"] != self.steps:
            raise CheckpointError(f"{path}: made for {facts['steps']} steps, not {self.steps}")


class Saver(Listener):
    """Writes a checkpoint after every epoch, and between them every so many seconds."""

    def __init__(self, path: str | os.PathLike[str], seconds: float = 10.0) -> None:
        self.path, self.seconds = Path(path), seconds
        self._due = time.monotonic() + seconds

    def batch(self, trainer: Trainer, loss: float, images: int) -> None:
        if time.monotonic() >= self._due and trainer.position < trainer.batches:
            self._save(trainer)

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save(self.path)
        self._due = time.monotonic() + self.seconds


def fit(
    model: Sequential,
    data: Dataset,
    *,
    test_batch_size: int = 1000,
    evaluate_every_epoch: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    resume: str | os.PathLike[str] | None = None,
    listeners: tuple[Listener, ...] = (),
    **recipe: Any,
) -> History:
    """Train a model on a data set and return the history.

    recipe: the fields of Recipe, epochs, batch_size, lr, momentum, warm_up, weight_decay, label_smoothing and seed.
    checkpoint: a file to write after every epoch and every checkpoint_seconds; resume: one to go on from, to the same bits as
    if nothing had happened. The result depends on the model, the data and the recipe alone: not on the number of threads, nor
    on evaluate_every_epoch. Raises ValueError for a recipe that makes no sense, CheckpointError for a file that does not fit.
    """
    unknown = recipe.keys() - {field.name for field in fields(Recipe)}
    if unknown:
        raise TypeError(f"fit: unexpected arguments {', '.join(sorted(unknown))}")
    trainer = Trainer(model, data, Recipe(**recipe), test_batch_size=test_batch_size, evaluate_every_epoch=evaluate_every_epoch)
    if resume is not None:
        trainer.restore(resume)
    savers = () if checkpoint is None else (Saver(checkpoint, checkpoint_seconds),)
    return trainer.run(*listeners, *savers)
