"""conv2d_relu_max_pool2d_forward and its gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fastlenet import reference
from fastlenet.backend import DEAD
from fastlenet.reference.conv_pool import window_view
from fastlenet.testing.cases import FUSED, Fused, Pair, both
from fastlenet.testing.conv import CONVOLUTIONS, convolution_flops, first_layer, gradient_terms, lenet_weights, random_conv
from fastlenet.testing.description import Arguments, Array, Benchmark, Call, Gradient, Op, Result, Results, Torch, Values
from fastlenet.testing.judging import LARGEST, TINY, expect_all, expect_equal, expect_shape, finite, gamma, mixes_huge, sums
from fastlenet.testing.values import Draw
from fastlenet.testing.winograd import by_tiles, matrices, roundings

__all__ = ["OPS", "Bounds", "judge_windows", "windows"]

# Of the arguments: the error bound of each output of the convolution, and a bound of its partial sums.
Bounds = Callable[[Arguments], tuple[Array, Array]]

SMALL = [Fused(3, 3, 6, 5, 4, (3, 2)), Fused(2, 2, 6, 7, 3, (3, 2), padding=1, kernel_size=(1, 3))]


def _random(draw: Draw) -> Fused:
    conv = random_conv(draw, strided=False)
    size = 2 if draw.chance(0.6) else draw.pair((1, 1, 2, 3, 4))
    if draw.chance(0.9):
        p, q = conv.y_shape[2:]
        r, s = both(size)
        r, s = min(r, p or 1), min(s, q or 1)
        size = r if r == s else (r, s)
    return Fused(conv.n, conv.c, conv.h, conv.w, conv.k, conv.filter, conv.padding, size)


def _forward(case: Fused, values: Values) -> Arguments:
    return {"x": values(*case.x_shape), "weight": values(*case.weight_shape), "bias": values(case.k), **case.options}


def _backward(case: Fused, values: Values) -> Arguments:
    """Any position of a window may have won, and any window may be dead."""
    winners = values.places(case.y_shape, case.window, np.uint8)
    winners[values.rng.random(case.y_shape) < values.rng.choice([0.0, 0.4, 0.9])] = DEAD
    x, weight = values(*case.x_shape), values(*case.weight_shape)
    return {"dy": values(*case.y_shape), "winners": winners, "x": x, "weight": weight, **case.options}


def windows(conv: Array, kernel_size: Pair) -> Array:
    """The elements of each window along the last axis."""
    view = window_view(conv, *both(kernel_size))
    return view.reshape(*view.shape[:4], -1) if view.size else np.zeros((*view.shape[:4], int(np.prod(view.shape[4:]))))


def _float64(arguments: Arguments) -> tuple[Array, Array, Array]:
    """x, weight and bias, which is 0 where there is none."""
    x, weight = (arguments[name].astype(np.float64) for name in ("x", "weight"))
    bias = np.zeros(len(weight)) if arguments["bias"] is None else arguments["bias"].astype(np.float64)
    return x, weight, bias


def _bounds(a: Arguments) -> tuple[Array, Array]:
    x, weight, bias = map(np.abs, _float64(a))
    sizes = reference.conv2d_forward(x, weight, bias, padding=a["padding"])
    c, r, s = weight.shape[1:]
    bound, largest = gamma(c * r * s + 1) * sizes + (c * r * s + 1) * TINY, sizes
    if a.get("algorithm") == "winograd" and r == s and r in (3, 5) and both(a["kernel_size"]) == (2, 2) and sizes.size and c:
        first, second, third = map(np.abs, matrices(r))
        tiles = by_tiles(x, weight, a["padding"], (first, second, third))
        tiles = tiles[:, :, : sizes.shape[2], : sizes.shape[3]] + bias[:, None, None]
        # What is too small to be rounded by a factor may be lost: 2^-100 stands far above it.
        bound, largest = np.maximum(bound, gamma(roundings(c)) * tiles + 2.0**-100), np.maximum(sizes, tiles)
    return bound, largest


@functools.lru_cache(maxsize=64)
def _prepared(call: Call, bounds: Bounds) -> tuple[Array, Array, Array]:
    """The convolution's windows in float64; of each, the worst bound, and the largest number that its sums may reach."""
    a = call.arguments
    conv = windows(reference.conv2d_forward(*_float64(a), padding=a["padding"]), a["kernel_size"])
    if not conv.size:
        return conv, conv, conv
    bound, largest = (windows(array, a["kernel_size"]).max(-1) for array in bounds(a))
    return conv, bound, largest


def judge_windows(call: Call, actual: Results, bounds: Bounds = _bounds) -> None:
    """The judge of the op. The bound of the convolution, at its worst in the window: both maxima move by no more.

    The winner may be another than float64's only where the two nearly tie, within twice the bound. What is dead is at most the
    bound above zero.
    """
    a, (y, winners), exact = call.arguments, actual, call.exact
    winograd = a.get("algorithm") == "winograd"
    if call.integers and not winograd:
        expect_equal("y", y, exact[0])
        expect_equal("winners", winners, exact[1])
        return
    expect_shape("y", y, exact[0])
    expect_shape("winners", winners, exact[1])
    conv, bound, largest = _prepared(call, bounds)
    if not conv.size:
        return
    best = conv.max(-1)
    dead = winners == DEAD
    expect_all("winners", dead | (winners < conv.shape[-1]), winners, exact[1])
    chosen = np.take_along_axis(conv, np.where(dead, 0, winners)[..., None].astype(np.int64), -1)[..., 0]
    calm = largest < LARGEST / 2
    expect_all("y", ~calm | (np.abs(y - np.maximum(best, 0)) <= bound), y, exact[0], bound)
    expect_all("winners", ~calm | dead | (chosen >= best - 2 * bound), winners, exact[1])
    expect_all("dead winners", ~calm | ~dead | ((best <= bound) & (y == 0)), winners, exact[1])
    if winograd or mixes_huge(a):
        return  # an infinity or NaN may turn its neighbours into NaN, as the op's docstring says
    # An infinity or NaN is that of the reference: the first of the largest, or of the NaN.
    wild = (np.isnan(best) | (best == np.inf)) & ~np.isfinite(largest)
    expect_all("y", ~wild | (y == exact[0]) | (np.isnan(y) & np.isnan(exact[0])), y, exact[0])
    expect_all("winners", ~wild | (winners == exact[1]), winners, exact[1])


def _open(arguments: Arguments) -> tuple[str, ...]:
    """Losers are left out, while the reference multiplies their infinities and NaN by zero."""
    return () if finite(arguments["x"], arguments["weight"]) else ("dx", "dweight", "dbias")


def _torch(torch: Torch, a: Arguments) -> object:
    functional = torch.nn.functional
    y = functional.relu(functional.conv2d(a["x"], a["weight"], a["bias"], padding=a["padding"]))
    result: object = functional.max_pool2d(y, a["kernel_size"])
    return result


def _winograd(arguments: Arguments) -> Arguments:
    return lenet_weights(arguments) | {"algorithm": "winograd"}


FORWARD = Op(
    name="conv2d_relu_max_pool2d_forward",
    arrays=("x", "weight", "bias"),
    results=(Result("y"), Result("winners", np.uint8)),
    batched=("x",),
    arguments=_forward,
    cases=FUSED,
    small=SMALL,
    large=FUSED[1].with_batch(37),
    random=_random,
    judge=judge_windows,
    variants=({"bias": None},),
    roundings=({"algorithm": "winograd"},),
    torch=_torch,
    benchmarks=(
        *(Benchmark(f", {label}", case, lenet_weights) for label, case in CONVOLUTIONS.items()),
        # Images of one channel are computed directly.
        *(Benchmark(f" by Winograd, {label}", case, _winograd) for label, case in CONVOLUTIONS.items() if case.c > 1),
    ),
    flops=convolution_flops,
)
BACKWARD = Op(
    name="conv2d_relu_max_pool2d_backward",
    arrays=("dy", "winners", "x", "weight"),
    dtypes={"winners": np.uint8},
    results=(Result("dx", optional="need_dx"), Result("dweight", batched=False), Result("dbias", batched=False)),
    batched=("dy", "winners", "x"),
    arguments=_backward,
    cases=FUSED,
    small=SMALL,
    large=FUSED[1].with_batch(37),
    random=_random,
    judge=sums(gradient_terms, _open),
    variants=({"need_dx": False},),
    gradient=Gradient(FORWARD, of=("x", "weight", "bias"), passes={"winners": 1}, linear=(("x", "bias"), ("weight", "bias"))),
    benchmarks=tuple(
        Benchmark(f", {label}", case, first_layer if label == "conv1" else lenet_weights)
        for label, case in CONVOLUTIONS.items()
    ),
    flops=convolution_flops,
)
OPS = (FORWARD, BACKWARD)
