"""The training step on a GPU: one captured graph per step, on a data set on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from fastlenet.augment import Augmentation
from fastlenet.cuda.array import DeviceArray, device, empty, from_numpy
from fastlenet.cuda.graph import Graph
from fastlenet.cuda.ops import prepare
from fastlenet.cuda.scalars import Count, Rate
from fastlenet.training.state import DivergedError, RunState
from fastlenet.training.step import Average, TrainingStep

__all__ = ["CapturedStep"]


class CapturedStep(TrainingStep):
    """Makes the steps of a run by captured graphs: one for each batch size, with and without distortions, and for each change
    of the average of the weights. A graph is made at its first use, with the optimizer's settings at that time.

    Everything that changes from launch to launch is on the device: the position in the epoch's order and rates, and the sums so
    far. The host sets them at the start of an epoch, and reads them at its end or when a loss is read.
    """

    def __init__(self, state: RunState, rate: Callable[[int], float]) -> None:
        super().__init__(state, rate)
        data, size = state.data, len(self._x)
        self._images, self._all_labels = from_numpy(data.train_images), from_numpy(data.train_labels.astype(np.int64))
        self._all_weights = None if state.weights is None else from_numpy(state.weights)
        self._all_numbers = empty((len(data.train_images),), np.int64)  # in the order of the epoch
        self._rates = empty((max(1, state.steps),), np.float64)
        self._index, self._labels = empty((size,), np.int64), empty((size,), np.int64)
        self._weights = None if state.weights is None else empty((size,))
        self._rate = empty((), np.float64)
        self._layout: np.dtype[np.void] = device().progress
        self._progress = empty((self._layout.itemsize,), np.uint8)
        self._host_rates: list[float] = []
        self._graphs: dict[tuple[int, Augmentation | None, Average], Graph] = {}
        self._unread = False

    def start(self) -> None:
        super().start()
        state = self._state
        if self._transform is not None:
            prepare(self._transform, self._images)
        first = state.optimizer.steps
        self._host_rates = [self._rate_of(first + step) for step in range(state.batches - state.position)]
        self._rates[: len(self._host_rates)][...] = self._host_rates
        self._all_numbers[...] = self._order
        progress = np.zeros(1, self._layout)
        progress["loss_sum"], progress["correct"] = state.loss_sum, state.correct
        progress["images"], progress["epoch"] = state.images, state.epoch
        progress["all_steps"], progress["dropout_counter"] = first, state.model.dropout_counter
        self._progress[...] = progress.view(np.uint8)
        self._first = first
        if not self._graphs and state.recipe.batch_size_end > state.recipe.batch_size:
            self._make_buffers()

    def run(self, images: int) -> DeviceArray:
        """Queue one step. Returns its mean loss; float() waits for it."""
        state = self._state
        loss = self._launch(images)
        self._unread = True
        state.optimizer.lr = self._host_rates[state.optimizer.steps - self._first]
        state.optimizer.steps += 1
        state.model.dropout_counter += 1
        return loss

    def wait(self) -> None:
        if not self._unread:
            return
        state = self._state
        progress = self._progress.numpy().view(self._layout)[0]
        state.loss_sum, state.correct = float(progress["loss_sum"]), int(progress["correct"])
        self._unread = False
        if not np.isfinite(state.loss_sum):
            raise DivergedError(f"the loss is {state.loss_sum} in epoch {state.epoch + 1} by step {state.position}")

    def _make_buffers(self) -> None:
        """Let the model make the buffers of the largest batch, so that the graphs of smaller batches share them."""
        model = self._state.model
        kept = model.dropout_counter
        self._x.fill(0)
        self._logits_gradient.fill(0)
        model(self._x)
        model.backward(self._logits_gradient)
        model.dropout_counter = kept

    def _launch(self, images: int) -> DeviceArray:
        """Queue the next step. Returns the array of its loss. A step that cannot be captured is queued op by op each time."""
        average = self._average_due()
        key = images, None if self._transform is None else self._transform.augmentation, average
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = Graph(lambda: self._queue(images, average))
        elif graph.reason is not None:
            return self._queue(images, average)
        else:
            graph.launch()
        loss = graph.result
        assert isinstance(loss, DeviceArray)
        return loss

    def _queue(self, images: int, average: Average) -> DeviceArray:
        """The work of a step, to be captured."""
        backend, progress = device(), self._progress.address
        index, labels = self._index[:images], self._labels[:images]
        weights = None if self._weights is None else self._weights[:images]
        data = self._all_numbers.address, self._all_labels.address, _address(self._all_weights), self._rates.address
        outputs = index.address, labels.address, _address(weights), self._rate.address
        backend.begin_step(progress, *data, *outputs, images)
        with self._numbers_on_the_device() as transform:
            loss, logits = self._compute(self._images, labels, weights, index, transform, average)
        backend.end_step(progress, loss.address, logits.address, labels.address, images, logits.shape[1])
        result: DeviceArray = loss
        return result

    @contextmanager
    def _numbers_on_the_device(self) -> Iterator[Any]:
        """A context in which optimizer and model use the numbers on the device. Gives the transform with these numbers."""
        optimizer: Any = self._state.optimizer
        model: Any = self._state.model
        transform: Any = self._transform
        kept = optimizer.lr, optimizer.steps, model.dropout_counter
        optimizer.lr, optimizer.steps = Rate(self._rate), self._count("all_steps")
        model.dropout_counter = self._count("dropout_counter")
        try:
            yield None if transform is None else replace(transform, epoch=self._count("epoch"))
        finally:
            optimizer.lr, optimizer.steps, model.dropout_counter = kept

    def _count(self, name: str) -> Count:
        fields = self._layout.fields
        assert fields is not None
        start = fields[name][1]
        return Count(self._progress[start : start + 8])

    def _check(self, loss: object) -> None:
        """Do nothing: the loss is known only after the graph has run."""


def _address(array: DeviceArray | None) -> int:
    return 0 if array is None else array.address
