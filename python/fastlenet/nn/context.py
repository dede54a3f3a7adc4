"""What a pass through the layers carries along: the backend, its buffers, and what the backward pass will need."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastlenet.backend import OPS, Array, Backend, Graph, Shape

__all__ = ["Context", "Workspace", "Workspaces"]


class Workspace:
    """Buffers by name, kept between calls: each as long as the largest array of its name so far, whatever their shapes."""

    def __init__(self, ops: Backend[Array]) -> None:
        self._empty = ops.empty
        self._buffers: dict[tuple[object, ...], Array] = {}
        self.made = 0  # how many buffers it has made, in the place of smaller ones too

    def take(self, name: tuple[object, ...], shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """An array of undefined numbers; the next one of its name lies in the same memory."""
        key, size = (*name, dtype), math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[key] = self._empty((size,), dtype)
            self.made += 1
        return buffer[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(buffer.nbytes for buffer in self._buffers.values())


class Workspaces(threading.local):
    """The workspaces that no pass of this thread is using.

    A pass within a pass, of a signal handler or a finaliser, finds none and takes another one.
    """

    def __init__(self, ops: Backend[Array]) -> None:
        self._ops, self._free = ops, list[Workspace]()

    def take(self) -> Workspace:
        return self._free.pop() if self._free else Workspace(self._ops)

    def give_back(self, workspace: Workspace) -> None:
        self._free[:] = [workspace]  # of several, one is kept


class _Counted:
    """A backend whose ops are counted as they are called."""

    def __init__(self, ops: Backend[Array]) -> None:
        self._ops, self.calls = ops, 0

    def __getattr__(self, name: str) -> object:
        function = getattr(self._ops, name)
        if name not in OPS:
            return function

        def counted(*arguments: object, **options: object) -> object:
            self.calls += 1
            return function(*arguments, **options)

        return counted


class Context:
    """A pass through the layers, as a layer's `forward` and `backward` see it.

    ops: the backend, whose ops the layer calls on its arrays.
    training: whether a backward pass may follow.
    need_dx: in `backward`, whether anybody wants the gradient by the layer's input.
    algorithm: how fused convolutions are to be computed, "direct" or "winograd".
    seed, counter: for random numbers. No two layers have the same counter, in this step of the training or any other.

    The arrays that it hands out hold undefined numbers until the layer writes them, and lie in memory that the model keeps for
    its next pass: a layer returns them, or saves them for its backward pass, and keeps none.
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
        dropout_counter: int = 0,
        skip_zeros: bool = False,
        packed: Mapping[str, Array] | None = None,
    ) -> None:
        self.ops, self.training, self.algorithm, self.seed = ops, training, algorithm, seed
        self.need_dx = True
        self.skip_zeros = skip_zeros  # the weights are known to be finite
        self.graphs: dict[str, Graph[Array]] = {}  # "forward", "backward": what was captured
        self.captures = False  # whether its ops are being captured
        self.key: tuple[object, ...] = ()  # by which the model finds its graphs again
        self.y_shape: Shape = ()  # of what the pass returned
        self._workspace, self._parameters, self._gradients = workspace, parameters, gradients or {}
        self._packed = packed or {}
        self._dropout_counter = dropout_counter
        self._saved: dict[int, tuple[object, ...]] = {}
        self._at, self._name, self._output = 0, "", "y"
        self._last = False
        self._callers: Array | None = None  # what the last layer has got to return

    # --- for layers ---

    def parameter(self, key: str) -> Array:
        """The layer's parameter of that name, as its `shapes` has it. It is only read."""
        return self._parameters[f"{self._name}.{key}"]

    def packed(self, key: str) -> Array | None:
        """What `Layer.pack` has made of that parameter, in a frozen model's pass."""
        return self._packed.get(f"{self._name}.{key}")

    def gradient(self, key: str) -> Array:
        """In `backward`: where the loss's gradient by that parameter is to be written, all of it."""
        return self._gradients[f"{self._name}.{key}"]

    def output(self, shape: Shape) -> Array:
        """A float32 array to be written and returned: y of `forward`, dx of `backward`. shape: with n."""
        if self._last:
            self._callers = self.ops.empty(shape)
            return self._callers
        return self._workspace.take((self._at, self._output), shape)

    def scratch(self, key: str, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """An array for the layer's own use, one for each name; it stays as written until the layer's backward pass is over."""
        return self._workspace.take((self._at, "scratch", key), shape, dtype)

    def save(self, *values: Any) -> None:
        """Keep what `backward` will need, which finds it in `saved`: arrays of this pass, shapes, numbers."""
        self._saved[self._at] = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """What `forward` has saved in the pass that this is the backward pass of."""
        return self._saved[self._at]

    @property
    def counter(self) -> int:
        # Counters of two layers never meet: the position in the network is above all steps.
        return self._dropout_counter + (self._at << 48)

    # --- for what runs the layers ---

    def enter(self, at: int, name: str, *, last: bool = False, backward: bool = False, need_dx: bool = True) -> None:
        """From now on the context is that of the layer at this position, of that name; last: its output is the caller's."""
        self._at, self._name, self._last = at, name, last
        self._output, self.need_dx = "dx" if backward else "y", need_dx

    def own(self, y: Array) -> Array:
        """What the last layer has returned, as an array of the caller's own: a layer may return its input, or a view of it."""
        if y is self._callers:
            return y
        copy = self.ops.empty(y.shape, y.dtype)
        copy[...] = y
        return copy

    def capture(self, name: str, function: Callable[[Array], Array | None], subject: Array) -> Array | None:
        """function(subject), which runs layers in this context, with the ops that it calls captured as the graph of that name.

        Where others called ops meanwhile, in a signal handler or a finaliser, the graph has theirs too, and is not kept.
        """
        self.graphs.pop(name, None)
        ops, counted = self.ops, _Counted(self.ops)
        self.ops, self.captures = cast("Backend[Array]", counted), True
        try:
            graph = ops.Graph(function, subject)
        finally:
            self.ops, self.captures = ops, False
        if graph.calls == counted.calls:
            self.graphs[name] = graph
        return cast("Array | None", graph.result)
