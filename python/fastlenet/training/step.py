"""A training step: the next images of an epoch, forward pass, loss, backward pass, optimizer. It calls ops of any backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, SupportsFloat

import numpy as np

from fastlenet.augment import Transform, with_views
from fastlenet.backend import Array
from fastlenet.inference.losses import LOSSES
from fastlenet.philox import permutation
from fastlenet.training.clipping import GradientClip
from fastlenet.training.state import DivergedError, RunState
from fastlenet.training.teaching import Teaching

__all__ = ["Average", "TrainingStep"]

Average = Literal["begin", "update"] | None  # the change that a step makes to the average of the weights


class TrainingStep:
    """Makes the steps of a run, which change its state. On a GPU, cuda_step.CapturedStep does so instead.

    rate: a function from a step, counted from 0, to its learning rate.
    """

    def __init__(self, state: RunState, rate: Callable[[int], float]) -> None:
        recipe, data, ops = state.recipe, state.data, state.model.ops
        largest = min(max(recipe.batch_size, recipe.batch_size_end), len(data.train_images))
        self._state, self._rate_of = state, rate
        self._x: Array = ops.empty((largest, *data.input_shape))
        self._transform_of = recipe.transforms(*data.input_shape[1:])
        self._views: Array | None = recipe.preprocessing.kept_views(data.train_images)
        if self._views is not None and ops.Graph.captures_steps:  # a GPU, which would copy them for every batch
            views = ops.empty(self._views.shape)
            views[...] = self._views
            self._views = views
        self._logits_gradient: Array = ops.empty((largest, data.classes))
        self._loss = LOSSES[recipe.loss].op(ops)
        taught = state.teaching is not None
        # What a teacher expects: of each training image, and of the batch; as images of one row, for gather_images.
        self._all_targets: Array | None = ops.empty((len(data.train_images), 1, data.classes)) if taught else None
        self._targets: Array | None = ops.empty((largest, 1, 1, data.classes)) if taught else None
        self._clip = GradientClip(state.model, recipe.clip_norm) if recipe.clip_norm else None
        self._order: Array
        self._shown: Transform | None = None  # the epoch's random distortions, which a teacher sees too
        self._transform: Transform | None = None  # the same, of the images that this network preprocesses
        self._predicted = np.empty(
            len(data.train_images), np.int64
        )  # the predicted classes of the epoch's images, in their order
        self._uncounted = range(0)  # the part of them that state.correct does not include yet

    def start(self) -> None:
        """Prepare the epoch. Call it before the first step of an epoch, or of the rest of one."""
        self.wait()  # an interrupted run may have left steps
        state, recipe = self._state, self._state.recipe
        self._order = permutation(len(state.data.train_images), recipe.seed, state.epoch)
        self._shown = self._transform_of(state.epoch)
        self._transform = with_views(self._shown, self._views)
        self._uncounted = range(state.images, state.images)

    def learn_from(self, teaching: Teaching, proceed: Callable[[int], bool]) -> None:
        """Take what the teacher expects of the images as this epoch shows them. proceed: as Teaching.targets takes it."""
        targets = teaching.targets(self._state.data, self._shown, proceed)
        if targets is not None and self._all_targets is not None:
            self._all_targets[...] = targets[:, None]

    def run(self, images: int) -> SupportsFloat:
        """Make one step on the next `images` images of the epoch. Returns their mean loss. Raises DivergedError."""
        state = self._state
        start, end = state.images, state.images + images
        index = self._order[start:end]
        state.optimizer.lr = self._rate_of(state.optimizer.steps)
        labels = state.data.train_labels[index]
        weights = None if state.weights is None else state.weights[index]
        loss, logits = self._compute(state.data.train_images, labels, weights, index, self._transform, self._average_due())
        state.loss_sum += float(loss) * images
        np.asarray(logits).argmax(axis=1, out=self._predicted[start:end])
        self._uncounted = range(self._uncounted.start, end)
        return float(loss)

    def wait(self) -> None:
        """Wait until all steps are done and the sums in the state include them. Raises DivergedError."""
        if self._uncounted:
            part = slice(self._uncounted.start, self._uncounted.stop)
            right = self._predicted[part] == self._state.data.train_labels[self._order[part]]
            self._state.correct += int(np.count_nonzero(right))
            self._uncounted = range(part.stop, part.stop)

    def _average_due(self) -> Average:
        """The change that the next step makes to the average of the weights."""
        state = self._state
        begin = state.average_from
        if begin is None or state.optimizer.steps + 1 < begin:
            return None
        updates, rest = divmod(state.optimizer.steps + 1 - begin, state.recipe.ema_every)
        return None if rest else "update" if updates else "begin"

    def _compute(self, images: Any, labels: Any, weights: Any, index: Any, transform: Any, average: Average) -> tuple[Any, Any]:
        """Do the work of a step. Returns the mean loss and the logits."""
        loss, logits, dlogits = self._forward(images, labels, weights, index, transform, None)
        self._check(loss)
        self._state.model.backward(dlogits)
        self._update(average)
        return loss, logits

    def _forward(
        self,
        images: Array,
        labels: Array,
        weights: Array | None,
        index: Array,
        transform: Transform | None,
        batch_size: int | None,
    ) -> tuple[SupportsFloat, Array, Array]:
        """The forward pass. batch_size: of the batch that the images are a part of; None if they are the batch. Returns the sum
        of the losses over the size of the batch, the logits, and the gradient with respect to them.
        """
        data, ops, n = self._state.data, self._state.model.ops, len(index)
        x = ops.gather_images(images, index, mean=data.mean, std=data.std, transform=transform, out=self._x[:n])
        logits = self._state.model(x)
        loss, dlogits = self._lose(logits, labels, weights, index, batch_size)
        return loss, logits, dlogits

    def _lose(
        self, logits: Array, labels: Array, weights: Array | None, index: Array, batch_size: int | None
    ) -> tuple[SupportsFloat, Array]:
        """The loss of these images, and its gradient with respect to their logits."""
        recipe, ops, n = self._state.recipe, self._state.model.ops, len(index)
        smoothing, out = recipe.label_smoothing, self._logits_gradient[:n]
        if self._all_targets is None or self._targets is None:
            return self._loss(logits, labels, label_smoothing=smoothing, weights=weights, batch_size=batch_size, out=out)
        targets = ops.gather_images(self._all_targets, index, mean=0.0, std=1.0, out=self._targets[:n])  # exact copies
        return ops.softmax_distillation(
            logits,
            labels,
            targets.reshape(logits.shape),
            mix=recipe.mix,
            temperature=recipe.temperature,
            label_smoothing=smoothing,
            weights=weights,
            batch_size=batch_size,
            out=out,
        )

    def _update(self, average: Average) -> None:
        """Change the weights by the gradient, and the average of the weights."""
        state = self._state
        if self._clip is not None:
            self._clip.apply()
        if average == "update":
            state.optimizer.step(state.average["parameters"], state.recipe.ema)
            return
        state.optimizer.step()
        if average == "begin":
            state.average["parameters"][...] = state.model.parameter_buffer

    def _check(self, loss: SupportsFloat) -> None:
        """Raise DivergedError for a loss that is not finite, before it reaches the weights."""
        if not math.isfinite(float(loss)):
            where = f"in epoch {self._state.epoch + 1} at step {self._state.position + 1}"
            raise DivergedError(f"the loss is {loss} {where}")
