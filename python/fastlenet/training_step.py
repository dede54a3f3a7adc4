"""A training step: the next images of an epoch, forward, loss, backward, optimizer. Op by op, on any backend."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

import numpy.typing as npt

from fastlenet.philox import permutation
from fastlenet.run_state import DivergedError

if TYPE_CHECKING:
    from fastlenet.trainer import Trainer

__all__ = ["Average", "TrainingStep"]

Array = npt.NDArray[Any]
Average = Literal["begin", "update"] | None  # what a step does to the average of the weights


class TrainingStep:
    """The steps of a trainer's run. A backend may have another one of this name, as `fastlenet.cuda` does."""

    def __init__(self, trainer: Trainer) -> None:
        recipe, data, ops = trainer.recipe, trainer.data, trainer.model.ops
        count, h, w = data.train_images.shape
        largest = min(max(recipe.batch_size, recipe.batch_size_end), count)
        self._trainer: Trainer = weakref.proxy(trainer)  # which has this: a cycle would keep the model
        self._x: Array = ops.empty((largest, 1, h, w))
        self._logits_gradient: Array = ops.empty((largest, data.classes))
        self._order: Array
        self._transform: Any = None

    def start(self) -> None:
        """Before the first step of an epoch, or of what is left of one."""
        trainer, recipe = self._trainer, self._trainer.recipe
        self._order = permutation(len(trainer.data.train_images), recipe.seed, trainer.epoch)
        augmented = recipe.augmentation and trainer.epoch < recipe.epochs - recipe.plain_epochs
        self._transform = recipe.augmentation.at(recipe.seed, trainer.epoch) if augmented else None

    def run(self, images: int) -> SupportsFloat:
        """One step, on the next `images` images of the epoch; their mean loss. Raises DivergedError."""
        trainer = self._trainer
        index = self._order[trainer.images : trainer.images + images]
        trainer.optimizer.lr = trainer.rate(trainer.optimizer.steps)
        labels = trainer.data.train_labels[index]
        loss = float(self._compute(trainer.data.train_images, labels, index, self._transform, self._average_due()))
        trainer.loss_sum += loss * images
        return loss

    def wait(self) -> None:
        """Until all steps are done, and trainer.loss_sum is of all of them. Raises DivergedError."""

    def _average_due(self) -> Average:
        """What the next step does to the average of the weights."""
        trainer = self._trainer
        begin = trainer.average_from
        if begin is None or trainer.optimizer.steps + 1 < begin:
            return None
        updates, rest = divmod(trainer.optimizer.steps + 1 - begin, trainer.recipe.ema_every)
        return None if rest else "update" if updates else "begin"

    def _compute(self, images: Any, labels: Any, index: Any, transform: Any, average: Average) -> Any:
        trainer, model, ops = self._trainer, self._trainer.model, self._trainer.model.ops
        data, n = trainer.data, len(index)
        x = ops.gather_images(images, index, mean=data.mean, std=data.std, transform=transform, out=self._x[:n])
        smoothing = trainer.recipe.label_smoothing
        loss, dlogits = ops.softmax_cross_entropy(model(x), labels, label_smoothing=smoothing, out=self._logits_gradient[:n])
        self._check(loss)
        model.backward(dlogits)
        trainer.optimizer.step()
        if average == "begin":
            trainer.average["parameters"][...] = model.parameter_buffer
        elif average == "update":
            ops.ema_step(trainer.average["parameters"], model.parameter_buffer, decay=trainer.recipe.ema)
        return loss

    def _check(self, loss: Any) -> None:
        """Before a loss that is not finite gets into the weights."""
        if not math.isfinite(loss):
            where = f"in epoch {self._trainer.epoch + 1} at step {self._trainer.position + 1}"
            raise DivergedError(f"the loss is {loss} {where}")
