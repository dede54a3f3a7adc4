"""Measures the parts of a training step's time: a backend that times every op of another backend, and a table of the times."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

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


class _Untimed(Uncaptured[Array]):
    """A graph of timed ops, which is always void."""

    reason = "a profiler times each op, which a launch would not"


class Profiler(ModuleType):
    """A backend that calls the ops of `ops` and times them.

    `lines` holds the times by op and input shape; the line "profiler" is the cost of timing.
    """

    Graph = _Untimed

    def __init__(self, ops: ModuleType = kernel_ops) -> None:
        super().__init__(ops.__name__)
        self._ops, self.name = ops, ops.name
        self.lines: dict[str, Line] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return _profiler, (self._ops.__name__, self.lines)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._ops, name)
        timed = self._timed(name, function) if name in OPS else function
        setattr(self, name, timed)  # from now on found without __getattr__
        return timed

    def _timed(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        from fastlenet.testing.registry import OPS as DESCRIBED  # which only a profile needs

        op = DESCRIBED.get(name)

        @functools.wraps(function)
        def run(*arguments: object, **options: object) -> object:
            waits = _core.barriers()
            start = time.perf_counter()
            result = function(*arguments, **options)
            end = time.perf_counter()
            waits = _core.barriers() - waits
            named = {**dict(zip(op.parameters, arguments, strict=False)), **options} if op else {}
            shape = np.shape(cast(Array, named["x"] if "x" in named else arguments[0]))
            flops = op.flops(named) if op else 0.0
            self._add(f"{name} {'x'.join(map(str, shape[1:]))}".strip(), end - start, flops, waits)
            self._add("profiler", time.perf_counter() - end)
            return result

        return run

    def _add(self, name: str, seconds: float, flops: float = 0.0, barriers: int = 0) -> None:
        line = self.lines.setdefault(name, Line())
        line.calls += 1
        line.seconds += seconds
        line.flops += flops
        line.barriers += barriers

    def reset(self) -> None:
        """Discard the measurements so far."""
        self.lines.clear()


def _profiler(module: str, lines: dict[str, Line]) -> Profiler:
    """A copy of a profiler; a pickle holds the name of its module."""
    copy = Profiler(importlib.import_module(module))
    copy.lines.update(lines)
    return copy


def profile_table(lines: Mapping[str, Line], seconds: float) -> str:
    """A table of microseconds per step: each op, the rest (Python), and the whole step. seconds: the time of all steps.

    The number of steps is the number of calls of the first op. "of peak" is the rate of the dense product's multiply-adds over
    this CPU's multiply-add peak, which is measured now; an op that skips most of them can exceed 100 %. A profiled step calls
    the ops one by one; an ordinary step repeats most of them as one call without Python, and so is faster.
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
