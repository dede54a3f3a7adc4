"""Arrays as small PNG pictures inside a page: images, filters, activations."""

from __future__ import annotations

import base64
import math

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.display import indexed_png, png

__all__ = ["image_address", "shrunk", "signed_address", "tiled"]

_POSITIVE, _NEGATIVE = (213, 94, 0), (0, 114, 178)  # Okabe and Ito's vermilion and blue
_ZERO, _GAP = 127, 255  # the places of zero and of NaN in the palette
_FEWEST, _MOST = 5, 12  # tiles in a row


def image_address(image: Array) -> str:
    """The address (data:) of a picture of an image, (h, w) or (c, h, w) of colours."""
    return _address(png(image))


def signed_address(array: Array) -> str:
    """The address of a picture of numbers (h, w): positive ones are orange, negative ones blue, zero transparent, NaN gray.

    The largest magnitude is opaque. So the picture suits a light page and a dark one.
    """
    finite = np.where(np.isfinite(array), array, 0).astype(np.float64)
    most = float(np.abs(finite).max(initial=0)) or 1.0
    places = np.rint(finite / most * _ZERO + _ZERO).astype(np.uint8)
    places[np.isnan(array)] = _GAP
    return _address(indexed_png(places, _palette()))


def _palette() -> Array:
    levels = np.arange(_GAP + 1) - _ZERO
    palette = np.empty((len(levels), 4), np.uint8)
    palette[:, :3] = np.where(levels[:, np.newaxis] >= 0, _POSITIVE, _NEGATIVE)
    palette[:_GAP, 3] = np.rint(np.abs(levels[:_GAP]) * (255 / _ZERO))
    palette[_GAP] = 128, 128, 128, 60
    return palette


def _address(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def shrunk(images: Array, most: int) -> Array:
    """The images (..., h, w) with every second, third, ... pixel, so that no side is longer than `most`."""
    step = max(1, math.ceil(max(images.shape[-2:]) / most))
    return images[..., ::step, ::step]


def tiled(tiles: Array, columns: int = 0) -> Array:
    """Arrays (n, h, w) beside and below each other, with a gap of NaN between them. columns: 0 chooses their number."""
    count, h, w = tiles.shape
    columns = columns or _columns(count)
    rows = -(-count // columns)
    sheet: Array = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1), np.nan)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet[row * (h + 1) :, column * (w + 1) :][:h, :w] = tile
    return sheet


def _columns(count: int) -> int:
    """The number of columns that leaves the fewest places empty; of equally good ones, the largest."""
    if count <= _MOST:
        return max(1, count)
    return min(range(_MOST, _FEWEST - 1, -1), key=lambda columns: -count % columns)
