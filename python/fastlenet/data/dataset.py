"""A data set in memory: images and labels, checked once when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.fields import Values, integer

__all__ = ["Bytes", "Dataset", "mean_std"]

Bytes = npt.NDArray[np.uint8]

_FINITE = Values(float, "a finite number", -1e30, 1e30)
_POSITIVE = Values(float, "a positive number", 0, 1e30, above=True)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: training and test images with their labels.

    images: uint8 (N, h, w). labels: (N,) of any integer dtype, in 0..classes-1. mean, std: they normalise the pixels, scaled to
    [0, 1]. There must be at least one training image. `fit` and `evaluate` need test images; hold_out makes some from the
    training images. Labels become uint8, and views (transposed, cropped, reversed) become contiguous copies. Other arrays are
    not copied, so do not change them afterwards. Two data sets are equal only if they are the same object. Raises TypeError for
    a field of the wrong type and ValueError for other errors; the message is one line with the cure.
    """

    name: str
    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes
    classes: int
    mean: float
    std: float

    def __post_init__(self) -> None:
        classes = integer("classes", self.classes, 1, 256)
        checked: dict[str, Any] = {
            "name": Values(str).convert("name", self.name),
            "classes": classes,
            "mean": _FINITE.convert("mean", self.mean),
            "std": _POSITIVE.convert("std", self.std),
        }
        if (1 + abs(checked["mean"])) / checked["std"] > _FLOAT32_MAX:
            raise ValueError(f"std expects a number that pixels can be divided by in float32, got {checked['std']}")
        for part in ("train", "test"):
            images = checked[f"{part}_images"] = _expect_images(f"{part}_images", getattr(self, f"{part}_images"))
            labels = checked[f"{part}_labels"] = _expect_labels(f"{part}_labels", getattr(self, f"{part}_labels"), classes)
            if len(images) != len(labels):
                raise ValueError(
                    f"{part}_labels expects {len(images)} labels, one for each of {part}_images, got {len(labels)}; "
                    "take the same part of both"
                )
        train, test = checked["train_images"].shape, checked["test_images"].shape
        if 0 in train:
            raise ValueError(f"train_images expects at least one image, got shape {train}")
        if train[1:] != test[1:]:
            raise ValueError(f"test_images expects images of {train[1:]} pixels, as train_images, got {test[1:]}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def hold_out(self, count: int) -> Dataset:
        """Returns the data set with the last `count` training images as its test images. The old test images are left out."""
        most = len(self.train_images) - 1
        if most < 1:
            raise ValueError("validation expects at least two training images, got 1")
        count = Values(int, f"1..{most} images", 1, most).convert("validation", count)
        return replace(
            self,
            train_images=self.train_images[:-count],
            train_labels=self.train_labels[:-count],
            test_images=self.train_images[-count:],
            test_labels=self.train_labels[-count:],
        )

    @cached_property
    def fingerprint(self) -> str:
        """The MD5 sum of the training images and labels, by which two runs compare their data."""
        import hashlib  # loads OpenSSL

        digest = hashlib.md5(self.train_images.data, usedforsecurity=False)
        digest.update(self.train_labels.data)
        return digest.hexdigest()


def _expect_array(name: str, value: Any, expected: str) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} expects {expected}, got a masked array, whose mask would be ignored; fill it with .filled(value)"
        )
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} expects {expected}, got {type(value).__name__}; make an array of it with numpy.asarray")
    return value


def _expect_images(name: str, value: Any) -> Bytes:
    """Contiguous uint8 (N, h, w), or an error with the conversion."""
    expected = "a numpy array of uint8 (N, h, w)"
    images = _expect_array(name, value, expected)
    if images.ndim != 3:
        raise ValueError(f"{name} expects {expected}, got shape {images.shape}{_reshaping(images.shape)}")
    if images.dtype != np.uint8:
        raise TypeError(f"{name} expects {expected} with pixels 0..255, got {images.dtype}{_rescaling(images)}")
    return np.ascontiguousarray(images)


def _reshaping(shape: tuple[int, ...]) -> str:
    """The conversion of images of this shape to (N, h, w), if it is clear."""
    if len(shape) == 2 and shape[0] != shape[1] == (side := math.isqrt(shape[1])) ** 2:
        return f"; .reshape(-1, {side}, {side}) makes images of the rows"
    if len(shape) == 2:
        return "; one image alone is [numpy.newaxis] of it"
    if len(shape) == 4 and shape[1] == 1:
        return "; [:, 0] leaves the channels out"
    if len(shape) == 4 and shape[3] == 1:
        return "; [..., 0] leaves the channels out"
    return "; colours must be mixed to one grey value per pixel" if len(shape) == 4 and 3 in (shape[1], shape[3]) else ""


def _rescaling(images: Array) -> str:
    """The conversion of pixels of another dtype to bytes without loss, if it is clear."""
    if images.dtype.kind not in "fiub" or images.size == 0:
        return ""
    low, high = images.min(), images.max()
    seen, real = f" of {low}..{high}", images.dtype.kind == "f"
    if images.dtype.kind == "b" or (low >= 0 and high <= 1):
        scaled = "numpy.rint(images * 255).astype(numpy.uint8)" if real else "images.astype(numpy.uint8) * 255"
        return f"{seen}; scale them to 0..255: {scaled}"
    if not (low >= 0 and high <= 255):  # NaN too
        return f"{seen}; take the pixels as they were before they were normalised: mean and std do that here"
    if real and not (images == np.rint(images)).all():
        return f"{seen}; numpy.rint(images).astype(numpy.uint8) rounds them"
    return f"{seen}; .astype(numpy.uint8) loses nothing"


def _expect_labels(name: str, value: Any, classes: int) -> Bytes:
    """Contiguous uint8 (N,) in 0..classes-1, or an error with the conversion."""
    expected = f"a numpy array of integers (N,) in 0..{classes - 1}"
    labels = _expect_array(name, value, expected)
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise ValueError(f"{name} expects {expected}, got shape {labels.shape}; [:, 0] makes it so")
    if labels.ndim == 2 and labels.shape[1] == classes:
        raise ValueError(f"{name} expects {expected}, got shape {labels.shape}; .argmax(axis=1) is the label of a one-hot row")
    if labels.ndim != 1:
        raise ValueError(f"{name} expects {expected}, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} expects {expected}, got {labels.dtype}{_numbering(labels)}")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name} expects labels in 0..{classes - 1} for {classes} classes, got {_outside(labels, classes)}")
    return np.ascontiguousarray(labels, np.uint8)


def _numbering(labels: Array) -> str:
    """The conversion of labels of another dtype to integers, if it is clear."""
    if labels.dtype.kind not in "fbOUS":
        return ""
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError):
        return "; numpy.unique(labels, return_inverse=True)[1] numbers them"
    if not (numbers == np.rint(numbers)).all():
        return ", not all whole numbers"
    return "; .astype(numpy.int64) makes integers of them"


def _outside(labels: Array, classes: int) -> str:
    low, high = int(labels.min()), int(labels.max())
    if (low, high) == (1, classes):
        return f"{low}..{high}; subtract 1"
    return f"{low}..{high}" + (f"; classes={high + 1} would take them" if low >= 0 and high < 256 else "")


def mean_std(images: Bytes) -> tuple[float, float]:
    """Returns the mean and the standard deviation of uint8 pixels of any shape, scaled to [0, 1]; std is 1 for a single colour.

    They are computed by exact integer sums from the number of occurrences of each value.
    """
    pixels, counts, piece = images.reshape(-1), np.zeros(256, np.int64), 1 << 16
    for start in range(0, len(pixels), piece):  # in pieces, since bincount makes a copy of eight times their size
        counts += np.bincount(pixels[start : start + piece], minlength=256)
    total = max(1, len(pixels))
    first = sum(value * count for value, count in enumerate(counts.tolist()))
    second = sum(value * value * count for value, count in enumerate(counts.tolist()))
    variance = (second * total - first * first) / total**2
    return first / total / 255, math.sqrt(variance) / 255 or 1.0
