"""Results beside those that are exact."""

from __future__ import annotations

import numpy as np

from helpers.fuzz.draw import Array

LARGEST = float(np.finfo(np.float32).max)
TINY = 2.0**-149  # the step of the smallest numbers: what a product may lose below them


class MismatchError(AssertionError):
    """An op's result is not what it must be."""


def expect_equal(what: str, actual: Array, exact: Array) -> None:
    with np.errstate(over="ignore"):
        wrong = ~((actual == exact) | (np.isnan(actual) & np.isnan(exact)) if actual.dtype.kind == "f" else actual == exact)
    expect_none(what, wrong, actual, exact)


def expect_none(what: str, wrong: Array, actual: Array, exact: Array) -> None:
    if wrong.any():
        at = tuple(int(i[0]) for i in np.nonzero(wrong)) if wrong.ndim else ()
        raise MismatchError(
            f"{what}: {int(wrong.sum())} of {wrong.size} wrong, at {at} {actual[at]!r} instead of {exact[at]!r}"
        )


def expect_within(what: str, actual: Array, exact: Array, bound: Array, largest: Array) -> None:
    """Where no sum can leave float32's range (`largest` bounds what it passes); what is not finite must be as it is exactly."""
    with np.errstate(all="ignore"):
        calm = largest < LARGEST / 2
        off = calm & ~((np.abs(actual.astype(np.float64) - exact) <= bound) | (np.isnan(actual) & np.isnan(exact)))
        wild = ~np.isfinite(largest)
        odd = wild & (np.isnan(actual) != np.isnan(exact)) | wild & ~np.isnan(exact) & (actual != exact)
    expect_none(what, off | odd, actual, exact)
