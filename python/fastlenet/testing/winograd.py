"""Winograd's algorithm in float64, by the matrices of its definition, for its error bound."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet.testing.cases import Pair, both
from fastlenet.testing.description import Array

__all__ = ["by_tiles", "matrices", "roundings"]

# Of filters of so many taps, beside infinity.
POINTS = {3: np.array([0, 0.75, -0.75, 1.5, -1.5]), 5: np.array([0, 1, -1, 0.5, -0.5, 2, -2])}
OUTPUTS = 4

Matrices = tuple[Array, Array, Array]


def matrices(r: int) -> Matrices:
    """A^T (4 x t), G (t x r) and B^T (t x t) by Lagrange's interpolation at t = r + 3 points: y = A^T ((G g) * (B^T x))."""
    points, size = POINTS[r], r + OUTPUTS - 1
    distances = np.array([np.prod(np.delete(point - points, i)) for i, point in enumerate(points)])
    a = np.vstack([np.vander(points, OUTPUTS, increasing=True), np.eye(OUTPUTS)[-1]])
    g = np.vstack([np.vander(points, r, increasing=True) / distances[:, None], np.eye(r)[-1]])
    b = np.zeros((size, size))
    for i in range(len(points)):
        b[i, : size - 1] = np.poly(np.delete(points, i))[::-1]
    b[-1] = np.poly(points)[::-1]
    return a.T, g, b


def by_tiles(x: Array, weight: Array, padding: Pair, transforms: Matrices) -> Array:
    """The convolution by these matrices, in float64; more rows and columns than it has, up to whole tiles."""
    a, g, b = transforms
    m, r = len(a), weight.shape[2]
    pads = both(padding)
    sizes = [size + 2 * pad - r + 1 for size, pad in zip(x.shape[2:], pads, strict=True)]
    more = [-size % m for size in sizes]
    frame = np.pad(x, ((0, 0), (0, 0), *((pad, pad + extra) for pad, extra in zip(pads, more, strict=True))))
    tiles = sliding_window_view(frame, (len(b), len(b)), axis=(2, 3))[:, :, ::m, ::m]
    inputs = np.einsum("ai,bj,nchwij->nchwab", b, b, tiles, optimize=True)
    filters = np.einsum("ai,bj,kcij->kcab", g, g, weight, optimize=True)
    products = np.einsum("nchwab,kcab->nkhwab", inputs, filters, optimize=True)
    y: Array = np.einsum("ia,jb,nkhwab->nkhiwj", a, a, products, optimize=True)
    return y.reshape(*y.shape[:2], y.shape[2] * m, y.shape[4] * m)


def roundings(channels: int) -> int:
    """What a term of an output passes: 4 along each axis in B^T, 2 in G (float64, rounded once), c in the sum over the
    channels, 4 along each axis in A^T, one at the bias."""
    return channels + 19
