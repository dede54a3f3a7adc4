"""The training passes of a model: captured for the last shapes, and repeated when the same arrays have other numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from fastlenet.backend import Array, Backend, Count
from fastlenet.nn.context import Context, Workspace
from fastlenet.nn.fusion import Step, run_backward, run_forward
from fastlenet.nn.precision import rounding_ops

__all__ = ["Settings", "TrainingPasses"]

_SHAPES = 2  # the number of shapes whose passes are kept: full batches, and the last batch of an epoch


class Settings(NamedTuple):
    """What may change from pass to pass: the fields of these names of a Sequential."""

    ops: Backend[Array]
    algorithm: str
    precision: str
    seed: int
    first_of_batch: int
    dropout_counter: int


class TrainingPasses:
    """Makes the training passes of a model, in buffers that all of them share."""

    def __init__(
        self, steps: Sequence[Step], parameters: Mapping[str, Array], gradients: Mapping[str, Array], ops: Backend[Array]
    ) -> None:
        self._steps, self._parameters, self._gradients = steps, parameters, gradients
        self._workspace = Workspace(ops)
        self._made = 0  # the buffers of the workspace at the last capture
        self._kept: OrderedDict[tuple[object, ...], Context] = OrderedDict()
        self._launch_counter = np.zeros((), np.uint64)  # dropout_counter, where the launches of captured passes read it
        self._reads_first = False  # whether a layer reads the place of the first example in its batch
        self.last: Context | None = None  # the pass that backward follows

    def forward(self, x: Array, settings: Settings) -> tuple[Context, Array]:
        """Returns a pass on x and its output, which belongs to the caller. `last` is None until the caller notes the pass."""
        run = self._kept.get(self._key(x, settings))
        self.last = None  # its saved arrays are overwritten now
        self._renew_counter(settings)
        graph = run.graphs.get("forward") if run is not None else None
        if run is None or graph is None or not graph.reads(x):
            run, y = self._capture(x, settings)
        elif graph.reason is None:
            graph.launch()
            y = cast(Array, graph.result).copy()
        else:
            run = self._context(settings)
            y = run_forward(self._steps, x, run)
        run.y_shape = y.shape
        return run, y

    def backward(self, dy: Array, need_dx: bool) -> Array | None:
        """Fills the gradients of the last pass; as Sequential.backward."""
        run = self.last
        if run is None:
            raise RuntimeError("backward: call the model in training mode first; it needs the activations of that pass")
        expected, got = run.y_shape, getattr(dy, "shape", None)
        if got is None:
            raise TypeError(f"backward: dy expects an array of shape {expected}, as the output, got {type(dy).__name__}")
        if got != expected:
            raise ValueError(f"backward: dy expects shape {expected}, as the output, got {tuple(got)}")
        if need_dx:
            dx = run_backward(self._steps, dy, run, need_dx=True)
            assert dx is not None
            copy: Array = dx.copy()
            return copy
        forward, graph = run.graphs.get("forward"), run.graphs.get("backward")
        if forward is None or forward.reason is not None or (graph is not None and graph.reason is not None):
            run_backward(self._steps, dy, run, need_dx=False)
        elif graph is not None and graph.reads(dy):
            graph.launch()
        else:
            run.capture("backward", lambda dy: run_backward(self._steps, dy, run, need_dx=False), dy)
            self._keep(run.key, run)
        return None

    def captured(self, x: Array, dy: Array, settings: Settings) -> Context | None:
        """Returns the captured pass for these arrays, with both graphs and with its counter renewed, or None."""
        self._renew_counter(settings)
        run = self._kept.get(self._key(x, settings))
        graphs = {} if run is None else run.graphs
        found = all(
            name in graphs and graphs[name].reason is None and graphs[name].reads(array)
            for name, array in (("forward", x), ("backward", dy))
        )
        return run if found else None

    def _key(self, x: Array, settings: Settings) -> tuple[object, ...]:
        """Everything that the arrays and ops of a pass depend on."""
        shape = getattr(x, "shape", None)
        numbers = settings.seed, settings.first_of_batch if self._reads_first else None
        return settings.ops, settings.algorithm, settings.precision, numbers, shape if type(shape) is tuple else None

    def _renew_counter(self, settings: Settings) -> None:
        """Give the next pass its counter."""
        if settings.ops.Graph.captures_one_thread:
            self._launch_counter[...] = settings.dropout_counter

    def _context(self, settings: Settings) -> Context:
        ops = settings.ops
        return Context(
            ops,
            self._workspace,
            self._parameters,
            self._gradients,
            training=True,
            algorithm=settings.algorithm,
            seed=settings.seed,
            dropout_counter=Count(self._launch_counter) if ops.Graph.captures_one_thread else settings.dropout_counter,
            first=settings.first_of_batch,
            rounding=rounding_ops(settings.precision, ops),
        )

    def _capture(self, x: Array, settings: Settings) -> tuple[Context, Array]:
        """Make a pass. Captures its ops if possible, to repeat them when the same array x has other numbers."""
        run = self._context(settings)
        if not settings.ops.Graph.captures_one_thread:
            return run, run_forward(self._steps, x, run)
        y = run.capture("forward", lambda x: run_forward(self._steps, x, run), x)
        self._reads_first |= run.reads_first
        self._keep(self._key(x, settings), run)
        return run, cast(Array, y).copy()

    def _keep(self, key: tuple[object, ...], run: Context) -> None:
        """Keep the graphs of the last shapes. Drops all graphs if the workspace has replaced a buffer."""
        if self._made != self._workspace.made:
            self._made = self._workspace.made
            self._kept.clear()
        run.key = key
        self._kept[key] = run
        self._kept.move_to_end(key)
        if len(self._kept) > _SHAPES:
            self._kept.popitem(last=False)
