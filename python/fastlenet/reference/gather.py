"""Batches of images, from a data set of bytes or floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastlenet.augment import Transform
from fastlenet.backend import Array
from fastlenet.reference.checks import Call

__all__ = ["gather_images"]


def _affine_places(transform: Array, h: int, w: int) -> Array:
    """transform[n] @ (row, column, 1) for every pixel: (n, 2, h, w)."""
    grid = np.stack([*np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), np.ones((h, w))])
    return np.asarray(np.einsum("nij,jhw->nihw", transform.astype(np.float64), grid))


def _bilinear(images: Array, places: Array) -> Array:
    """Samples (n, c, h, w) of images of that shape at the places (n, 2, h, w), rows and columns; zeros outside and at NaN."""
    n, _, h, w = images.shape
    row, column = np.moveaxis(places, 1, 0)
    seen = (row > -1) & (row < h) & (column > -1) & (column < w)  # false for NaN
    row, column = np.where(seen, row, 0), np.where(seen, column, 0)
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = (row - top)[:, None], (column - left)[:, None]
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    batch = np.arange(n)[:, None, None]

    def at(i: int, j: int) -> Array:
        return np.moveaxis(framed[batch, :, top + i + 1, left + j + 1], -1, 1).astype(np.float64)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return np.where(seen[:, None], upper * (1 - down) + lower * down, 0)


def _distort(images: Array, index: Array, transform: Transform) -> Array:
    """Raw values (n, c, h, w), in float64: each image sampled where its transform says, then its hole blackened."""
    h, w = images.shape[2:]
    places = [transform.places(int(number), h, w) for number in index]
    samples = _bilinear(images[index], np.stack(places) if places else np.empty((0, 2, h, w)))
    for sample, number in zip(samples, index, strict=True):
        rows, columns = transform.hole(int(number), h, w)
        sample[:, rows, columns] = 0
    return samples


def gather_images(
    images: Array,
    index: npt.ArrayLike,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    transform: Array | Transform | None = None,
    out: Array | None = None,
) -> Array:
    call = Call("gather_images", out)
    images = call.array("images", images, np.uint8, np.float32, np.float64)
    if images.ndim != 4:
        call.rank("images", images, 3)
    planes = images if images.ndim == 4 else images[:, None]
    c, h, w = planes.shape[1:]
    centre, scale = call.normalisation(mean, std, c if images.ndim == 4 else 0)
    numbers = call.integers("index", index, len(images))
    call.rank("index", numbers, 1)
    if transform is not None and max(h, w) > 32000:
        raise ValueError(f"{call.op}: images expects at most 32000 pixels a side for a transform, got shape {images.shape}")
    if transform is None:
        values = planes[numbers]
    elif isinstance(transform, Transform):
        if transform.views is not None:
            call.shape("views", call.floats("views", transform.views), (len(planes), 2, 3))
        values = _distort(planes, numbers, transform)
    else:
        affine = call.floats("transform", transform)
        call.shape("transform", affine, (len(numbers), 2, 3))
        values = _bilinear(planes[numbers], _affine_places(affine, h, w))
    values = values / 255 if images.dtype == np.uint8 else values.astype(np.float64)
    return call.returns(((values - centre) / scale).astype(np.float32))
