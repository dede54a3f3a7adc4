"""Raw images and labels, as users have them, for a model that knows which images and classes it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.data.dataset import Dataset, Part
from fastlenet.data.images import as_pixels, converted, scale_of, type_error, value_error
from fastlenet.data.labels import Classes, Labels, as_labels
from fastlenet.inference.facts import Label

__all__ = ["RawImages", "labelled", "numbers_of", "reported_part"]


@dataclass(frozen=True)
class RawImages:
    """Images that fit a model, not yet copied.

    images: (n, h, w), or (n, c, h, w) of several channels, a view of what was given where that is possible. scale: what their
    pixels are divided by. single: whether one image was given, without an axis of images.
    """

    images: Array
    scale: int
    single: bool

    @classmethod
    def of(cls, name: str, value: object, shape: Shape) -> RawImages:
        """Checks images of any layout and type. name: of the argument, for errors. shape: (c, h, w) of the model's images.

        Raises FieldTypeError and FieldValueError.
        """
        c, h, w = shape
        expected = _expected(shape)
        images = as_pixels(name, value, expected)
        layouts: dict[Shape, tuple[int, ...]] = {(h, w, c): (0, 3, 1, 2), (c, h, w): (0, 1, 2, 3)}
        if c == 1:
            layouts |= {(h, w): (0, 1, 2), (h * w,): (0, 1)}
        single = images.shape[1:] not in layouts
        if single and images.shape not in layouts:
            raise value_error(name, value, expected, f"shape {images.shape}", _cure(images.shape, shape))
        batch = images[np.newaxis] if single else images
        if len(batch) == 0:
            raise value_error(name, value, "at least one image", f"shape {images.shape}")
        batch = batch.transpose(layouts[batch.shape[1:]]).reshape(len(batch), *((h, w) if c == 1 else shape))
        return cls(batch, scale_of(name, images) or 255, single)

    def batches(self, size: int) -> Iterator[Array]:
        """The images, some at a time, as gather_images takes them: contiguous uint8, or float32 in [0, 1]."""
        for start in range(0, len(self.images), size):
            yield converted(self.images[start : start + size], self.scale)


def _expected(shape: Shape) -> str:
    c, h, w = shape
    if c == 1:
        return f"images (n, {h}, {w}), (n, 1, {h}, {w}), (n, {h}, {w}, 1) or (n, {h * w}), or one of them"
    return f"images (n, {c}, {h}, {w}) or (n, {h}, {w}, {c}), or one of them"


def _cure(got: Shape, shape: Shape) -> str:
    """What to do about images of another shape, if it is clear."""
    c, h, w = shape
    if c > 1 and got[-1:] == (c * h * w,):
        return f".reshape(-1, {c}, {h}, {w}) makes images of rows of {c} channels, one after the other"
    if c == 1 and (got[-1:] in ((3,), (4,)) or (len(got) == 4 and got[1] in (3, 4))):
        return "the model takes one channel: convert colours to gray first"
    if len(got) in (2, 3, 4):
        return f"bring the images to {h}x{w} pixels in {c} channel{'s' * (c > 1)} first"
    return ""


def reported_part(data: Dataset, part: Part | None = None) -> Part:
    """Returns the part that is reported on: the one asked for, else the test part, else the validation part.

    Raises ValueError if it has no images.
    """
    choices: tuple[Part, ...] = ("test", "validation") if part is None else (part,)
    for choice in choices:
        if len(data.part(choice).labels):
            return choice
    raise ValueError(f"{data.name}: no {' or '.join(choices)} images to report on; data.split(0.1) takes some for validation")


def labelled(function: str, data: object, labels: object, part: Part | None, names: tuple[Label, ...]) -> tuple[object, object]:
    """Returns images and their labels: those given, or those of a data set's part.

    function: its name, for errors. names: the model's class names, or none. Raises TypeError and ValueError.
    """
    if not isinstance(data, Dataset):
        if labels is None:
            raise type_error(f"{function}: labels", labels, "a label for each image, beside images", "None")
        if part is not None:
            raise type_error(
                f"{function}: part", part, "a Dataset, whose part it names", f"a part beside {type(data).__name__}"
            )
        return data, labels
    if labels is not None:
        raise type_error(f"{function}: labels", labels, "no labels beside a Dataset, which has them", type(labels).__name__)
    arrays = data.part(reported_part(data, part))
    known: tuple[Label, ...] = data.class_labels
    if not set(known) <= set(names) and len(names) in (0, len(known)):
        known = names or tuple(range(len(known)))  # other words for the same classes, in the same order
    return arrays.images, np.asarray(known)[arrays.labels]


def numbers_of(name: str, labels: object, count: int, names: tuple[Label, ...], outputs: int) -> Labels:
    """The classes' numbers of labels for `count` images. names: the model's class names, or none; then the labels are numbers.

    Labels are names of classes, or numbers of names that are words. Raises FieldTypeError and FieldValueError.
    """
    array = as_labels(name, labels)
    if len(array) != count:
        raise value_error(name, labels, f"{count} labels, one for each image", f"{len(array)}", "take the same part of both")
    known = np.asarray(names) if names else np.arange(outputs)
    if known.dtype.kind == "U" and array.dtype.kind in "iu":
        known = np.arange(len(names))
    return Classes.fixed(known).encode(name, array)
