"""The context of a pass through the layers: the backend, the buffers, and what the backward pass needs."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastlenet.backend import OPS, Array, Backend, Count, Graph, Packed, Shape

__all__ = ["Context", "Workspace", "Workspaces"]


class Workspace:
    """Buffers by name, kept between calls. Each is as long as the largest array of its name so far, of any shape."""

    def __init__(self, ops: Backend[Array]) -> None:
        self._empty = ops.empty
        self._buffers: dict[tuple[object, ...], Array] = {}
        self.made = 0  # the number of buffers made so far, including those that replaced smaller ones

    def take(self, name: tuple[object, ...], shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """Returns an array with undefined numbers. The next call with this name returns the same memory."""
        key, size = (*name, dtype), math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[key] = self._empty((size,), dtype)
            self.made += 1
        return buffer[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """The size of all buffers in bytes."""
        return sum(buffer.nbytes for buffer in self._buffers.values())


class Workspaces(threading.local):
    """The workspaces that no pass of this thread is using.

    A pass within a pass, in a signal handler or a finaliser, finds none free and gets a new one.
    """

    def __init__(self, ops: Backend[Array]) -> None:
        self._ops, self._free = ops, list[Workspace]()

    def take(self) -> Workspace:
        return self._free.pop() if self._free else Workspace(self._ops)

    def give_back(self, workspace: Workspace) -> None:
        self._free[:] = [workspace]  # keeps one only


class _Calls:
    """How many ops were called."""

    def __init__(self) -> None:
        self.number = 0


class _Counted:
    """A backend that counts the calls of its ops."""

    def __init__(self, ops: Backend[Array], calls: _Calls) -> None:
        self._ops, self._calls = ops, calls

    def __getattr__(self, name: str) -> object:
        function = getattr(self._ops, name)
        if name not in OPS:
            return function

        def counted(*arguments: object, **options: object) -> object:
            self._calls.number += 1
            return function(*arguments, **options)

        return counted


class Context:
    """A pass through the layers. The model passes it to a layer's `forward` and `backward`.

    ops: the backend; compute with its ops. In a model of precision bf16, some layers get fastlenet.bf16.
    training: whether a backward pass may follow.
    need_dx: in `backward`, whether the gradient with respect to the layer's input is needed.
    algorithm: of fused convolutions, "direct" or "winograd".
    seed, counter: for random numbers. The counter is different for every layer and every training step. renewed_counter: the
    same for ops, of which each launch of a captured pass takes its own.
    first: the place of the first example in its batch; it is above 0 where a batch is computed in parts. The random numbers of
    an example belong to its place in the batch.

    The arrays that it returns have undefined numbers until the layer writes them. The model uses their memory again in its next
    pass, so a layer may return them or save them for its backward pass, but must not keep them.
    """

    def __init__(
        self,
        ops: Backend[Array],
        workspace: Workspace,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array] | None = None,
        *,
        training: bool = False,
        algorithm: str = "direct",
        seed: int = 0,
        dropout_counter: int | Count = 0,
        first: int = 0,
        packed: Mapping[str, Packed[Array]] | None = None,
        rounding: Backend[Array] | None = None,
    ) -> None:
        self._exact, self._rounding = ops, rounding or ops  # the ops of the layers that compute in float32, and of the others
        self.ops, self.training, self.algorithm, self.seed = ops, training, algorithm, seed
        self.need_dx = True
        self.graphs: dict[str, Graph[Array]] = {}  # the graphs "forward" and "backward"
        self.captures = False  # whether its ops are being captured
        self.key: tuple[object, ...] = ()  # the key of its graphs in the model
        self.y_shape: Shape = ()  # of the pass's output
        self._workspace, self._parameters, self._gradients = workspace, parameters, gradients or {}
        self._packed = packed or {}
        self._dropout_counter, self._first = dropout_counter, first
        self.reads_first = False  # whether a layer has read `first`
        self._saved: dict[int, tuple[object, ...]] = {}
        self._at, self._name, self._output = 0, "", "y"
        self._last = False
        self._callers: Array | None = None  # the output of the last layer

    # --- for layers ---

    def parameter(self, key: str) -> Array:
        """Returns the layer's parameter of that name in `shapes`. Do not change it."""
        return self._parameters[f"{self._name}.{key}"]

    def weight(self, key: str) -> Array | Packed[Array]:
        """Returns the parameter, or in a frozen model what the backend has packed of it, for an op that takes both."""
        return self._packed[f"{self._name}.{key}"] if self._packed else self.parameter(key)

    def gradient(self, key: str) -> Array:
        """Returns the array for the gradient of that parameter. `backward` must overwrite all of it."""
        return self._gradients[f"{self._name}.{key}"]

    def output(self, shape: Shape) -> Array:
        """Returns a float32 array to write and return: y in `forward`, dx in `backward`. shape: with n."""
        if self._last:
            self._callers = self.ops.empty(shape)
            return self._callers
        return self._workspace.take((self._at, self._output), shape)

    def scratch(self, key: str, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """Returns an array for the layer's own use, one per name. It keeps its numbers until the end of the backward pass."""
        return self._workspace.take((self._at, "scratch", key), shape, dtype)

    def save(self, *values: object) -> None:
        """Save arrays of this pass, shapes or numbers for `backward`, which finds them in `saved`."""
        self._saved[self._at] = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """The values that `forward` saved in this pass."""
        return self._saved[self._at]

    @property
    def first(self) -> int:
        self.reads_first = True
        return self._first

    @property
    def counter(self) -> int:
        return operator.index(self.renewed_counter)

    @property
    def renewed_counter(self) -> int:
        # The layer's position is in the bits above the steps, so the counters of two layers are never equal.
        return cast(int, self._dropout_counter + (self._at << 48))

    # --- for the model ---

    def enter(
        self,
        at: int,
        name: str,
        *,
        last: bool = False,
        output: str = "y",
        need_dx: bool = True,
        rounds: bool = False,
    ) -> None:
        """Set the layer of the context, by its position and name. last: its output goes to the caller of the model. rounds:
        whether it computes in the precision of the model.
        """
        self.ops = self._rounding if rounds else self._exact
        self._at, self._name, self._last, self._output, self.need_dx = at, name, last, output, need_dx

    def own(self, y: Array) -> Array:
        """Returns the output as the caller's own array, since a layer may have returned its input or a view of it."""
        if y is self._callers:
            return y
        copy = self.ops.empty(y.shape, y.dtype)
        copy[...] = y
        return copy

    def capture(self, name: str, function: Callable[[Array], Array | None], subject: Array) -> Array | None:
        """Call function(subject), which runs layers in this context, and capture its ops as the graph of that name.

        The graph is not kept if a signal handler or a finaliser called ops meanwhile, since it then contains these too.
        """
        self.graphs.pop(name, None)
        exact, rounding, calls = self._exact, self._rounding, _Calls()
        self._exact, self._rounding = (cast("Backend[Array]", _Counted(ops, calls)) for ops in (exact, rounding))
        self.ops, self.captures = self._exact, True
        try:
            graph = exact.Graph(function, subject)
        finally:
            self.ops = self._exact = exact
            self._rounding, self.captures = rounding, False
        if graph.calls == calls.number:
            self.graphs[name] = graph
        return cast("Array | None", graph.result)
