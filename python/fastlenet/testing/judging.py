"""Compares results with exact ones, by derived bounds. A failure is one line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastlenet.testing.description import Arguments, Array, Call, Judge, Results

__all__ = [
    "LARGEST",
    "TINY",
    "WrongError",
    "expect_all",
    "expect_equal",
    "expect_same_bits",
    "expect_within",
    "finite",
    "gamma",
    "means",
    "rounded_alike",
    "sums",
]

LARGEST = float(np.finfo(np.float32).max)
TINY = 2.0**-149  # the smallest positive float32; a product may lose this much by underflow


class WrongError(AssertionError):
    """A backend does not fulfil its contract."""


def gamma(terms: int) -> float:
    """The bound of the relative error of a sum of k = `terms` products in float32: k*u / (1 - k*u), u = 2^-24 (Higham 2002)."""
    return terms * 2.0**-24 / (1 - terms * 2.0**-24)


def expect_all(what: str, right: Array, actual: Array, exact: Array, bound: Array | float | None = None) -> None:
    """Raise an error that names the first wrong element, unless all are right. bound: how far from exact it may be."""
    if np.all(right):
        return
    wrong = ~np.broadcast_to(right, actual.shape)
    at = tuple(int(i[0]) for i in np.nonzero(wrong)) if wrong.ndim else ()
    count = f"{int(wrong.sum())} of {wrong.size} wrong, the first at {at}"
    within = "" if bound is None else f" within {np.broadcast_to(bound, actual.shape)[at]:.2g}"
    raise WrongError(f"{what} expected {exact[at]}{within}, got {actual[at]} ({count})")


def expect_shape(what: str, actual: object, exact: Array) -> None:
    shape = getattr(actual, "shape", None)
    if shape != exact.shape:
        got = type(actual).__name__ if shape is None else f"shape {shape}"
        raise WrongError(f"{what} expected shape {exact.shape}, got {got}")


def expect_equal(what: str, actual: Array, exact: Array) -> None:
    """Raise an error unless shapes and numbers are equal. NaN equals NaN, and -0 equals 0."""
    expect_shape(what, actual, exact)
    with np.errstate(all="ignore"):
        equal = actual == exact
        if actual.dtype.kind == "f":
            equal = equal | (np.isnan(actual) & np.isnan(exact))
    expect_all(what, equal, actual, exact)


def expect_same_bits(what: str, actual: Array, expected: Array) -> None:
    """Raise an error unless shapes, dtypes and bytes are equal."""
    expect_shape(what, actual, expected)
    if actual.dtype != expected.dtype:
        raise WrongError(f"{what} expected {expected.dtype}, got {actual.dtype}")
    if actual.tobytes() != expected.tobytes():
        kind = np.dtype(f"u{expected.itemsize}")
        same = np.ascontiguousarray(actual).view(kind) == np.ascontiguousarray(expected).view(kind)
        expect_all(f"{what}, bit for bit,", same.reshape(expected.shape), actual, expected)


def expect_within(what: str, actual: Array, exact: Array, bound: Array | float, largest: Array) -> None:
    """Raise an error unless |actual - exact| <= bound. largest: a bound of the partial sums; elements that may leave float32's
    range are not checked.

    If an infinity or NaN is among the terms, the result must equal the exact one.
    """
    expect_shape(what, actual, exact)
    with np.errstate(all="ignore"):
        calm = largest < LARGEST / 2
        off = calm & ~((np.abs(actual.astype(np.float64) - exact) <= bound) | (np.isnan(actual) & np.isnan(exact)))
        wild = ~np.isfinite(largest)
        odd = wild & (np.isnan(actual) != np.isnan(exact)) | wild & ~np.isnan(exact) & (actual != exact)
    expect_all(what, ~(off | odd), actual, exact, bound)


def finite(*arrays: Array | None) -> bool:
    """Whether the arrays contain no infinity or NaN."""
    return all(array is None or bool(np.isfinite(array).all()) for array in arrays)


def mixes_huge(arguments: Arguments) -> bool:
    """Whether an infinity may be added to a sum that has left float32's range."""
    floats = [value for value in arguments.values() if isinstance(value, np.ndarray) and value.dtype == np.float32]
    return not finite(*floats) and any(bool((np.abs(a[np.isfinite(a)]) > 1e15).any()) for a in floats)


def rounded_alike(call: Call, actual: Results) -> None:
    """The judge of an op whose float32 results are unique, because it adds nothing, or in one order."""
    for result, a, e in zip(call.op.results, call.op.arrays_of(actual), call.op.arrays_of(call.exact), strict=True):
        expect_equal(result.name, a, e)


def means(terms: Callable[[Arguments], int]) -> Judge:
    """The judge of an op whose result is a sum of at most so many numbers, in any order, divided once.

    Integers are added exactly, so that the quotient is the exact one, rounded. (Rounding it to float64 before changes nothing:
    53 bits are more than twice 24 and two, Figueroa 1995.)
    """

    def judge(call: Call, actual: Results) -> None:
        (result,), (a,), (e,) = call.op.results, actual, call.exact
        if call.integers:
            expect_equal(result.name, a, e.astype(np.float32))
        else:
            size, count = call.sizes[0], terms(call.arguments)
            if mixes_huge(call.arguments):
                size = np.where(np.isfinite(size), size, LARGEST)
            with np.errstate(all="ignore"):
                expect_within(result.name, a, e, gamma(count) * size + count * TINY, size * count)

    return judge


def sums(
    terms: Callable[[Arguments], tuple[int, ...]], skip: Callable[[Arguments], tuple[str, ...]] = lambda arguments: ()
) -> Judge:
    """The judge of an op whose results are sums of products, in any order, with or without fused multiply-adds.

    terms: a function of the arguments, the number of products in each result. The error of such a sum is at most gamma(terms)
    times the sum of the terms' magnitudes (Higham 2002). skip: a function of the arguments, the names of results that the op's
    contract leaves open.
    """

    def judge(call: Call, actual: Results) -> None:
        arguments = call.arguments
        sizes = (None,) * len(actual) if call.integers else call.sizes
        for result, a, e, size, count in zip(call.op.results, actual, call.exact, sizes, terms(arguments), strict=True):
            if e is None:
                if a is not None:
                    raise WrongError(f"{result.name} expected None, got {type(a).__name__}")
            elif result.name in skip(arguments):
                continue
            elif size is None:
                expect_equal(result.name, a, e)
            else:
                if mixes_huge(arguments):
                    size = np.where(np.isfinite(size), size, LARGEST)
                with np.errstate(all="ignore"):
                    expect_within(result.name, a, e, gamma(max(count, 1)) * size + max(count, 1) * TINY, size)

    return judge
