"""The training step of a recipe with shards: a batch in equal parts, whose gradients are added in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsFloat

import numpy as np

from fastlenet.backend import Array
from fastlenet.nn import Sequential
from fastlenet.training.ranks import Ranks
from fastlenet.training.state import RunState
from fastlenet.training.step import TrainingStep

__all__ = ["ShardedStep", "shard_starts"]


def shard_starts(images: int, shards: int) -> list[int]:
    """Returns where the shards of a batch start, and as the last element where the last one ends.

    Their sizes differ by one image at most. Shards of a batch with fewer images than shards may be empty.
    """
    return [shard * images // shards for shard in range(shards + 1)]


class _Tree:
    """Adds the gradients that a model computes one after the other, in a balanced binary tree.

    It counts in binary: a digit that becomes 1 keeps the gradient, a digit that overflows is added to it. So it keeps
    log2(leaves) buffers. leaves: a power of two.
    """

    def __init__(self, model: Sequential, leaves: int) -> None:
        self._model = model
        self._kept: list[Array] = [model.ops.empty(model.gradient_buffer.shape) for _ in range(leaves.bit_length() - 1)]

    def add(self, leaf: int) -> None:
        """Take the gradient of this leaf, counted from 0, from the model. After the last one, the model has the sum."""
        ops, gradient = self._model.ops, self._model.gradient_buffer
        level = 0
        while leaf >> level & 1:
            ops.sgd_step(gradient, self._kept[level], None, lr=-1.0)  # adds
            level += 1
        if level < len(self._kept):
            self._kept[level][...] = gradient


class ShardedStep(TrainingStep):
    """Makes the steps of a run whose recipe has more than one shard. The bits do not depend on the number of ranks.

    ranks: the processes that share the run, or None; each computes the same number of neighbouring shards.
    """

    def __init__(self, state: RunState, rate: Callable[[int], float], ranks: Ranks | None = None) -> None:
        super().__init__(state, rate)
        self._ranks = ranks
        rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
        share = state.recipe.shards // size
        self._own = range(rank * share, (rank + 1) * share)
        self._tree = _Tree(state.model, share)
        self._images: Array = state.data.train_images
        if state.model.ops.Graph.captures_steps:  # a GPU, which would copy them for every shard
            self._images = state.model.ops.empty(self._images.shape, self._images.dtype)
            self._images[...] = state.data.train_images

    def run(self, images: int) -> SupportsFloat:
        state = self._state
        state.optimizer.lr = self._rate_of(state.optimizer.steps)
        starts = shard_starts(images, state.recipe.shards)
        sums = np.zeros((len(self._own), 2))
        for leaf, shard in enumerate(self._own):
            sums[leaf] = self._differentiate(starts[shard], starts[shard + 1], images)
            self._tree.add(leaf)
        state.model.dropout_counter += 1
        if self._ranks is not None:
            sums = self._ranks.gather(sums.reshape(-1)).reshape(-1, 2)
        loss = 0.0
        for part in sums[:, 0].tolist():  # in order; Python's sum rounds as its version does
            loss += part
        self._check(loss)
        if self._ranks is not None:
            self._ranks.sum(state.model.gradient_buffer)
        self._update(self._average_due())
        state.loss_sum += loss * images
        state.correct += int(sums[:, 1].sum())
        return loss

    def _differentiate(self, first: int, end: int, batch_size: int) -> tuple[float, int]:
        """Let the model compute the gradient of a shard, images first..end-1 of the batch. Returns its part of the mean loss,
        and the number of images that were classified correctly.
        """
        state, model = self._state, self._state.model
        if first == end:
            model.gradient_buffer.fill(0)
            return 0.0, 0
        index = self._order[state.images + first : state.images + end]
        labels = state.data.train_labels[index]
        weights = None if state.weights is None else state.weights[index]
        counter = model.dropout_counter
        model.first_of_batch = first
        try:
            loss, logits, dlogits = self._forward(self._images, labels, weights, index, self._transform, batch_size)
        finally:
            model.first_of_batch, model.dropout_counter = 0, counter
        if np.isfinite(float(loss)):
            model.backward(dlogits)
        return float(loss), int(np.count_nonzero(np.asarray(logits).argmax(axis=1) == labels))
