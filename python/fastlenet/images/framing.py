"""From a shape of ink to 28x28 pixels, as the images of MNIST were made.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while preserving their
aspect ratio. The resulting images contain grey levels as a result of the anti-aliasing technique used by the normalization
algorithm. The images were centered in a 28x28 image by computing the center of mass of the pixels, and translating the image so
as to position this point at the center of the 28x28 field." Source: LeCun, Cortes, Burges, The MNIST database of handwritten
digits, https://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import numpy as np

from fastlenet import ops
from fastlenet.backend import Array
from fastlenet.images.ink import Ink, ink_level
from fastlenet.images.shapes import Shape

__all__ = ["BOX", "SIDE", "frame"]

SIDE, BOX = 28, 20  # pixels of the image, and of the box that its digit fits in
_MIDDLE = SIDE / 2 + 0.5  # where the centre of mass of MNIST's images lies, in pixels from the edge: within half a pixel
_FINE = 4  # the stroke's width is judged, and mended, at so many times the box's resolution
_CONTRAST = 3.0  # from the ink's density to black and white, but for a narrow edge
_THINNEST = 2.0  # pixels of the box: thinner strokes are thickened to that; those of MNIST measure 2 to 4
_MARGIN = 0.06  # of the shape's size: ink around it that belongs to it


def frame(ink: Ink, shape: Shape) -> Array:
    """One shape's ink as 28x28 pixels in 0..1: white on black, in the box, its centre of mass in the middle."""
    fine = _thickened(_black_and_white(ink, shape))
    rows, columns = np.nonzero(fine.max(1) > 0.5)[0], np.nonzero(fine.max(0) > 0.5)[0]
    if len(rows) == 0:
        return np.zeros((SIDE, SIDE), np.float32)
    tight = fine[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(tight.shape)
    h, w = (max(1, round(size * scale)) for size in tight.shape)
    return _centred(_resized(tight, _areas(tight.shape[0], h), _areas(tight.shape[1], w)))


def _black_and_white(ink: Ink, shape: Shape) -> Array:
    """The shape's ink alone, sharpened, its longer side _FINE times the box's."""
    size = _FINE * BOX / shape.size
    margin = 1 + round(_MARGIN * shape.size)
    top, left = max(0, shape.top - margin), max(0, shape.left - margin)
    density = ink.density[top : shape.bottom + margin, left : shape.right + margin]
    own = np.zeros(density.shape, np.float32)
    own[shape.top - top : shape.bottom - top, shape.left - left : shape.right - left] = shape.mask
    down, across = (_resampling(n, max(1, round(n * size)), 1 / size) for n in density.shape)
    near = _widened((_resized(own, down, across) > 0.25).astype(np.float32), 3)
    fine = _resized(density, down, across) * near
    return np.asarray(np.clip((fine / max(ink_level(fine), 1e-6) - 0.5) * _CONTRAST + 0.5, 0, 1))


def _resized(pixels: Array, down: Array, across: Array) -> Array:
    """down @ pixels @ across.T, by the package's kernels: NumPy's would start another library's threads for little work."""
    columns = np.ascontiguousarray(pixels.T, np.float32)
    return ops.linear_forward(ops.linear_forward(down, columns), across)


def _resampling(before: int, after: int, step: float) -> Array:
    """The matrix (after, before) that interpolates linearly, or averages where pixels become fewer."""
    place = (np.arange(after) + 0.5) * step - 0.5
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(before)) / max(1.0, step), 0)
    return np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), 1e-6), np.float32)


def _areas(before: int, after: int) -> Array:
    """The matrix (after, before) of means over equal parts: each pixel counts by the area that lies in the part."""
    edges = np.arange(after + 1) * (before / after)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(before)
    covered = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return np.asarray(np.maximum(covered, 0) * (after / before), np.float32)


def stroke_width(fine: Array) -> float:
    """Twice the area over the outline, which for a long stroke is its width; in pixels."""
    black = np.pad(fine > 0.5, 1)
    outline = np.count_nonzero(np.diff(black, axis=0)) + np.count_nonzero(np.diff(black, axis=1))
    return float(2 * np.count_nonzero(black) / max(1.0, outline * np.pi / 4))


def _thickened(fine: Array) -> Array:
    """Strokes at least _THINNEST wide."""
    missing = _THINNEST * _FINE - stroke_width(fine)
    reach = int(np.ceil(missing / 2))
    if missing <= 0.5:
        return fine
    return _widened(np.pad(fine, reach), reach)


def _widened(fine: Array, reach: int) -> Array:
    """Each pixel the largest within a circle of that radius."""
    h, w = fine.shape
    framed = np.pad(fine, reach)
    widest = fine
    for down in range(-reach, reach + 1):
        half = int(np.sqrt(reach * reach - down * down + 0.5))
        rows = framed[reach + down : reach + down + h]
        for right in range(-half, half + 1):
            widest = np.maximum(widest, rows[:, reach + right : reach + right + w])
    return widest


def _centred(box: Array) -> Array:
    """The box in SIDE x SIDE pixels, moved by whole pixels, inside, so that the centre of mass comes nearest to the middle."""
    whole = np.zeros((SIDE, SIDE), np.float32)
    top, left = (
        int(np.clip(round(_MIDDLE - _centre(box.sum(axis))), 0, SIDE - size))
        for axis, size in zip((1, 0), box.shape, strict=True)
    )
    whole[top : top + box.shape[0], left : left + box.shape[1]] = box
    return whole


def _centre(sums: Array) -> float:
    """The centre of mass along an axis, in pixels from its edge."""
    return float((sums * (np.arange(len(sums)) + 0.5)).sum() / max(float(sums.sum()), 1e-6))
