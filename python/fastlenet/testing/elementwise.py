"""The ops that work element by element: ReLU, leaky ReLU, sigmoid, tanh, dropout, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastlenet.testing.cases import SHAPES, Elements
from fastlenet.testing.description import Arguments, Benchmark, Call, Gradient, Op, Result, Results, Torch, Values
from fastlenet.testing.judging import TINY, WrongError, expect_equal, expect_within, gamma, rounded_alike
from fastlenet.testing.ulp import Ulps
from fastlenet.testing.values import Draw

__all__ = ["OPS"]

SMALL = [Elements((3, 6))]
LARGE = Elements((50_000,))
TIMED = Elements((128, 20, 24, 24))
LINES = (Benchmark("", TIMED),)


def _arrays(*names: str) -> Callable[[Elements, Values], Arguments]:
    """Arrays of the case's shape, and its options."""
    return lambda case, values: {name: values(*case.shape) for name in names} | dict(case.options)


def _random(draw: Draw) -> Elements:
    return Elements(draw.any_shape())


def _torch(name: str) -> Callable[[Torch, Arguments], object]:
    """The function of PyTorch that has this name."""
    return lambda torch, arguments: getattr(torch, name)(arguments["x"])


# What the ops on one array, and the gradients by its result, have in common.
_FORWARD = Op(
    name="",
    arrays=("x",),
    results=(Result("y"),),
    arguments=_arrays("x"),
    cases=SHAPES,
    small=SMALL,
    large=LARGE,
    random=_random,
    judge=rounded_alike,
    in_place=("x",),
    any_shape=True,
    benchmarks=LINES,
)
_BACKWARD = Op(
    name="",
    arrays=("dy", "y"),
    results=(Result("dx"),),
    arguments=_arrays("dy", "y"),
    cases=SHAPES,
    small=SMALL,
    large=LARGE,
    random=_random,
    judge=rounded_alike,
    in_place=("dy", "y"),
    benchmarks=LINES,
)

RELU_FORWARD = replace(
    _FORWARD,
    name="relu_forward",
    rounds=False,
    torch=_torch("relu"),
)
RELU_BACKWARD = replace(
    _BACKWARD,
    name="relu_backward",
    rounds=False,
    gradient=Gradient(RELU_FORWARD, of=("x",), passes={"y": 0}, linear=(("x",),)),
)


def _sloped(case: Elements) -> Elements:
    return Elements(case.shape, {"slope": 0.25})


# Slopes whose products are exact, and one that is rounded to float32 before.
SLOPES = [_sloped(case) for case in SHAPES] + [Elements((3, 4, 5), {"slope": slope}) for slope in (0.0, 0.01)]


def _random_slope(draw: Draw) -> Elements:
    return Elements(draw.any_shape(), {"slope": draw.pick((0, 0.0, 0.01, 0.25, 1, 2.5, 1e-300, np.float32(0.1)))})


def _judge_slope(call: Call, actual: Results) -> None:
    """The product with the slope, of float32, is exact in float64, and rounded once."""
    (result,), (a,), (e,) = call.op.results, actual, call.exact
    with np.errstate(over="ignore"):
        expect_equal(result.name, a, e.astype(np.float32))


def _torch_leaky_relu(torch: Torch, arguments: Arguments) -> object:
    result: object = torch.nn.functional.leaky_relu(arguments["x"], arguments["slope"])
    return result


LEAKY_RELU_FORWARD = replace(
    _FORWARD,
    name="leaky_relu_forward",
    cases=SLOPES,
    small=[_sloped(SMALL[0])],
    large=_sloped(LARGE),
    random=_random_slope,
    judge=_judge_slope,
    torch=_torch_leaky_relu,
    benchmarks=(Benchmark("", _sloped(TIMED)),),
)
LEAKY_RELU_BACKWARD = replace(
    _BACKWARD,
    name="leaky_relu_backward",
    cases=SLOPES,
    small=[_sloped(SMALL[0])],
    large=_sloped(LARGE),
    random=_random_slope,
    judge=_judge_slope,
    gradient=Gradient(
        LEAKY_RELU_FORWARD,
        of=("x",),
        passes={"y": 0},
        linear=(("x",),),
        cases=[case for case in SLOPES if case.options["slope"] != 0.01],
    ),
    benchmarks=(Benchmark("", _sloped(TIMED)),),
)


def _judge_sigmoid(call: Call, actual: Results) -> None:
    """Within 2 units in the last place."""
    worst = Ulps(call.arguments["x"], call.exact[0]).worst(actual[0])
    if worst > 2:
        raise WrongError(f"y expected within 2 ulp of the exact value, got {worst:.3g} ulp")


def _judge_sigmoid_backward(call: Call, actual: Results) -> None:
    """Three roundings, in either order of the products. Each may underflow; the other factor scales that loss."""
    dy, y = (np.abs(call.arguments[name].astype(np.float64)) for name in ("dy", "y"))
    rest, exact = np.abs(1 - call.arguments["y"].astype(np.float64)), call.exact[0]
    with np.errstate(all="ignore"):
        largest = np.maximum(np.maximum(dy * y, y * rest), np.abs(exact))
        expect_within("dx", actual[0], exact, gamma(3) * np.abs(exact) + TINY * (1 + dy + rest), largest)


def _judge_tanh(call: Call, actual: Results) -> None:
    """Within 1 unit in the last place; the signs of zeros are kept."""
    worst = Ulps(call.arguments["x"], call.exact[0]).worst(actual[0])
    if worst > 1:
        raise WrongError(f"y expected within 1 ulp of the exact value, got {worst:.3g} ulp")
    expect_equal("the sign of y", np.signbit(actual[0]) & (actual[0] == 0), np.signbit(call.exact[0]) & (call.exact[0] == 0))


def _judge_tanh_backward(call: Call, actual: Results) -> None:
    """Two sums and two products round, in either order of the products; each may lose what is too small, and scale that."""
    dy, y = (call.arguments[name].astype(np.float64) for name in ("dy", "y"))
    exact = call.exact[0]
    with np.errstate(all="ignore"):
        below, above = np.abs(1 - y), np.abs(1 + y)
        passed = np.maximum(np.maximum(below * above, np.abs(dy) * np.maximum(below, above)), np.abs(exact))
        lost = TINY * (1 + np.abs(dy) + below + above)
        expect_within("dx", actual[0], exact, gamma(4) * np.abs(exact) + lost, passed)


def _sigmoid_arguments(case: Elements, values: Values) -> Arguments:
    """Half of them near 0, half of them where it saturates."""
    x = values(*case.shape)
    with np.errstate(over="ignore"):
        x.reshape(-1)[x.size // 2 :] *= 30
    return {"x": x}


SIGMOID_FORWARD = replace(
    _FORWARD,
    name="sigmoid_forward",
    arguments=_sigmoid_arguments,
    judge=_judge_sigmoid,
    integers=False,
    torch=_torch("sigmoid"),
)
SIGMOID_BACKWARD = replace(
    _BACKWARD,
    name="sigmoid_backward",
    judge=_judge_sigmoid_backward,
    # One unit of y's last place, through dy * y * (1 - y), and three roundings.
    gradient=Gradient(SIGMOID_FORWARD, of=("x",), passes={"y": 0}, saved_error=6),
)

TANH_FORWARD = replace(
    _FORWARD,
    name="tanh_forward",
    arguments=_sigmoid_arguments,
    judge=_judge_tanh,
    integers=False,
    torch=_torch("tanh"),
)
TANH_BACKWARD = replace(
    _BACKWARD,
    name="tanh_backward",
    judge=_judge_tanh_backward,
    # y is rounded by half a unit here and by one elsewhere: 3 roundings, which 1 - y^2 doubles. It adds 4 here, 3 elsewhere.
    gradient=Gradient(TANH_FORWARD, of=("x",), passes={"y": 0}, saved_error=13),
)

# Scales that are exact, and one that is rounded, always alike.
DROPOUTS = [
    Elements(case.shape, {"rate": rate, "seed": 2**63 + 5, "counter": 2**40 + 3})
    for case in SHAPES
    for rate in (0.0, 0.25, 0.5)
]
PARTS = [  # of larger arrays: the words of a part begin anywhere in a block of random words
    Elements(shape, {"rate": 0.25, "seed": 7, "counter": 2, "offset": offset})
    for shape in ((0,), (1,), (70, 33))
    for offset in (1, 15, 16, 500 * 32 + 2, 2**34 - 8)
]


def _random_dropout(draw: Draw) -> Elements:
    whole = (0, 1, 3, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
    rate = draw.pick((0, 0.0, 0.25, 0.5, 0.9, 1 - 2**-40, 2.0**-32, np.float32(0.1), 1e-300))
    return Elements(
        draw.any_shape(), {"rate": rate, "seed": draw.pick(whole), "counter": draw.pick(whole), "offset": draw.pick(whole)}
    )


def _drop(case: Elements, rate: float) -> Elements:
    return Elements(case.shape, {"rate": rate, "seed": 3, "counter": 4})


def _dropout_backward(case: Elements, values: Values) -> Arguments:
    return {"dy": values(*case.shape), "mask": values(*case.shape)}


def _torch_dropout(torch: Torch, arguments: Arguments) -> object:
    result: object = torch.nn.functional.dropout(arguments["x"], arguments["rate"])
    return result


DROPOUT_FORWARD = Op(
    name="dropout_forward",
    arrays=("x",),
    results=(Result("y"), Result("mask")),
    arguments=_arrays("x"),
    cases=[*DROPOUTS, *PARTS],
    small=[_drop(SMALL[0], 0.25)],
    large=_drop(LARGE, 0.3),
    random=_random_dropout,
    judge=rounded_alike,
    rounds=False,
    in_place=("x",),
    any_shape=True,
    torch=_torch_dropout,
    timed_only=True,
    benchmarks=(Benchmark("", _drop(TIMED, 0.5)),),
)
DROPOUT_BACKWARD = Op(
    name="dropout_backward",
    arrays=("dy", "mask"),
    results=(Result("dx"),),
    arguments=_dropout_backward,
    cases=DROPOUTS,
    small=[_drop(SMALL[0], 0.25)],
    large=_drop(LARGE, 0.3),
    random=_random_dropout,
    judge=rounded_alike,
    rounds=False,
    in_place=("dy", "mask"),
    gradient=Gradient(
        DROPOUT_FORWARD,
        of=("x",),
        passes={"mask": 1},
        linear=(("x",),),
        cases=[case for case in DROPOUTS if case.options["rate"] != 0.25],
    ),
    benchmarks=(Benchmark("", _drop(TIMED, 0.5)),),
)
OPS = (
    RELU_FORWARD,
    RELU_BACKWARD,
    LEAKY_RELU_FORWARD,
    LEAKY_RELU_BACKWARD,
    SIGMOID_FORWARD,
    SIGMOID_BACKWARD,
    TANH_FORWARD,
    TANH_BACKWARD,
    DROPOUT_FORWARD,
    DROPOUT_BACKWARD,
)
