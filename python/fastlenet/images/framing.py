"""From a shape of ink to 28x28 pixels, as the images of MNIST were made.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while preserving their
aspect ratio. The resulting images contain grey levels as a result of the anti-aliasing technique used by the normalization
algorithm. The images were centered in a 28x28 image by computing the center of mass of the pixels, and translating the image so
as to position this point at the center of the 28x28 field." Source: LeCun, Cortes, Burges, The MNIST database of handwritten
digits, https://yann.lecun.com/exdb/mnist/

No sum here depends on its order or on fused multiply-adds, so that the bytes are the same on every CPU, and in a browser, where
exports/page/framing.js computes them: change both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True, eq=False)
class _Taps:
    """A resampling along one axis: y[i] = sum of weights[i, t] * x[places[i, t]]. Both (after, taps)."""

    places: npt.NDArray[np.intp]
    weights: Array

    def along_rows(self, pixels: Array) -> Array:
        """Of (before, columns), added tap by tap: (after, columns)."""
        y = self.weights[:, :1] * pixels[self.places[:, 0]]
        for tap in range(1, self.places.shape[1]):
            y += self.weights[:, tap, None] * pixels[self.places[:, tap]]
        return y


def frame(ink: Ink, shape: Shape) -> Array:
    """One shape's ink as uint8 (28, 28): white on black, in the box, its centre of mass in the middle."""
    fine = _thickened(_black_and_white(ink, shape))
    rows, columns = np.nonzero(fine.max(1) > 0.5)[0], np.nonzero(fine.max(0) > 0.5)[0]
    if len(rows) == 0:
        return np.zeros((SIDE, SIDE), np.uint8)
    tight = fine[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(tight.shape)
    h, w = (max(1, round(size * scale)) for size in tight.shape)
    box = _resized(tight, _areas(tight.shape[0], h), _areas(tight.shape[1], w))
    return _centred(np.rint(box * 255).astype(np.uint8))


def _black_and_white(ink: Ink, shape: Shape) -> Array:
    """The shape's ink alone as float32, sharpened, its longer side _FINE times the box's."""
    size = _FINE * BOX / shape.size
    margin = 1 + round(_MARGIN * shape.size)
    top, left = max(0, shape.top - margin), max(0, shape.left - margin)
    density = ink.density[top : shape.bottom + margin, left : shape.right + margin]
    own = np.zeros(density.shape, np.float32)
    own[shape.top - top : shape.bottom - top, shape.left - left : shape.right - left] = shape.mask
    down, across = (_resampling(n, max(1, round(n * size)), 1 / size) for n in density.shape)
    near = _widened(_resized(own, down, across) > 0.25, 3)
    fine = (_resized(density, down, across) * near).astype(np.float32)
    return np.asarray(np.clip((fine / max(ink_level(fine), 1e-6) - 0.5) * _CONTRAST + 0.5, 0, 1))


def _resized(pixels: Array, down: _Taps, across: _Taps) -> Array:
    """Resampled in float64 along the columns, then along the rows."""
    return np.ascontiguousarray(across.along_rows(np.ascontiguousarray(down.along_rows(pixels).T)).T)


def _resampling(before: int, after: int, step: float) -> _Taps:
    """Interpolates linearly, or averages where pixels become fewer."""
    place = (np.arange(after) + 0.5) * step - 0.5
    reach = max(1.0, step)
    places = np.ceil(place - reach).astype(np.intp)[:, None] + np.arange(int(2 * reach) + 1)
    weights = np.maximum(1 - np.abs(place[:, None] - places) / reach, 0) * ((places >= 0) & (places < before))
    total = np.maximum(np.cumsum(weights, axis=1)[:, -1:], 1e-6)
    return _Taps(np.clip(places, 0, before - 1), weights / total)


def _areas(before: int, after: int) -> _Taps:
    """Means over equal parts: each pixel counts by the area that lies in the part."""
    part = np.arange(after)[:, None]  # parts and pixels are measured in whole numbers: a pixel is `after` long, a part `before`
    places = part * before // after + np.arange(-(-before // after) + 1)
    covered = np.minimum((part + 1) * before, (places + 1) * after) - np.maximum(part * before, places * after)
    return _Taps(np.minimum(places, before - 1), np.maximum(covered, 0) / before)


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
    whole = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (
        int(np.clip(round(_MIDDLE - _centre(box.sum(axis, dtype=np.int64))), 0, SIDE - size))
        for axis, size in zip((1, 0), box.shape, strict=True)
    )
    whole[top : top + box.shape[0], left : left + box.shape[1]] = box
    return whole


def _centre(sums: Array) -> float:
    """The centre of mass along an axis, in pixels from its edge. sums: integers."""
    return int((sums * (2 * np.arange(len(sums)) + 1)).sum()) / max(2 * int(sums.sum()), 1)
