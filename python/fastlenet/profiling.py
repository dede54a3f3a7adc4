"""Measures the parts of a training step's time: a backend that times every op of another backend, and a table of the times."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, cast

import numpy as np

from fastlenet import _core
from fastlenet import ops as kernel_ops
from fastlenet.backend import OPS, Array, Uncaptured
from fastlenet.config import get_num_threads

__all__ = ["Line", "Profiler", "profile_table"]


@dataclass
class Line:
    """The calls of one op on inputs of one shape.

    calls: their number. seconds: their time. flops: of their dense products, or 0. barriers: how often the threads waited for
    one another.
    """

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    barriers: int = 0

    def add(self, calls: int, seconds: float, flops: float, barriers: int) -> None:
        """Add further calls. seconds, flops, barriers: of all of them."""
        self.calls += calls
        self.seconds += seconds
        self.flops += flops
        self.barriers += barriers


# What a graph has recorded, in its order: the line and the flops of an op, or None for what has no line, such as a launch.
_Recorded = list[tuple[str, float] | None]


@dataclass
class _Measured:
    """The measurements of a profiler.

    called: of ops that Python called. launched: of each graph, what it has recorded, and the array of its `time()`.
    recorded: what the graph that is being captured has recorded so far.
    """

    called: dict[str, Line] = field(default_factory=dict)
    launched: list[tuple[_Recorded, Array]] = field(default_factory=list)
    recorded: _Recorded = field(default_factory=list)


class _TimedGraph(kernel_ops.Graph):
    """A graph whose launches are measured, op by op."""

    measured: ClassVar[_Measured]  # of the profiler, in the class that it derives

    def __init__(self, function: Callable[..., object], *inputs: Array) -> None:
        measured = self.measured
        outer, measured.recorded = measured.recorded, []
        try:
            super().__init__(function, *inputs)
            if self.reason is None:
                measured.launched.append((measured.recorded, self.time()))
        finally:
            measured.recorded = outer


class _UntimedGraph(Uncaptured[Array]):
    """A graph of another backend's ops, which is always void."""

    reason = "a profiler times each op, which a launch would not"


class Profiler(ModuleType):
    """A backend that calls the ops of `ops` and times them. `times` is that backend.

    `lines` holds the times by op and input shape, in the order of the first calls; the line "profiler" is the cost of timing
    the ops that Python calls. The kernels' graphs are captured as without a profiler; a launch is timed below Python, op by op.
    Graphs of other backends are void.
    """

    def __init__(self, ops: ModuleType = kernel_ops, measured: _Measured | None = None) -> None:
        super().__init__(ops.__name__)
        self.times, self.name = ops, ops.name
        self._measured = _Measured() if measured is None else measured
        self._others: dict[ModuleType, Profiler] = {}
        captures = getattr(ops, "Graph", None) is kernel_ops.Graph
        self.Graph = type("Graph", (_TimedGraph,), {"measured": self._measured}) if captures else _UntimedGraph

    def __reduce__(self) -> tuple[object, ...]:
        return _profiler, (self.times.__name__, self.lines)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.times, name)
        timed = self._timed(name, function) if name in OPS else function
        setattr(self, name, timed)  # from now on found without __getattr__
        return timed

    def of(self, ops: ModuleType) -> Profiler:
        """Returns a profiler of another backend with the same lines."""
        if ops not in self._others:
            self._others[ops] = Profiler(ops, self._measured)
        return self._others[ops]

    def _timed(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        from fastlenet.testing.registry import OPS as DESCRIBED  # which only a profile needs

        op = DESCRIBED.get(name)

        @functools.wraps(function)
        def run(*arguments: object, **options: object) -> object:
            before, waits = _core.Graph.recorded(), _core.barriers()
            start = time.perf_counter()
            result = function(*arguments, **options)
            end = time.perf_counter()
            waits = _core.barriers() - waits
            named = {**dict(zip(op.parameters, arguments, strict=False)), **options} if op else {}
            shape = np.shape(cast(Array, named["x"] if "x" in named else arguments[0]))
            flops = op.flops(named) if op else 0.0
            line = f"{name} {'x'.join(map(str, shape[1:]))}".strip()
            self._add(line, end - start, flops, waits)
            self._note(line, flops, before)
            self._add("profiler", time.perf_counter() - end)
            return result

        return run

    def _add(self, name: str, seconds: float, flops: float = 0.0, barriers: int = 0) -> None:
        self._measured.called.setdefault(name, Line()).add(1, seconds, flops, barriers)

    def _note(self, line: str, flops: float, before: int) -> None:
        """Note which line a graph's launches add to, if a graph recorded an op. before: the number of those before it."""
        recorded, now = self._measured.recorded, _core.Graph.recorded()
        if now > before:
            recorded += [None] * (before - len(recorded)) + [(line, flops)] * (now - before)

    @property
    def lines(self) -> dict[str, Line]:
        """The measurements since the last reset."""
        found = {
            name: Line(line.calls, line.seconds, line.flops, line.barriers) for name, line in self._measured.called.items()
        }
        for recorded, times in self._measured.launched:
            for of, (launches, seconds, barriers) in zip(recorded, times.tolist(), strict=False):
                if of is not None:
                    found.setdefault(of[0], Line()).add(int(launches), seconds, launches * of[1], int(barriers))
        return {name: line for name, line in found.items() if line.calls}

    def reset(self) -> None:
        """Discard the measurements so far."""
        for name in self._measured.called:
            self._measured.called[name] = Line()  # keeps its place
        for _, times in self._measured.launched:
            times.fill(0)


def _profiler(module: str, lines: dict[str, Line]) -> Profiler:
    """A copy of a profiler; a pickle holds the name of its module."""
    return Profiler(importlib.import_module(module), _Measured(lines))


def profile_table(lines: Mapping[str, Line], seconds: float) -> str:
    """A table of microseconds per step: each op, the rest (Python), and the whole step. seconds: the time of all steps.

    The number of steps is the number of calls of the first op. "of peak" is the rate of the dense product's multiply-adds over
    this CPU's multiply-add peak, which is measured now; an op that skips most of them can exceed 100 %.
    """
    peak = max(_core.multiply_add_peak(get_num_threads(), 0.1) for _ in range(3))
    steps = next(iter(lines.values())).calls
    rest = Line(steps, seconds - sum(line.seconds for line in lines.values()))
    rows = []
    for name, line in [*lines.items(), ("Python", rest), ("whole step", Line(steps, seconds))]:
        share = f"{line.flops / line.seconds / peak:8.0%}" if line.flops else " " * 8
        rows.append(f"{name:<52}{line.seconds / steps * 1e6:10.1f}{share}{line.seconds / seconds:10.1%}")
    header = f"{'per training step':<52}{'us':>10}{'of peak':>8}{'of step':>10}"
    rule = "-" * len(header)
    barriers = sum(line.barriers for line in lines.values()) / steps
    waits = [f"In a step, the threads wait for one another {barriers:.1f} times."] if barriers else []
    return "\n".join([header, rule, *rows[:-1], rule, rows[-1], *waits])
