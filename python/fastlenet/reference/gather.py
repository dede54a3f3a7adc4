"""Batches of images, from the data set's bytes."""

from __future__ import annotations

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
    """Samples (n, h, w) of the images (n, h, w) at the places (n, 2, h, w), rows and columns; zeros outside and at NaN."""
    n, h, w = images.shape
    row, column = np.moveaxis(places, 1, 0)
    seen = (row > -1) & (row < h) & (column > -1) & (column < w)  # false for NaN
    row, column = np.where(seen, row, 0), np.where(seen, column, 0)
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = row - top, column - left
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    batch = np.arange(n)[:, None, None]

    def at(i: int, j: int) -> Array:
        return framed[batch, top + i + 1, left + j + 1].astype(np.float64)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return np.where(seen, upper * (1 - down) + lower * down, 0)


def _distort(images: Array, index: Array, transform: Transform) -> Array:
    """Raw values (n, h, w), in float64: each image sampled where its transform says, then its hole blackened."""
    h, w = images.shape[1:]
    places = [transform.places(int(number), h, w) for number in index]
    samples = _bilinear(images[index], np.stack(places) if places else np.empty((0, 2, h, w)))
    for sample, number in zip(samples, index, strict=True):
        sample[transform.hole(int(number), h, w)] = 0
    return samples


def gather_images(
    images: Array,
    index: npt.ArrayLike,
    *,
    mean: float,
    std: float,
    transform: Array | Transform | None = None,
    out: Array | None = None,
) -> Array:
    call = Call("gather_images", out)
    images = call.array("images", images, np.uint8)
    call.rank("images", images, 3)
    mean, std = call.normalisation(mean, std)
    numbers = call.integers("index", index, len(images))
    call.rank("index", numbers, 1)
    if transform is not None and max(images.shape[1:]) > 32000:
        raise ValueError(f"{call.op}: images expects at most 32000 pixels a side for a transform, got shape {images.shape}")
    if transform is None:
        values = images[numbers]
    elif isinstance(transform, Transform):
        values = _distort(images, numbers, transform)
    else:
        affine = call.floats("transform", transform)
        call.shape("transform", affine, (len(numbers), 2, 3))
        values = _bilinear(images[numbers], _affine_places(affine, *images.shape[1:]))
    return call.returns(((values / 255 - mean) / std).astype(np.float32)[:, None])
