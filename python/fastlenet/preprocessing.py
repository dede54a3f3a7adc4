"""Deterministic preprocessing of images: digits made upright, and of one width. It is a map of each image alone.

    views = Preprocessing(width=14, deskew=True).views(images)       one affine map per image
    ops.gather_images(images, index, ..., transform=views[index])    the preprocessed images
    ops.gather_images(..., transform=augmentation.at(seed, epoch, views))    these, distorted at random

An image's intensity I(r, c) at row r and column c is the sum over its channels. Rows stay where they are; in a row, column c of
the preprocessed image is sampled at column

    a c + b r + o    of the raw image

*deskew*: with the centre of mass (r0, c0) and the second central moments m11 = sum I (r - r0) (c - c0) and m02 = sum I
(r - r0)^2, a row is moved by -s (r - r0), where s = m11 / m02 within -1..1. Then the least-squares line of c by r is vertical,
so the digit is upright. An image without two rows of ink (m02 = 0) stays.

*width*: the left and the right edge of the digit are where the image, interpolated along its rows, last falls to a quarter of
its largest intensity; beyond the border it is black. All columns are scaled about the middle between these edges, so that they
lie width * min(h, w) / 28 pixels apart, and then moved by as much as keeps both inside the image. The height stays. A black
image stays.

Sources: LeCun et al. 1998, "Gradient-based learning applied to document recognition" (deslanting by moments of inertia);
Ciresan et al. 2012, "Multi-column deep neural networks for image classification" (columns on digits of different widths).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastlenet.fields import FieldTypeError, FieldValueError, Values, a_field, expect_fields, names_expected

__all__ = ["DESKEW", "SIDE", "WIDTH", "Preprocessing"]

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.generic]

SIDE = 28  # pixels of an image for which a length is meant; other sizes in proportion
_LEAST, _MOST = 10, 20


@dataclass(frozen=True)
class _Width(Values[int]):
    """0, or a width in pixels."""

    def _holds(self, value: float | str) -> bool:
        return value == 0 or super()._holds(value)


WIDTH = _Width(int, f"0, or pixels in {_LEAST}..{_MOST}", _LEAST, _MOST)
DESKEW = Values(bool)
_THRESHOLD = 0.25  # of the largest intensity: what is brighter belongs to the digit
_STEEPEST = 1.0  # columns per row: 45 degrees
_PIECE = 1 << 18  # pixels at a time, which bounds the memory
_kept: dict[tuple[int, Preprocessing], tuple[weakref.ref[Images], Array]] = {}


@names_expected
@dataclass(frozen=True)
class Preprocessing:
    """What is done to each image before the network sees it, in training and in prediction. 0 and False mean off.

    width: the width of the digit, in pixels of an image of 28; other sizes in proportion to their shorter side. deskew: make
    the digit upright. Raises ValueError, or TypeError for a value of another type; both name the field.
    """

    width: int = a_field(0, WIDTH)
    deskew: bool = a_field(False, DESKEW)

    def __post_init__(self) -> None:
        expect_fields(self, "Preprocessing: ")

    def __bool__(self) -> bool:
        """Whether anything is on."""
        return bool(self.width or self.deskew)

    def __str__(self) -> str:
        """What is on, in words, or "none"."""
        parts = [f"width {self.width}"] * bool(self.width) + ["deskew"] * self.deskew
        return ", ".join(parts) or "none"

    def views(self, images: Images) -> Array:
        """Returns the map of each image, float32 (n, 2, 3): (row, column, 1) of the preprocessed image to (row, column) of the
        raw one, as gather_images takes it.

        images: (n, h, w), or (n, c, h, w), uint8 or floats. Raises TypeError or ValueError for others.
        """
        expected = "an array of images, (n, h, w) or (n, c, h, w)"
        if not isinstance(images, np.ndarray) or images.dtype.kind not in "uif":
            raise FieldTypeError("images", images, expected, "Preprocessing.views: ")
        if images.ndim not in (3, 4):
            raise FieldValueError("images", images, expected, "Preprocessing.views: ", got=f"shape {images.shape}")
        n, (h, w) = len(images), images.shape[-2:]
        views = np.zeros((n, 2, 3), np.float32)
        views[:, 0, 0] = views[:, 1, 1] = 1
        size = max(1, _PIECE // max(1, int(np.prod(images.shape[1:]))))
        for start in range(0, n if self and h and w else 0, size):
            part = slice(start, start + size)
            views[part, 1] = self._columns(_intensity(images[part]))
        return views

    def kept_views(self, images: Images) -> Array | None:
        """Returns the views of a data set's images, computed once and kept as long as the images; None if nothing is on.

        The images must not change meanwhile.
        """
        if not self:
            return None
        key = id(images), self
        known = _kept.get(key)
        if known is None or known[0]() is not images:
            known = weakref.ref(images, lambda gone: _kept.pop(key, None)), self.views(images)
            _kept[key] = known
        return known[1]

    def _columns(self, intensity: Floats) -> Floats:
        """(b, a, o) of the docstring's a c + b r + o, for images (n, h, w)."""
        n, h, w = intensity.shape
        rows = np.arange(h)
        slope, middle = _skew(intensity) if self.deskew else (np.zeros(n), np.zeros(n))
        columns = np.stack([slope, np.ones(n), 0 - slope * middle], axis=1)
        if not self.width:
            return columns
        left, right = _edges(intensity)  # of each row; (inf, -inf) of a row without ink
        moved = slope[:, None] * (rows - middle[:, None])
        first, last = (left - moved).min(axis=1), (right - moved).max(axis=1)
        inked = last > first
        first, last = np.where(inked, first, 0), np.where(inked, last, 1)
        target = self.width * min(h, w) / SIDE
        scale = (last - first) / target
        centre = (first + last) / 2
        # The digit's middle after scaling: as before, or as near as keeps the edges within -1/2..w - 1/2.
        placed = np.clip(centre, (target - 1) / 2, w - (target + 1) / 2)
        # Column c is sampled at d + slope (r - middle), where d = centre + scale (c - placed).
        sized = np.stack([slope, scale, centre - scale * placed - slope * middle], axis=1)
        return np.where(inked[:, None], sized, columns)


def _intensity(images: Images) -> Floats:
    """(n, h, w): the sum over the channels. Floats that are not finite count as black."""
    values = images.astype(np.float64)
    if images.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0)
    return np.asarray(values if values.ndim == 3 else values.sum(axis=1))


def _skew(intensity: Floats) -> tuple[Floats, Floats]:
    """m11 / m02 within -1..1, and the row of the centre of mass; 0 and 0 where m02 is 0."""
    h, w = intensity.shape[1:]
    rows, columns = np.arange(h, dtype=np.float64), np.arange(w, dtype=np.float64)
    mass, along = intensity.sum(axis=2), intensity @ columns  # of each row: sum I, sum I c
    total, r = mass.sum(axis=1), mass @ rows
    safe = np.where(total > 0, total, 1)
    r0, c0 = r / safe, along.sum(axis=1) / safe
    m02 = (mass * (rows - r0[:, None]) ** 2).sum(axis=1)
    m11 = ((along - c0[:, None] * mass) * (rows - r0[:, None])).sum(axis=1)
    there = (total > 0) & (m02 > 1e-9 * total)  # less is what rounding leaves of a single row
    slope = np.where(there, np.clip(m11 / np.where(there, m02, 1), -_STEEPEST, _STEEPEST), 0)
    return slope, np.where(there, r0, 0)


def _edges(intensity: Floats) -> tuple[Floats, Floats]:
    """Of each row, (n, h): where it rises to the threshold first, and falls to it last; inf and -inf if it is never above."""
    n, h, w = intensity.shape
    framed = np.zeros((n, h, w + 2))
    framed[..., 1:-1] = intensity
    threshold = np.repeat(_THRESHOLD * intensity.max(axis=(1, 2)), h)
    above = framed.reshape(n * h, w + 2) > threshold[:, None]
    inked = np.flatnonzero(above.any(axis=1))
    values, above, threshold = framed.reshape(-1), above[inked], threshold[inked]

    def edge(inner: npt.NDArray[np.intp], step: int) -> Floats:
        """Between the inner column, above the threshold, and its neighbour, which is not: where the threshold is met."""
        at = inked * (w + 2) + inner
        high, low = values[at], values[at + step]
        return np.asarray(inner - 1 + step * (high - threshold) / (high - low))

    left, right = np.full(n * h, np.inf), np.full(n * h, -np.inf)
    left[inked] = edge(above.argmax(axis=1), -1)
    right[inked] = edge(w + 1 - above[:, ::-1].argmax(axis=1), 1)
    return left.reshape(n, h), right.reshape(n, h)
