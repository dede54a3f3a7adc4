"""conv2d_forward and conv2d_backward."""

from __future__ import annotations

import math

from fastlenet.testing.cases import CONV, CONV1, CONV2, Conv, Fused, both
from fastlenet.testing.description import Arguments, Benchmark, Gradient, Op, Result, Torch, Values
from fastlenet.testing.judging import finite, sums
from fastlenet.testing.values import BATCHES, CHANNELS, FILTERS, SIDES, Draw

__all__ = ["CONVOLUTIONS", "OPS", "SMALL", "convolution_flops", "first_layer", "gradient_terms", "lenet_weights", "random_conv"]

MOST_PRODUCTS = 1_500_000  # of a fuzzed convolution

# What is timed: LeNet's two layers, and three of other networks.
CONVOLUTIONS = {
    "conv1": CONV1.with_batch(128),
    "conv2": CONV2.with_batch(128),
    "32x32x3, 32 of 5x5": Fused(64, 3, 32, 32, 32, (5, 5)),
    "16x16x32, 64 of 3x3": Fused(64, 32, 16, 16, 64, (3, 3), padding=1),
    "29x31x1, 7 of 3x3": Fused(64, 1, 29, 31, 7, (3, 3)),
}
SMALL = [
    Conv(3, 3, 6, 5, 4, (3, 2)),
    Conv(2, 2, 5, 6, 3, (3, 2), stride=2, padding=1),
    Conv(2, 2, 5, 6, 3, (3, 2), stride=(1, 3), padding=(2, 0)),
]


def random_window(draw: Draw, sides: tuple[int, int], pads: tuple[int, int]) -> tuple[int, int]:
    """A filter or window, mostly one that fits into the padded sides."""
    if draw.chance(0.03):
        return draw.pick(FILTERS), draw.pick(FILTERS)
    r, s = (max(1, min(draw.pick(FILTERS), side + 2 * pad)) for side, pad in zip(sides, pads, strict=True))
    return r, s


def random_conv(draw: Draw, *, strided: bool = True) -> Conv:
    """A convolution that is mostly possible, and not too large."""
    n, c, h, w = draw.dims(BATCHES, CHANNELS, SIDES, SIDES)
    k, padding = draw.pick(CHANNELS), draw.pair((0, 0, 0, 1, 1, 2, 3))
    stride = draw.pair((1, 1, 2, 3)) if strided else 1
    pads = both(padding)
    if not h + pads[0] or not w + pads[1]:
        h, w = (1, 1) if draw.chance(0.9) else (h, w)
    case = Conv(n, c, h, w, k, random_window(draw, (h, w), pads), stride, padding)
    while math.prod(case.y_shape) * math.prod(case.weight_shape[1:]) > MOST_PRODUCTS:
        n, k = max(1, n // 2), max(1, k // 2)
        if n == k == 1:
            c = max(1, c // 2)
        case = Conv(n, c, h, w, k, case.filter, stride, padding)
    return case


def _forward(case: Conv, values: Values) -> Arguments:
    return {"x": values(*case.x_shape), "weight": values(*case.weight_shape), "bias": values(case.k), **case.options}


def _backward(case: Conv, values: Values) -> Arguments:
    return {"dy": values(*case.y_shape), "x": values(*case.x_shape), "weight": values(*case.weight_shape), **case.options}


def gradient_terms(arguments: Arguments) -> tuple[int, int, int]:
    """How many products make an element of dx, dweight and dbias, at most."""
    dy, (k, _, r, s) = arguments["dy"], arguments["weight"].shape
    positions = dy.shape[0] * dy.shape[2] * dy.shape[3]
    return k * r * s, positions, positions


def _open(arguments: Arguments) -> tuple[str, ...]:
    """An infinity or NaN in weight may spread over dx."""
    return () if finite(arguments["weight"]) else ("dx",)


def convolution_flops(arguments: Arguments) -> float:
    """Of y; or of dweight and, if it is wanted, dx."""
    x, weight = arguments["x"], arguments["weight"]
    n, c, h, w = x.shape
    case = Conv(n, c, h, w, weight.shape[0], weight.shape[2:], arguments.get("stride", 1), arguments.get("padding", 0))
    products = 1 + bool(arguments.get("need_dx", True)) if "dy" in arguments else 1
    return 2.0 * math.prod(case.y_shape) * math.prod(case.weight_shape[1:]) * products


def lenet_weights(arguments: Arguments) -> Arguments:
    """Weights about as large as they are in a network."""
    return {"weight": arguments["weight"] / arguments["weight"].shape[1] / 5}


def first_layer(arguments: Arguments) -> Arguments:
    """The same of a network's first layer, which needs no gradient by its input."""
    return lenet_weights(arguments) | {"need_dx": False}


def _torch(torch: Torch, a: Arguments) -> object:
    result: object = torch.nn.functional.conv2d(a["x"], a["weight"], a["bias"], stride=a["stride"], padding=a["padding"])
    return result


def _plain(case: Fused) -> Conv:
    return Conv(case.n, case.c, case.h, case.w, case.k, case.filter, padding=case.padding)


FORWARD = Op(
    name="conv2d_forward",
    arrays=("x", "weight", "bias"),
    results=(Result("y"),),
    batched=("x",),
    arguments=_forward,
    cases=CONV,
    small=SMALL,
    large=CONV[0],
    random=random_conv,
    judge=sums(lambda arguments: (math.prod(arguments["weight"].shape[1:]) + 1,)),
    variants=({"bias": None},),
    torch=_torch,
    benchmarks=tuple(Benchmark(f", {label}", _plain(case), lenet_weights) for label, case in CONVOLUTIONS.items()),
    flops=convolution_flops,
)
BACKWARD = Op(
    name="conv2d_backward",
    arrays=("dy", "x", "weight"),
    results=(Result("dx", optional="need_dx"), Result("dweight", batched=False), Result("dbias", batched=False)),
    batched=("dy", "x"),
    arguments=_backward,
    cases=CONV,
    small=SMALL,
    large=CONV[0],
    random=random_conv,
    judge=sums(gradient_terms, _open),
    variants=({"need_dx": False},),
    gradient=Gradient(FORWARD, of=("x", "weight", "bias"), linear=(("x", "bias"), ("weight", "bias"))),
    benchmarks=tuple(
        Benchmark(f", {label}", _plain(case), first_layer if label == "conv1" else lenet_weights)
        for label, case in CONVOLUTIONS.items()
    ),
    flops=convolution_flops,
)
OPS = (FORWARD, BACKWARD)
