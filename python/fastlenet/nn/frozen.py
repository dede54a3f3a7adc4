"""A model's snapshot for inference, and the shortest way through it for a few images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastlenet.nn.plan import Step, run_forward
from fastlenet.nn.running import Array, Pass, Workspace

__all__ = ["Frozen"]

_FEW = 4  # images for which it pays to have the weights in other layouts, and to spare Python's part of a pass


class Frozen:
    """A model's snapshot for inference, made by `Sequential.freeze`; safe from several threads at once."""

    def __init__(self, steps: Sequence[Step], parameters: Mapping[str, Array], ops: ModuleType, algorithm: str) -> None:
        self._steps, self._parameters, self._ops, self._algorithm = steps, parameters, ops, algorithm
        self._finite = all(bool(np.isfinite(array).all()) for array in parameters.values())
        self._packed: dict[str, Array] = {}
        for step in steps:
            name = f"{step.name}.weight"
            if name in parameters:
                packed = step.layer.pack(parameters[name], ops, algorithm)
                if packed is not None:
                    self._packed[name] = packed
        self._thread = threading.local()

    def __call__(self, x: Array) -> Array:
        """x: (n, ...) float32 -> the last layer's output, an array of the caller's own."""
        thread = self._thread
        if not hasattr(thread, "workspace"):
            thread.workspace, thread.recordings = Workspace(self._ops), {}
        if len(x) > _FEW:
            return run_forward(self._steps, x, self._pass(self._ops, few=False))
        recording: _Recording | None = thread.recordings.get(x.shape)
        if recording is not None:
            return recording.replay(x)
        recording = _Recording(self._ops)
        y = run_forward(self._steps, x, self._pass(recording, few=True))
        if recording.finish(x, y):
            thread.recordings[x.shape] = recording
        return y

    def _pass(self, backend: ModuleType, *, few: bool) -> Pass:
        workspace: Workspace = self._thread.workspace
        return Pass(
            backend,
            workspace,
            self._parameters,
            training=False,
            skip_zeros=few and self._finite,  # what the zeros of x would meet is finite
            packed=self._packed if few else {},
            algorithm=self._algorithm,
        )


class _Recording(ModuleType):
    """A backend that passes every op on to another and notes the call. All that lies between the first op's input and the last
    one's output is in the workspace; so the same calls, with these two exchanged, are the pass for another x of that shape.
    """

    def __init__(self, ops: ModuleType) -> None:
        super().__init__(ops.__name__)
        self._ops = ops
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._first: Callable[[Array], Any]
        self._last: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._ops, name)
        if name == "empty":
            return function

        def run(*arguments: Any, **options: Any) -> Any:
            self._calls.append((function, arguments, options))
            return function(*arguments, **options)

        return run

    def finish(self, x: Array, y: Array) -> bool:
        """Whether the calls can be replayed: x goes into the first alone, and y is what the last one fills."""
        if len(self._calls) < 2 or self._calls[-1][2].get("out") is not y:
            return False
        inputs = [call for call in self._calls if any(value is x or np.may_share_memory(value, x) for value in _arrays(call))]
        if len(inputs) != 1 or inputs[0] is not self._calls[0] or inputs[0][1][0] is not x:
            return False
        (first, (_, *rest), options), *between, (last, arguments, last_options) = self._calls
        del last_options["out"]
        self._first = partial(_call_with, first, rest, options)
        self._between = [partial(function, *values, **named) for function, values, named in between]
        self._last, self._shape = partial(last, *arguments, **last_options), y.shape
        return True

    def replay(self, x: Array) -> Array:
        self._first(x)
        for call in self._between:
            call()
        y: Array = self._ops.empty(self._shape)
        self._last(out=y)
        return y


def _call_with(function: Callable[..., Any], rest: Sequence[Any], options: Mapping[str, Any], x: Array) -> Any:
    return function(x, *rest, **options)


def _arrays(call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> list[Array]:
    """The arrays among a call's arguments."""
    _, arguments, options = call
    values = [*arguments, *options.values()]
    values += [item for value in values if isinstance(value, tuple) for item in value]
    return [value for value in values if isinstance(value, np.ndarray)]
