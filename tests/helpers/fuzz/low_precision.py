"""What an op of fastlenet.bf16 must return: its NumPy twin's numbers, exactly or within the bound of its instruction's sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastlenet import bf16, ops, reference
from fastlenet.reference import bf16 as twin
from fastlenet.testing import OPS
from fastlenet.testing import description as described
from fastlenet.testing.cases import Fused, both
from fastlenet.testing.description import Array
from fastlenet.testing.fused import judge_windows
from fastlenet.testing.judging import LARGEST, TINY, WrongError, expect_equal, expect_within, gamma, mixes_huge
from fastlenet.testing.units import using
from helpers.bf16 import UNITS
from helpers.fuzz.calls import Call

Results = tuple[Any, ...]
FLUSHED = 2.0**-126  # a product or a sum below it is zero


def expected(call: Call) -> Results:
    """By the twin, in float64. Raises what the reference raises, which checks the arguments in the same way."""
    with np.errstate(all="ignore"):
        getattr(reference, call.op)(**call.arguments)
        return _twin(call, lambda array: array)


def judge(call: Call, exact: Results, actual: Results) -> None:
    """Raises WrongError unless the results are the twin's, and those of the same instruction's other unit bit for bit."""
    if _in_float32(call):
        names = [result.name for result in OPS[call.op].results]
        _expect_alike("in float32", names, actual, _results(getattr(ops, call.op)(**call.arguments)))
    elif call.op == "conv2d_relu_max_pool2d_forward":
        arguments = _rounded(call.arguments) | {"algorithm": "direct"}  # which bounds Winograd's errors where it is not used
        judge_windows(described.Call(OPS[call.op], arguments, call.exact), actual, _bounds)
    else:
        _judge_sums(call, exact, actual)
    for unit in UNITS:
        if unit != call.unit and _instruction(unit) == _instruction(call.unit):
            with using(unit):
                other = _results(getattr(bf16, call.op)(**call.arguments))
            _expect_alike(f"as {unit} has it", [result.name for result in OPS[call.op].results], actual, other)


def _instruction(unit: str) -> str:
    return unit.removesuffix("-emulated")


def _results(result: Any) -> Results:
    return result if isinstance(result, tuple) else (result,)


def _rounded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The factors as the instruction reads them; a bias is none."""
    floats = {n: v for n, v in arguments.items() if isinstance(v, np.ndarray) and v.dtype == np.float32 and n != "bias"}
    return arguments | {name: twin.rounded(value) for name, value in floats.items()}


def _twin(call: Call, change: Any) -> Results:
    """The twin's results in float64, of changed floats. It has no algorithm."""
    arguments = {
        name: change(value.astype(np.float64)) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value
        for name, value in call.arguments.items()
        if name != "algorithm"
    }
    return _results(getattr(twin, call.op)(**arguments))


# --- which products are of bfloat16 ----------------------------------------------------------------------------------------


def _in_float32(call: Call) -> bool:
    """Whether fastlenet.bf16 documents that the call is the one of fastlenet.ops."""
    a, tiles = call.arguments, _instruction(call.unit) == "tdpbf16ps"
    if call.op == "conv2d_relu_max_pool2d_forward":
        return not tiles and a.get("algorithm") == "winograd" and _winograd_pays(a)
    if call.op == "conv2d_relu_max_pool2d_backward":
        need_dx = a.get("need_dx", True)
        on_tiles = tiles and twin.on_tiles(a["dy"], a["winners"], a["x"], a["weight"], padding=a["padding"], need_dx=need_dx)
        return not on_tiles
    return False


def _winograd_pays(a: dict[str, Any]) -> bool:
    """Whether Winograd's algorithm computes these shapes: winograd_pays in cpp/ops/conv_pool_forward.cpp gives the costs."""
    k, c, r, s = a["weight"].shape
    if r != s or r not in (3, 5) or both(a["kernel_size"]) != (2, 2):
        return False
    p, q = Fused(*a["x"].shape, k, (r, s), a["padding"], 2).y_shape[2:]
    products, inward, outward = (64, 600, 270) if r == 5 else (36, 250, 150)
    tiles, direct = math.ceil(p / 2) * math.ceil(q / 2), c * k * r * s * p * q * 4
    return bool(tiles * (products * (c + 3) * k + inward * c + outward * k) < direct)


# --- bounds ----------------------------------------------------------------------------------------------------------------


def _error(depth: int, sizes: Array) -> Array:
    """Of a sum of so many roundings at most. sizes: the sums of the terms' magnitudes.

    VDPBF16PS rounds once for each product. TDPBF16PS adds up to 16 products of even places and 16 of odd ones, these two sums,
    and the sum before: a term passes no more roundings than there are products, and two. A bias is one more. Each step may
    lose what it flushes, of the product and of the sum.
    """
    return gamma(depth) * sizes + 2 * depth * FLUSHED


def _bounds(a: dict[str, Any]) -> tuple[Array, Array]:
    """Of the convolution, for judge_windows. The arguments are rounded."""
    x, weight = (np.abs(a[name].astype(np.float64)) for name in ("x", "weight"))
    bias = None if a["bias"] is None else np.abs(a["bias"].astype(np.float64))
    sizes = reference.conv2d_forward(x, weight, bias, padding=a["padding"])
    return _error(math.prod(weight.shape[1:]) + 3, sizes), sizes


def _depths(call: Call) -> tuple[int, ...]:
    """How many roundings a term of each result passes at most. dbias is added up in float32."""
    a = call.arguments
    if call.op == "linear_forward":
        return (a["weight"].shape[1] + 3,)
    dy = a["dy"]
    if call.op == "linear_backward":
        return dy.shape[1] + 3, dy.shape[0] + 3, max(dy.shape[0], 1)
    k, _, r, s = a["weight"].shape
    places = dy.shape[0] * dy.shape[2] * dy.shape[3]
    # dweight has a partial sum for each block of images, dbias one for each of 16 lanes of an image.
    return k * r * s + 2, places + dy.shape[0] + 2, places + 16 * dy.shape[0]


def _judge_sums(call: Call, exact: Results, actual: Results) -> None:
    names = [result.name for result in OPS[call.op].results]
    sizes = (None,) * len(names) if call.exact else _twin(call, np.abs)
    huge = mixes_huge(_rounded(call.arguments))
    for name, a, e, size, depth in zip(names, actual, exact, sizes, _depths(call), strict=True):
        if e is None:
            if a is not None:
                raise WrongError(f"{name} expected None, got {type(a).__name__}")
        elif size is None:
            expect_equal(name, a, e)
        else:
            if huge:
                size = np.where(np.isfinite(size), size, LARGEST)
            with np.errstate(all="ignore"):
                bound = gamma(depth) * size + depth * TINY if name == "dbias" else _error(depth, size)
                expect_within(name, a, e, bound, size)


def _expect_alike(why: str, names: list[str], actual: Results, other: Results) -> None:
    """The same bits, but for NaN's, which are any."""
    for name, a, b in zip(names, actual, other, strict=True):
        if (a is None) != (b is None):
            raise WrongError(f"{name} {why} expected {type(b).__name__}, got {type(a).__name__}")
        if a is None:
            continue
        expect_equal(f"{name} {why}", a, b)
        if a.dtype.kind == "f" and bool((np.signbit(a) != np.signbit(b))[~np.isnan(a)].any()):
            raise WrongError(f"{name} {why} expected zeros of another sign")
