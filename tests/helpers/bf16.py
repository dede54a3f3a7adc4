"""bfloat16 in exact arithmetic, written from Intel's manual and not from the kernels; and the units to test on this CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fastlenet import _core
from helpers.arrays import Array

__all__ = ["DOTS", "HARDWARE", "LACKING", "TILES", "UNITS", "ConvPoolCase", "dot", "multiply_add", "tile_product"]

UNITS = _core.units_available()
HARDWARE = [name for name in UNITS if not name.endswith("-emulated")]
LACKING = [name for name in ("vdpbf16ps", "tdpbf16ps") if name not in UNITS]
DOTS = [name for name in UNITS if name.startswith("vdpbf16ps")]
TILES = [name for name in UNITS if name.startswith("tdpbf16ps")]

_LEAST = Fraction(1, 2**126)  # normal number
_HUGE = Fraction(2) ** 128 - Fraction(2) ** 103  # from here on, a float32 rounds to infinity


@dataclass(frozen=True)
class ConvPoolCase:
    """n images of c x h x w, k filters of r x s, windows of window."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    window: tuple[int, int] = (2, 2)
    padding: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        parts = (self.n, self.c, self.h, self.w), (self.k, self.r, self.s), self.window, self.padding
        return "-".join("x".join(map(str, part)) for part in parts)

    @property
    def options(self) -> Any:
        return {"padding": self.padding, "kernel_size": self.window}

    def factors(self, make: Any, rng: np.random.Generator) -> tuple[Array, Array]:
        """x, weight."""
        return make(rng, (self.n, self.c, self.h, self.w)), make(rng, (self.k, self.c, self.r, self.s))


def _flushed(x: float) -> float:
    return math.copysign(0.0, x) if abs(x) < 2.0**-126 else x


def _rounded(exact: Fraction) -> float:
    """To 24 bits, ties to even, with an exponent of any size; then flushed if it is tiny, infinite if it is huge."""
    if abs(exact) >= _HUGE:
        return math.copysign(math.inf, exact)
    exponent = math.floor(math.log2(abs(exact)))
    while Fraction(2) ** exponent > abs(exact):
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= abs(exact):
        exponent += 1
    unit = Fraction(2) ** (exponent - 23)
    result = round(exact / unit) * unit  # Python rounds ties to even
    return math.copysign(0.0, exact) if abs(result) < _LEAST else float(result)


def multiply_add(a: float, b: float, total: float) -> float:
    """a * b + total, rounded once; denormals are zeros before and after. NaN for any NaN."""
    a, b, total = _flushed(a), _flushed(b), _flushed(total)
    if not all(map(math.isfinite, (a, b, total))) or 0 in (a, b):
        try:
            return a * b + total
        except OverflowError:
            return math.nan
    exact = Fraction(a) * Fraction(b) + Fraction(total)
    return _rounded(exact) if exact else 0.0


def _halves(pair: int) -> tuple[float, float]:
    """The bfloat16 of the even and of the odd depth."""
    low, high = np.array([pair << 16 & 0xFFFF0000, pair & 0xFFFF0000], np.uint32).view(np.float32)
    return float(low), float(high)


def dot(total: float, a: int, b: int) -> float:
    """VDPBF16PS on one sum: the odd depth first."""
    (a_even, a_odd), (b_even, b_odd) = _halves(a), _halves(b)
    return multiply_add(a_even, b_even, multiply_add(a_odd, b_odd, total))


def _sum(a: float, b: float) -> float:
    return multiply_add(1.0, a, b)


def tile_product(sums: Array, a: Array, b: Array) -> Array:
    """TDPBF16PS on whole tiles: sums (16, 16) float32; a, b (16, 16) pairs."""
    result = np.empty_like(sums)
    for row in range(16):
        for column in range(16):
            even = odd = 0.0
            for k in range(16):
                (a_even, a_odd), (b_even, b_odd) = _halves(int(a[row, k])), _halves(int(b[k, column]))
                even, odd = multiply_add(a_even, b_even, even), multiply_add(a_odd, b_odd, odd)
            result[row, column] = _sum(_sum(even, odd), float(sums[row, column]))
    return result
