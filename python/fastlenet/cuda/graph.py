"""Graphs: work on the GPU that is captured once and then launched as a whole, without Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, overload

from fastlenet.backend import Array
from fastlenet.cuda.array import DeviceArray, device, uses_noted
from fastlenet.cuda.call import Call

__all__ = ["Graph", "synchronize"]


class Graph:
    """A captured sequence of op calls, which `launch` repeats as a whole, as `fastlenet.ops.Graph` does.

    Graph(function, *inputs) does the work of function(*inputs) and captures it. launch() queues it again and returns at once.
    launch(copy_of=x) first copies x, an array on the device or of NumPy, to the only input, and returns a copy of the array
    that the function returned. The graph keeps the arrays alive, and the memory that the function allocates.

    While the device captures, it runs nothing; the first launch does the work. Numbers on the device (Rate, Count) are read
    again in each launch; Python numbers do not change. Reading a result, waiting, or passing a NumPy array to an op voids the
    graph: the function is then called once more without a capture, and `reason` names the cause. A graph that is made while
    another one is captured is void, and its work goes to the other one. No other thread may use the device during a capture.
    """

    captures_one_thread: ClassVar[bool] = False
    captures_steps: ClassVar[bool] = True
    _capturing: ClassVar[bool] = False

    def __init__(self, function: Callable[..., object], *inputs: DeviceArray) -> None:
        self._inputs = inputs
        self.reason: str | None = "another graph was captured while this one was made, and has its work"
        before = Call.made
        if Graph._capturing:
            self.result = function(*inputs)
        else:
            self._capture(function)
        self.calls = Call.made - before

    def _capture(self, function: Callable[..., object]) -> None:
        backend, failed = device(), None
        backend.begin_graph()
        Graph._capturing = True
        try:
            with uses_noted() as self._uses:
                self.result = function(*self._inputs)
        except ValueError as error:
            failed = error
        finally:
            Graph._capturing = False
            self._graph = backend.end_graph()
        self.reason = self._graph.reason or None
        if failed is not None and self.reason is None:  # an error of the function's own
            raise failed
        if self.reason is None:
            self._graph.launch()
        else:
            self.result = function(*self._inputs)

    def reads(self, *arrays: DeviceArray) -> bool:
        """Whether these are the inputs: the same memory, shapes and dtypes."""
        return len(arrays) == len(self._inputs) and all(map(_same, arrays, self._inputs))

    @overload
    def launch(self) -> None: ...

    @overload
    def launch(self, *, copy_of: DeviceArray | Array) -> DeviceArray | None: ...

    def launch(self, *, copy_of: DeviceArray | Array | None = None) -> DeviceArray | None:
        """Queue the work once, and return at once. copy_of: new numbers for the input; returns a copy of the result then."""
        if self.reason is not None:
            raise RuntimeError(f"Graph: it cannot be launched; {self.reason}")
        if copy_of is not None:
            self._copy(copy_of)
        self._graph.launch()
        return self.result.copy() if copy_of is not None and isinstance(self.result, DeviceArray) else None

    def _copy(self, x: DeviceArray | Array) -> None:
        if len(self._inputs) != 1:
            raise ValueError(f"Graph: copy_of expects a graph of one input, this one has {len(self._inputs)}")
        call, (target,) = Call("Graph"), self._inputs
        array = call.input("copy_of", x, target.dtype)
        call.expect_shape("copy_of", target.shape, array)
        target[...] = array

    @staticmethod
    def void(reason: str) -> None:
        """Void the graph that is being captured, if any. Call it before computing without ops. reason: one line."""
        if Graph._capturing:
            device().void_graph(reason)  # the first reason stays


def _same(a: object, b: DeviceArray) -> bool:
    return isinstance(a, DeviceArray) and (a.address, a.shape, a.dtype) == (b.address, b.shape, b.dtype)


def synchronize() -> None:
    """Wait for all work so far. Raises ValueError if that work met a wrong value, and DeviceError if the device failed."""
    device().synchronize()
