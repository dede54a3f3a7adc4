"""What results are held against: equality, equal bits, derived bounds, float64."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet import reference
from fastlenet.testing.judging import gamma
from helpers.arrays import Array

__all__ = [
    "expect_as_exact",
    "expect_equal",
    "expect_meaningful",
    "expect_same_bits",
    "expect_within",
    "float64_reference",
    "gamma",
]


def expect_equal(actual: Any, expected: Any) -> None:
    """Equal numbers of equal shape; a zero's sign does not matter."""
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def expect_same_bits(actual: Any, expected: Any) -> None:
    """Arrays of the same shapes and bits, on a GPU or not."""
    for a, b in zip(_tuple(actual), _tuple(expected), strict=True):
        assert a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def expect_meaningful(*arrays: Array) -> None:
    """At least 30 % of the numbers of each array, unless it is tiny, are not zero: else equality would prove little."""
    for array in arrays:
        assert array.size < 16 or np.count_nonzero(array) >= 0.3 * array.size, "too many zeros to mean anything"


def expect_within(actual: Array, exact: Array, bound: Array | float) -> None:
    """|actual - exact| <= bound, in float64."""
    error = np.abs(actual.astype(np.float64) - exact)
    worst = float((error - bound).max(initial=-np.inf))
    assert (error <= bound).all(), f"past the bound by {worst}"


def expect_as_exact(actual: Any, rival: Any, exact: Any) -> None:
    """The root mean square error is at most four times that of another float32 computation, or half an ulp of the largest.

    For what rounds so often, and through so many stages, that a bound of the worst case says nothing. Two computations that
    round at as many places differ by less than two; constants that one of them rounds to float32 and the other keeps in float64
    (Adam's rates) may double that. A term that is missing, or taken twice, is off by orders of magnitude.
    """
    exact = np.asarray(exact, np.float64)
    ours, theirs = (float(np.sqrt(np.mean((np.asarray(array, np.float64) - exact) ** 2))) for array in (actual, rival))
    assert ours <= max(4 * theirs, 2.0**-24 * float(np.abs(exact).max())), (ours, theirs)


def float64_reference() -> ModuleType:
    """The reference backend with parameters and activations in float64: what is exact, beside float32."""

    def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> Array:
        return reference.empty(shape, np.float64 if dtype == np.float32 else dtype)

    module = ModuleType("float64_reference")
    vars(module).update(vars(reference), empty=empty)
    return module
