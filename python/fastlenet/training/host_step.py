"""The training step on the CPU as one graph: Python's part is the launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from fastlenet.backend import Array, Count, Rate
from fastlenet.nn.context import Context
from fastlenet.ops import Graph
from fastlenet.optim import SGD, Adam, AdamW, Muon
from fastlenet.training.state import RunState
from fastlenet.training.step import Average, TrainingStep

__all__ = ["HostStep"]

_MOST_GRAPHS = 16
_CALLS = 6  # gather, forward pass, loss, stop_unless_finite, backward pass, optimizer; and a second gather with a teacher
_CHANGING = "lr", "steps", "model", "buffers"  # of an optimizer


@dataclass(frozen=True)
class _Captured:
    """A graph of a step, the pass whose graphs it launches, and the arrays of its results."""

    graph: Graph
    run: Context
    loss: Array
    logits: Array


class HostStep(TrainingStep):
    """Makes the steps of a run by captured graphs: one for each batch size, with and without distortions and the average.

    A step of a new kind is made op by op, so that the model captures its passes; the next one is captured, and the others are
    one launch each. A launch ends before the backward pass if the loss is not finite. What a graph cannot contain is made op by
    op: clipping, the average's first step, a penalty of Adam, layers that do more than call ops. A graph has the
    optimizer's settings of its capture; with others, another one is made.
    """

    def __init__(self, state: RunState, rate: Callable[[int], float]) -> None:
        super().__init__(state, rate)
        size = len(self._x)
        self._index, self._labels = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._weights = np.zeros(size, np.float32)
        self._rate, self._steps, self._epoch = np.zeros(()), np.zeros((), np.uint64), np.zeros((), np.uint64)
        self._graphs: dict[Hashable, _Captured | None] = {}  # None: it cannot be captured

    def _compute(self, images: Any, labels: Any, weights: Any, index: Any, transform: Any, average: Average) -> tuple[Any, Any]:
        state, n = self._state, len(index)
        optimizer, model = state.optimizer, state.model
        self._index[:n], self._labels[:n] = index, labels
        if weights is not None:
            self._weights[:n] = weights
        self._rate[...], self._steps[...], self._epoch[...] = optimizer.lr, optimizer.steps, state.epoch
        run = model.training_pass(self._x[:n], self._logits_gradient[:n]) if self._can_capture(average) else None
        key = None if run is None else self._key(images, n, transform, average)
        if run is None or key is None:
            return super()._compute(images, labels, weights, index, transform, average)
        captured = self._graphs.get(key)
        if captured is None and key in self._graphs:
            return super()._compute(images, labels, weights, index, transform, average)
        if captured is None or captured.run is not run:
            return self._capture(key, run, images, n, transform, average)
        captured.graph.launch()
        model.note_forward_pass(run)
        self._check(float(captured.loss))
        optimizer.steps += 1
        return captured.loss, captured.logits

    def _can_capture(self, average: Average) -> bool:
        optimizer = self._state.optimizer
        one_op = type(optimizer) in (SGD, AdamW, Muon) or (type(optimizer) is Adam and not optimizer.weight_decay)
        return one_op and self._clip is None and average != "begin"

    def _key(self, images: Array, n: int, transform: Any, average: Average) -> Hashable:
        """Everything that a graph has fixed, or None."""
        state = self._state
        optimizer, model = state.optimizer, state.model
        settings = [(name, str(value)) for name, value in vars(optimizer).items() if name not in _CHANGING]
        arrays = images, model.parameter_buffer, model.gradient_buffer, *optimizer.buffers.values(), *state.average.values()
        taught = self._all_targets, self._targets
        distorted = None if transform is None else (transform.augmentation, transform.seed)
        objects = map(id, (optimizer, state.recipe, *arrays, *taught))  # which the graph, or the state, keeps alive
        return n, average, distorted, state.weights is None, tuple(settings), tuple(objects)

    def _capture(self, key: Hashable, run: Context, images: Array, n: int, transform: Any, average: Average) -> tuple[Any, Any]:
        """Make a step, and capture it."""
        state = self._state
        optimizer: Any = state.optimizer
        ops = state.model.ops  # fastlenet.ops, or a profiler of them
        kind = cast("type[Graph]", ops.Graph)
        kept = optimizer.lr, optimizer.steps
        results: list[Any] = []
        weights = None if state.weights is None else self._weights[:n]
        if transform is not None:
            transform = replace(transform, epoch=Count(self._epoch))

        def step() -> None:
            data = state.data
            out = self._x[:n]
            ops.gather_images(images, self._index[:n], mean=data.mean, std=data.std, transform=transform, out=out)
            run.graphs["forward"].launch()
            logits = cast("Array", run.graphs["forward"].result)
            loss, _ = self._lose(logits, self._labels[:n], weights, self._index[:n], None)
            state.model.note_forward_pass(run)
            self._check(float(loss))
            kind.stop_unless_finite(loss)
            run.graphs["backward"].launch()
            optimizer.lr, optimizer.steps = Rate(self._rate), Count(self._steps)
            self._update(average)
            results.extend((loss, logits))

        try:
            graph = kind(step)
        finally:
            optimizer.lr, optimizer.steps = kept
        optimizer.steps += 1
        loss, logits = results
        if len(self._graphs) >= _MOST_GRAPHS:
            self._graphs.clear()
        if graph.reason is not None:
            self._graphs[key] = None
        elif graph.calls == _CALLS + (self._targets is not None):  # and no others, of a signal handler
            self._graphs[key] = _Captured(graph, run, loss, logits)
        return loss, logits
