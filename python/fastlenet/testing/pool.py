"""Pooling, by the maximum and by the mean, forward and backward."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fastlenet.testing.cases import POOL, Pool, both
from fastlenet.testing.conv import random_window
from fastlenet.testing.description import Arguments, Benchmark, Gradient, Op, Result, Torch, Values
from fastlenet.testing.judging import means, rounded_alike
from fastlenet.testing.values import BATCHES, CHANNELS, SIDES, Draw

__all__ = ["OPS"]

SMALL = [Pool(3, 3, 6, 5, 2), Pool(2, 2, 6, 6, (3, 2), stride=1, padding=1)]
LINES = (
    Benchmark(", pool1", Pool(128, 20, 24, 24, 2)),
    Benchmark(", pool2", Pool(128, 50, 8, 8, 2)),
    Benchmark(", 3x3, stride 2", Pool(32, 20, 24, 24, 3, stride=2)),
)


def _random(draw: Draw) -> Pool:
    n, c, h, w = draw.dims(BATCHES, CHANNELS, SIDES, SIDES)
    r, s = random_window(draw, (h, w), (0, 0))
    padding = 0 if draw.chance(0.5) else (draw.below(r // 2 + 1), draw.below(s // 2 + 1))
    stride = None if draw.chance(0.4) else draw.pair((1, 1, 2, 3, 4))
    return Pool(n, c, h, w, r if r == s and draw.chance(0.5) else (r, s), stride, padding)


def _forward(case: Pool, values: Values) -> Arguments:
    return {"x": values(*case.x_shape), "kernel_size": case.kernel_size, **case.options}


def _backward(case: Pool, values: Values) -> Arguments:
    indices = values.places(case.y_shape, case.h * case.w, np.int32)
    return {"dy": values(*case.y_shape), "indices": indices, "x_shape": case.x_shape}


def _torch(torch: Torch, a: Arguments) -> object:
    options = {"stride": a["stride"], "padding": a["padding"], "return_indices": True}
    result: object = torch.nn.functional.max_pool2d(a["x"], a["kernel_size"], **options)
    return result


# What all four have in common: the arguments are those of a forward pass.
_POOLING = Op(
    name="",
    arrays=("x",),
    results=(Result("y"),),
    batched=("x",),
    arguments=_forward,
    cases=POOL,
    small=SMALL,
    large=POOL[2],
    random=_random,
    judge=rounded_alike,
    benchmarks=LINES,
)
FORWARD = replace(
    _POOLING,
    name="max_pool2d_forward",
    results=(Result("y"), Result("indices", np.int32)),
    rounds=False,
    torch=_torch,
)
BACKWARD = replace(
    _POOLING,
    name="max_pool2d_backward",
    arrays=("dy", "indices"),
    dtypes={"indices": np.int32},
    results=(Result("dx"),),
    batched=("dy", "indices"),
    arguments=_backward,
    rounds=False,
    gradient=Gradient(FORWARD, of=("x",), passes={"indices": 1}, linear=(("x",),)),
)


def _avg_backward(case: Pool, values: Values) -> Arguments:
    return {"dy": values(*case.y_shape), "x_shape": case.x_shape, "kernel_size": case.kernel_size, **case.options}


def _torch_avg(torch: Torch, a: Arguments) -> object:
    result: object = torch.nn.functional.avg_pool2d(a["x"], a["kernel_size"], stride=a["stride"], padding=a["padding"])
    return result


def _elements(arguments: Arguments) -> int:
    """As many as a window has; a quotient rounds once more, but the sum of one number does not round."""
    r, s = both(arguments["kernel_size"])
    return r * s


# Windows whose mean is exact, so that the products of two of them are.
_DYADIC = [case for case in POOL if math.prod(both(case.kernel_size)) in (1, 2, 4, 16)]

AVG_FORWARD = replace(
    _POOLING,
    name="avg_pool2d_forward",
    judge=means(_elements),
    torch=_torch_avg,
)
AVG_BACKWARD = replace(
    _POOLING,
    name="avg_pool2d_backward",
    arrays=("dy",),
    results=(Result("dx"),),
    batched=("dy",),
    arguments=_avg_backward,
    judge=means(_elements),
    gradient=Gradient(AVG_FORWARD, of=("x",), linear=(("x",),), cases=_DYADIC),
)
OPS = (FORWARD, BACKWARD, AVG_FORWARD, AVG_BACKWARD)
