"""Units in the last place: how far float32 results are from exact ones."""

from __future__ import annotations

import numpy as np

from fastlenet.testing.description import Array

__all__ = ["Ulps"]


class Ulps:
    """The exact values of a function at some x, in float64, and the unit in the last place of each in float32.

    Below 2^-126 the unit is that of the denormals, 2^-149.
    """

    def __init__(self, x: Array, exact: Array) -> None:
        self._nan = np.isnan(x)
        self._exact = exact[~self._nan]
        _, exponent = np.frexp(self._exact)
        self._unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))

    def worst(self, y: Array) -> float:
        """The largest error, in units; infinite where NaN does not come of NaN alone."""
        if not np.array_equal(np.isnan(y), self._nan):
            return float("inf")
        return float((np.abs(y[~self._nan] - self._exact) / self._unit).max(initial=0.0))
