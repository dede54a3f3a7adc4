"""Exact values of ops that round inside, and how far float32 may be from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet import reference
from fastlenet.augment import Transform
from helpers.arrays import Array
from helpers.expect import gamma

Floats = npt.NDArray[np.float32]

NORMAL: dict[str, float] = {"mean": 0.1307, "std": 0.3081}

POINTS = np.array([0, 1, -1, 0.5, -0.5, 2, -2])  # and infinity
TILE = 8


def matrices(r: int) -> tuple[Array, Array, Array]:
    """A^T (m x 8), G (8 x r) and B^T (8 x 8) by Lagrange's interpolation: y = A^T ((G g) * (B^T x)) is m = 9 - r outputs."""
    m = TILE + 1 - r
    distances = np.array([np.prod(np.delete(point - POINTS, i)) for i, point in enumerate(POINTS)])
    a = np.vstack([np.vander(POINTS, m, increasing=True), np.eye(m)[-1]])
    g = np.vstack([np.vander(POINTS, r, increasing=True) / distances[:, None], np.eye(r)[-1]])
    b = np.zeros((TILE, TILE))
    for i in range(len(POINTS)):
        b[i, : TILE - 1] = np.poly(np.delete(POINTS, i))[::-1]
    b[-1] = np.poly(POINTS)[::-1]
    return a.T, g, b


def by_tiles(x: Array, weight: Array, padding: Any, transforms: tuple[Array, Array, Array]) -> Array:
    """The convolution by these matrices, in float64; more rows and columns than it has, up to whole tiles."""
    a, g, b = transforms
    m, r = len(a), weight.shape[2]
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    sizes = [size + 2 * pad - r + 1 for size, pad in zip(x.shape[2:], pads, strict=True)]
    more = [-size % m for size in sizes]
    frame = np.pad(x, ((0, 0), (0, 0), *((pad, pad + extra) for pad, extra in zip(pads, more, strict=True))))
    tiles = sliding_window_view(frame, (TILE, TILE), axis=(2, 3))[:, :, ::m, ::m]
    inputs = np.einsum("ai,bj,nchwij->nchwab", b, b, tiles, optimize=True)
    filters = np.einsum("ai,bj,kcij->kcab", g, g, weight, optimize=True)
    products = np.einsum("nchwab,kcab->nkhwab", inputs, filters, optimize=True)
    y: Array = np.einsum("ia,jb,nkhwab->nkhiwj", a, a, products, optimize=True)
    return y.reshape(*y.shape[:2], y.shape[2] * m, y.shape[4] * m)


def sampling_bound(transform: Transform, number: int, h: int, w: int) -> Array:
    """How far float32 may be off, pixel by pixel, for images of 0..255.

    A position is a sum of five parts: two products of the matrix's numbers and pixel numbers, the offset, the frame's border of
    1, and the displacement. Rounding the matrix, the products and the sums is at most 5 roundings of each part. The
    displacement is alpha times two nested sums of K products each, of taps that were rounded and noise below 1 that is exact;
    the taps' sum is 1. With the taps' rounding, alpha's, its product, and the last sum, these are 2 K + 5 roundings of alpha.
    Then a sample moves by at most 255, the steepest slope there is, per pixel along each axis. Five more roundings are the
    interpolation's, of numbers up to 255 (two of a row's, which the other axis averages, and three of that), and four those
    of the normalisation, the reference's included.
    """
    chosen = transform.augmentation
    matrix, shift = np.abs(transform.affine(number)), np.abs(transform.shift(number))
    middle = np.array([h - 1, w - 1]) / 2
    rows, columns = np.arange(h)[:, None], np.arange(w)
    taps = sum(min(2 * math.ceil(3 * chosen.elastic_sigma) + 1, size) for size in (h, w))
    position: Array = np.zeros((h, w))
    for axis in range(2):
        offset = middle[axis] + matrix[axis] @ (middle + shift) + 1
        position = position + gamma(5) * (matrix[axis, 0] * rows + matrix[axis, 1] * columns + offset)
        position = position + gamma(taps + 5) * chosen.elastic
    mean, std = NORMAL["mean"], NORMAL["std"]
    return (position + gamma(5)) / std + gamma(4) * (1 + mean) / std


class Truth:
    """The true sigmoid of some x that are not NaN, to 2^-29 of a unit in the last place, by float64; and these units.

    Below 2^-126 the unit is that of the denormals, 2^-149.
    """

    def __init__(self, x: Floats) -> None:
        self.nan = np.isnan(x)
        self.number = ~self.nan
        self.exact: Any = reference.sigmoid_forward(x[self.number].astype(np.float64))
        _, exponent = np.frexp(self.exact)
        self.unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))

    def worst_ulp(self, y: Floats) -> float:
        """The largest error, in units. NaN must come of NaN alone."""
        np.testing.assert_array_equal(np.isnan(y), self.nan)
        return float((np.abs(y[self.number] - self.exact) / self.unit).max(initial=0.0))
