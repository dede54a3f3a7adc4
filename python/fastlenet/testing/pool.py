"""max_pool2d_forward and max_pool2d_backward."""

from __future__ import annotations

import numpy as np

from fastlenet.testing.cases import POOL, Pool
from fastlenet.testing.conv import random_window
from fastlenet.testing.description import Arguments, Benchmark, Gradient, Op, Result, Torch, Values
from fastlenet.testing.judging import rounded_alike
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


FORWARD = Op(
    name="max_pool2d_forward",
    arrays=("x",),
    results=(Result("y"), Result("indices", np.int32)),
    batched=("x",),
    arguments=_forward,
    cases=POOL,
    small=SMALL,
    large=POOL[2],
    random=_random,
    judge=rounded_alike,
    rounds=False,
    torch=_torch,
    benchmarks=LINES,
)
BACKWARD = Op(
    name="max_pool2d_backward",
    arrays=("dy", "indices"),
    dtypes={"indices": np.int32},
    results=(Result("dx"),),
    batched=("dy", "indices"),
    arguments=_backward,
    cases=POOL,
    small=SMALL,
    large=POOL[2],
    random=_random,
    judge=rounded_alike,
    rounds=False,
    gradient=Gradient(FORWARD, of=("x",), passes={"indices": 1}, linear=(("x",),)),
    benchmarks=LINES,
)
OPS = (FORWARD, BACKWARD)
