"""Measures how long each part of a model's forward pass takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastlenet.backend import Array
from fastlenet.nn.context import Context, Workspace
from fastlenet.nn.fusion import plan, run_forward
from fastlenet.nn.precision import rounding_ops

if TYPE_CHECKING:
    from fastlenet.nn.sequential import Sequential

__all__ = ["step_seconds"]

_SECONDS, _MOST = 0.05, 20  # a step is repeated until it has taken so long, or so often


def step_seconds(model: Sequential, x: Array) -> list[tuple[tuple[str, ...], float]]:
    """Returns the names of the layers that run as one op, and the shortest time of a pass through them, in seconds.

    x: normalised images, (n, ...). In evaluation mode, as the model would run them. Raises the errors of model(x).
    """
    wait = getattr(model.ops, "synchronize", lambda: None)  # a GPU computes beside Python
    context = Context(
        model.ops,
        Workspace(model.ops),
        model.parameters(),
        algorithm=model.algorithm,
        rounding=rounding_ops(model.precision, model.ops),
    )
    steps, found = plan(model.layers, model.names), []
    for number, step in enumerate(steps):
        y = run_forward([step], x, context)  # the first pass makes the buffers
        wait()
        times: list[float] = []
        while len(times) < _MOST and sum(times) < _SECONDS:
            start = time.perf_counter()
            y = run_forward([step], x, context)
            wait()
            times.append(time.perf_counter() - start)
        end = steps[number + 1].at if number + 1 < len(steps) else len(model.names)
        found.append((tuple(model.names[step.at : end]), min(times)))
        x = y
    return found
