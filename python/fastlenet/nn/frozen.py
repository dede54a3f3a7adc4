"""A model's snapshot for inference, and the shortest way through it for a few images."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastlenet import ops as kernel_ops
from fastlenet._core import Recording
from fastlenet.backend import Array, Backend, Shape
from fastlenet.nn.context import Context, Workspace, Workspaces
from fastlenet.nn.fusion import Step, expect_examples, replayable, run_forward

__all__ = ["Frozen"]

_FEW = 4  # images for which it pays to have the weights in other layouts, and to spare Python's part of a pass
_RECORDINGS = 8  # shapes whose passes are kept: those that came last


class _Recordings(threading.local):
    """A thread's recorded passes, by the shape of x, each with what it writes its result to."""

    def __init__(self) -> None:
        self.by_shape: OrderedDict[Shape, tuple[Recording, Array]] = OrderedDict()


class Frozen:
    """A model's snapshot for inference, made by `Sequential.freeze`.

    Calls are safe from several threads at once, and from signal handlers and finalisers. The first call with up to four images
    of a shape notes the ops that the later ones repeat; the last eight shapes are kept. Copies and pickles are snapshots too.
    """

    def __init__(self, steps: Sequence[Step], parameters: Mapping[str, Array], ops: Backend[Array], algorithm: str) -> None:
        self._steps, self._parameters, self._ops, self._algorithm = steps, parameters, ops, algorithm
        self._finite = all(bool(np.isfinite(array).all()) for array in parameters.values())
        self._packed: dict[str, Array] = {}
        for step in steps:
            name = f"{step.name}.weight"
            if name in parameters:
                packed = step.layer.pack(parameters[name], ops, algorithm)
                if packed is not None:
                    self._packed[name] = packed
        self._replays = ops is kernel_ops and replayable(steps)
        self._recordings = _Recordings()
        self._workspaces = Workspaces(ops)

    def __call__(self, x: Array) -> Array:
        """x: (n, ...) float32 -> the last layer's output, an array of the caller's own."""
        shape = getattr(x, "shape", None)
        recorded = self._recordings.by_shape.get(shape) if type(shape) is tuple else None
        if recorded is not None:
            recording, result = recorded
            y: Array | None = recording.run(x, result)
            if y is not None:
                return y
        elif self._replays and type(x) is np.ndarray and x.dtype == np.float32 and x.ndim and len(x) <= _FEW:
            return self._record(x)
        expect_examples(x)
        workspace = self._workspaces.take()
        try:
            return run_forward(self._steps, x, self._pass(x, workspace))
        finally:
            self._workspaces.give_back(workspace)

    def _record(self, x: Array) -> Array:
        """A pass in a workspace of its own, to be repeated for that shape without Python's part."""
        mine = self._ops.empty(x.shape)
        mine[...] = x
        run = self._pass(mine, Workspace(self._ops))
        run.replays = True
        with run.record("forward", mine):
            result = run_forward(self._steps, mine, run)
        y: Array = result.copy()
        recordings = self._recordings.by_shape
        if "forward" in run.recordings:
            recordings[x.shape] = run.recordings["forward"], result
        if len(recordings) > _RECORDINGS:
            recordings.popitem(last=False)
        return y

    def _pass(self, x: Array, workspace: Workspace) -> Context:
        few = len(x) <= _FEW
        return Context(
            self._ops,
            workspace,
            self._parameters,
            training=False,
            skip_zeros=few and self._finite,  # what the zeros of x would meet is finite
            packed=self._packed if few else {},
            algorithm=self._algorithm,
        )

    def __getstate__(self) -> dict[str, Any]:
        own = {"_finite", "_packed", "_replays", "_recordings", "_workspaces"}
        state = {key: value for key, value in vars(self).items() if key not in own}
        return state | {"_ops": self._ops.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ops, parameters = importlib.import_module(state["_ops"]), {}
        for name, array in state["_parameters"].items():
            parameters[name] = ops.empty(array.shape)
            parameters[name][...] = array
            parameters[name].flags.writeable = False
        self.__dict__.update(state)
        Frozen.__init__(self, state["_steps"], parameters, ops, state["_algorithm"])
