"""Times the ops at the shapes that their descriptions name."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from fastlenet import _core, ops
from fastlenet.testing.description import Arguments, Benchmark, Op
from fastlenet.testing.registry import OPS
from fastlenet.testing.values import Numbers

__all__ = ["Line", "alternate", "line_of", "lines", "peak"]

# The threads of OpenBLAS spin for up to 100 ms after their last work, on the CPUs of whoever is measured next.
_REST = 0.12


@dataclass
class Line:
    """One op on one shape, as its description has it. label: the shape, and how the op is called."""

    op: Op
    label: str
    arguments: Arguments
    inputs: Arguments  # of the forward op, if it is a gradient
    in_torch: bool

    @property
    def name(self) -> str:
        return f"{self.op.name}{self.label}"

    @property
    def flops(self) -> float:
        """Of a dense pass."""
        return self.op.flops(self.arguments)

    @functools.cached_property
    def bytes(self) -> float:
        """That must be read and written, for ops that compute little."""
        if self.flops:
            return 0.0
        if self.op.traffic:
            return self.op.traffic(self.arguments)
        arrays = *self.arguments.values(), *self.op.run(ops, self.arguments)
        return float(sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)))

    def call(self, backend: ModuleType) -> Callable[[], object]:
        """The call on ops or on the reference."""
        return functools.partial(getattr(backend, self.op.name), **self.arguments)


def line_of(op: Op, timed: Benchmark) -> Line:
    """A call that follows a forward pass of ours."""
    inputs, _, arguments = op.chain(timed.case, Numbers("normals", op.name), ops, timed.changes)
    return Line(op, timed.label, arguments, inputs, timed.torch)


def lines(only: str = "") -> Iterator[Line]:
    """Those with that text in their names."""
    return (line_of(op, timed) for op in OPS.values() for timed in op.benchmarks if only in f"{op.name}{timed.label}")


def peak(threads: int, seconds: float = 0.3) -> float:
    """Multiply-adds as fast as this CPU does them at the level in use, in FLOP/s: the best of three runs."""
    return max(_core.multiply_add_peak(threads, seconds) for _ in range(3))


def alternate(functions: Mapping[str, Callable[[], object]], rounds: int, seconds: float = 0.02) -> dict[str, list[float]]:
    """Seconds per call of each function, in rounds of all in turn: what disturbs the machine disturbs them alike.

    In each round a function is called as often as fits in `seconds`, at least once. Before that comes a rest for the last one's
    threads to fall asleep, if there are several, and a call to wake its own.
    """
    repeats = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        repeats[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(_REST if len(functions) > 1 else 0)
            function()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return times
