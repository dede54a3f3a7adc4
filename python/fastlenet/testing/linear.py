"""linear_forward and linear_backward."""

from __future__ import annotations

import math

from fastlenet.testing.cases import FC1, FC2, LINEAR, Linear
from fastlenet.testing.description import Arguments, Benchmark, Gradient, Op, Result, Torch, Values
from fastlenet.testing.judging import sums
from fastlenet.testing.values import BATCHES, FEATURES, Draw

__all__ = ["OPS"]

SMALL = [Linear(3, 6, 5)]
TIMED = {
    "fc1": FC1.with_batch(128),
    "fc2": FC2.with_batch(128),
    "fc1, batch 32": FC1.with_batch(32),
}
LINES = tuple(Benchmark(f", {label}", case) for label, case in TIMED.items())


def _random(draw: Draw) -> Linear:
    n, inputs, outputs = draw.pick(BATCHES), draw.pick(FEATURES), draw.pick(FEATURES)
    if draw.chance(0.03):  # wide and without anything in it
        n, inputs, outputs = 0, draw.pick((2**20, 2**31, 2**40)), draw.pick((0, 0, 1))
        inputs = inputs if not outputs else 2**10
    return Linear(n, inputs, outputs)


def _forward(case: Linear, values: Values) -> Arguments:
    weight = values(case.outputs, case.inputs)
    return {"x": values(case.n, case.inputs), "weight": weight, "bias": values(case.outputs)}


def _backward(case: Linear, values: Values) -> Arguments:
    weight = values(case.outputs, case.inputs)
    return {"dy": values(case.n, case.outputs), "x": values(case.n, case.inputs), "weight": weight}


def _flops(arguments: Arguments) -> float:
    products = 1 + bool(arguments.get("need_dx", True)) if "dy" in arguments else 1
    multiply_adds: int = len(arguments["x"]) * math.prod(arguments["weight"].shape) * products
    return 2.0 * multiply_adds


def _torch(torch: Torch, a: Arguments) -> object:
    result: object = torch.nn.functional.linear(a["x"], a["weight"], a["bias"])
    return result


FORWARD = Op(
    name="linear_forward",
    arrays=("x", "weight", "bias"),
    results=(Result("y"),),
    batched=("x",),
    arguments=_forward,
    cases=LINEAR,
    small=SMALL,
    large=FC1.with_batch(70),
    random=_random,
    judge=sums(lambda arguments: (arguments["weight"].shape[1] + 1,)),
    variants=({"bias": None},),
    torch=_torch,
    benchmarks=LINES,
    flops=_flops,
)
BACKWARD = Op(
    name="linear_backward",
    arrays=("dy", "x", "weight"),
    results=(Result("dx", optional="need_dx"), Result("dweight", batched=False), Result("dbias", batched=False)),
    batched=("dy", "x"),
    arguments=_backward,
    cases=LINEAR,
    small=SMALL,
    large=FC1.with_batch(70),
    random=_random,
    judge=sums(lambda arguments: (arguments["dy"].shape[1], arguments["dy"].shape[0], arguments["dy"].shape[0])),
    variants=({"need_dx": False},),
    gradient=Gradient(FORWARD, of=("x", "weight", "bias"), linear=(("x", "bias"), ("weight", "bias"))),
    benchmarks=LINES,
    flops=_flops,
)
OPS = (FORWARD, BACKWARD)
