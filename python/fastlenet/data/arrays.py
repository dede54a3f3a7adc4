"""From the arrays that a user has to those of a data set: all that Dataset.from_arrays checks and converts."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastlenet.data.images import Array, Images, arranged, as_images, scale_of, type_error, value_error
from fastlenet.data.labels import Classes, Labels, as_labels
from fastlenet.data.splitting import held_out
from fastlenet.fields import Values

__all__ = ["Arrays", "Given", "Parts", "alike", "arrays_of", "expect_share", "more_arrays"]

Given = float | tuple[object, object] | None  # a part of a data set: the share that is taken for it, or images and labels

_SHARE = Values(float, "a number above 0 and below 1", 0, 1, above=True, below=True)


class Arrays(NamedTuple):
    """Of one part of a data set."""

    images: Images
    labels: Labels

    def at(self, places: slice | npt.NDArray[np.int64]) -> Arrays:
        return Arrays(self.images[places], self.labels[places])


class Parts(NamedTuple):
    """Of all three, and the classes."""

    train: Arrays
    validation: Arrays
    test: Arrays
    classes: Classes


class _Raw(NamedTuple):
    """What a user gave for a part, and what an error calls it."""

    images_name: str
    labels_name: str
    images: Array
    labels: Array


def arrays_of(
    where: str, X: object, y: object, validation: Given, test: Given, classes: int | Sequence[object] | None
) -> Parts:
    """As Dataset.from_arrays says it; where: what stands in front of an argument's name in an error."""
    raw = {"train": _raw(f"{where}X", X, f"{where}y", y)}
    shares: dict[str, int] = {}
    for part, given in (("test", test), ("validation", validation)):
        if isinstance(given, (tuple, list)):
            raw[part] = _raw_pair(f"{where}{part}", given, raw["train"].images)
        elif given is not None:
            if not isinstance(given, Real) or isinstance(given, bool):
                expected = "a pair (images, labels), or the share of X to take, above 0 and below 1"
                raise type_error(f"{where}{part}", given, expected, type(given).__name__)
            shares[part] = expect_share(f"{where}{part}", given, len(raw["train"].labels))
    if sum(shares.values()) >= len(raw["train"].labels):
        got = f"{shares['validation']} of {len(raw['train'].labels)} beside {shares['test']} for the test"
        raise value_error(f"{where}validation", validation, "a share that leaves an image to train on", got)
    known = Classes(raw["train"].labels_name, raw["train"].labels, classes)
    images = _images(list(raw.values()))
    parts = {
        part: Arrays(array, known.encode(given.labels_name, given.labels))
        for (part, given), array in zip(raw.items(), images, strict=True)
    }
    for part, count in shares.items():
        stay, out = held_out(parts["train"].labels, count, stratify=True, seed=0)
        parts[part], parts["train"] = parts["train"].at(out), parts["train"].at(stay)
    none = parts["train"].at(slice(0))
    return Parts(parts["train"], parts.get("validation", none), parts.get("test", none), known)


def more_arrays(where: str, images: object, labels: object, train: Images, names: tuple[str, ...]) -> Arrays:
    """The arrays of another part, with images of the size of the training images, of whichever type.

    labels: names of the classes, or their numbers. Raises FieldTypeError and FieldValueError.
    """
    raw = _raw(f"{where}images", images, f"{where}labels", labels)
    if raw.images.shape[1:] != train.shape[1:]:
        expected = f"images of the size of the training images, {_size(train)}"
        raise value_error(raw.images_name, images, expected, _size(raw.images))
    scale = scale_of(raw.images_name, raw.images) or 255
    known = Classes.named(names, raw.labels)
    return Arrays(as_images(raw.images_name, raw.images, scale), known.encode(raw.labels_name, raw.labels))


def expect_share(name: str, share: object, count: int) -> int:
    """How many of `count` images a share is: at least one, and not all. Raises FieldTypeError and FieldValueError."""
    fraction = _SHARE.convert(name, share)
    if count < 2:
        raise value_error(name, share, "at least two images to divide", f"{count}")
    return min(max(1, round(fraction * count)), count - 1)


def _raw(images_name: str, images: object, labels_name: str, labels: object) -> _Raw:
    made = _Raw(images_name, labels_name, arranged(images_name, images), as_labels(labels_name, labels))
    if len(made.images) != len(made.labels):
        _, _, images_field = images_name.rpartition(": ")
        expected = f"{len(made.images)} labels, one for each image of {images_field}"
        raise value_error(labels_name, labels, expected, f"{len(made.labels)}", "take the same part of both")
    return made


def _raw_pair(name: str, given: tuple[object, object] | list[object], train: Array) -> _Raw:
    if len(given) != 2:
        raise value_error(name, given, "a pair (images, labels), or the share of X to take", f"{len(given)} items")
    made = _raw(f"{name}[0]", given[0], f"{name}[1]", given[1])
    if made.images.shape[1:] != train.shape[1:]:
        expected = f"images of the size of X, {_size(train)}"
        raise value_error(made.images_name, given[0], expected, _size(made.images))
    return made


def _size(images: Array) -> str:
    shape = images.shape[1:] if images.ndim == 4 else (1, *images.shape[1:])
    return "x".join(map(str, shape))


def _images(parts: list[_Raw]) -> list[Images]:
    """The images of all parts in one type: bytes, or floats where one of them has floats."""
    scale = scale_of(parts[0].images_name, parts[0].images) or 255
    return alike([as_images(part.images_name, part.images, scale) for part in parts])


def alike(images: list[Images]) -> list[Images]:
    """Bytes where all are, else floats."""
    if all(array.dtype == np.uint8 for array in images):
        return images
    return [array if array.dtype == np.float32 else np.divide(array, 255, dtype=np.float32) for array in images]
