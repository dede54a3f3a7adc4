"""Frozen models for inference, with captured passes for a few images."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from fastlenet.backend import FEW_IMAGES, Array, Backend, Graph, Shape
from fastlenet.nn.context import Context, Workspace, Workspaces
from fastlenet.nn.fusion import Step, expect_examples, run_forward
from fastlenet.nn.precision import rounding_ops
from fastlenet.nn.tensors import as_input

__all__ = ["Frozen"]

_SHAPES = 8  # the number of shapes whose graphs are kept


class _Graphs(threading.local):
    """A thread's captured passes, by the shape of x."""

    def __init__(self) -> None:
        self.by_shape: OrderedDict[Shape, Graph[Array]] = OrderedDict()


class Frozen:
    """A copy of a model for inference. Make it with `Sequential.freeze`.

    You may call it from several threads at once, and from signal handlers and finalisers. The first call with up to four images
    of a shape captures its ops, and later calls repeat them; the graphs of the last eight shapes are kept. You can copy and
    pickle it.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        parameters: Mapping[str, Array],
        ops: Backend[Array],
        algorithm: str,
        precision: str = "float32",
    ) -> None:
        self._steps, self._parameters, self._ops = steps, parameters, ops
        self._algorithm, self._precision = algorithm, precision
        self._rounding = rounding_ops(precision, ops) or ops
        self._packed = {
            name: (self._rounding if step.rounds else ops).Packed(parameters[name], algorithm)
            for step in steps
            for name in (f"{step.name}.{key}" for key in step.layer.packs)
        }
        self._captures = ops.Graph.captures_one_thread
        self._graphs = _Graphs()
        self._workspaces = Workspaces(ops)

    def __call__(self, x: Array) -> Array:
        """Returns the last layer's output for x, (n, ...) float32. The array belongs to the caller. x: as of a Sequential."""
        if type(x) is not np.ndarray:
            x = as_input("x", x)
        shape = getattr(x, "shape", None)
        graph = self._graphs.by_shape.get(shape) if type(shape) is tuple else None
        if graph is not None:
            try:
                return cast(Array, graph.launch(copy_of=x))
            except (TypeError, RuntimeError):  # a wrong array, for which the layers raise the error; or the graph is void
                pass
        elif self._captures and type(x) is np.ndarray and x.dtype == np.float32 and x.ndim and len(x) <= FEW_IMAGES:
            return self._capture(x)
        expect_examples(x)
        workspace = self._workspaces.take()
        try:
            return run_forward(self._steps, x, self._pass(workspace))
        finally:
            self._workspaces.give_back(workspace)

    def _capture(self, x: Array) -> Array:
        """Make a pass in its own workspace and capture it, to repeat it for this shape without Python."""
        mine = self._ops.empty(x.shape)
        mine[...] = x
        run = self._pass(Workspace(self._ops))
        y = run.capture("forward", lambda x: run_forward(self._steps, x, run), mine)
        graphs = self._graphs.by_shape
        if "forward" in run.graphs:
            graphs[x.shape] = run.graphs["forward"]
        if len(graphs) > _SHAPES:
            graphs.popitem(last=False)
        result: Array = cast(Array, y).copy()
        return result

    def _pass(self, workspace: Workspace) -> Context:
        return Context(
            self._ops,
            workspace,
            self._parameters,
            algorithm=self._algorithm,
            packed=self._packed,
            rounding=self._rounding,
        )

    def __getstate__(self) -> dict[str, object]:
        own = {"_packed", "_captures", "_graphs", "_workspaces", "_rounding"}
        state = {key: value for key, value in vars(self).items() if key not in own}
        return state | {"_ops": self._ops.__name__}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        ops, parameters = importlib.import_module(str(state["_ops"])), {}
        for name, array in self._parameters.items():
            parameters[name] = ops.empty(array.shape)
            parameters[name][...] = array
            parameters[name].flags.writeable = False
        Frozen.__init__(self, self._steps, parameters, ops, self._algorithm, self._precision)
