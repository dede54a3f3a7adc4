"""Data sets of PyTorch, and whatever else hands over an image and its label at a time, as arrays. Torch is not imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastlenet.data.images import Array, as_array, type_error, value_error
from fastlenet.data.labels import as_labels

__all__ = ["Items", "items_of"]

_EXPECTED = "a data set of pairs (image, label), such as a torch.utils.data.Dataset"


class Items(NamedTuple):
    """Of a whole data set. names: those of its classes, where it says them."""

    images: Array
    labels: Array
    names: tuple[str, ...] | None


def items_of(name: str, dataset: object) -> Items:
    """All images and labels of a data set, each of which is asked for once. Raises FieldTypeError and FieldValueError.

    name: of the argument, for errors.
    """
    images: list[Array] = []
    labels: list[object] = []
    for number, item in enumerate(_items(name, dataset)):
        place = f"{name}[{number}]"
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            got = f"{len(item)} items" if isinstance(item, (tuple, list)) else type(item).__name__
            raise type_error(place, item, "a pair (image, label)", got)
        image = as_array(place, item[0], "an image (h, w), (c, h, w) or (h, w, c) first")
        if images and image.shape != images[0].shape:
            cure = "bring all to one size, as torchvision.transforms.Resize does"
            raise value_error(place, item, f"an image of shape {images[0].shape}, as the first", str(image.shape), cure)
        if images and image.dtype != images[0].dtype:
            raise type_error(place, item, f"an image of {images[0].dtype}, as the first", str(image.dtype))
        images.append(image.copy())  # a data set may use its memory again
        labels.append(_label(item[1]))
    if not images:
        raise value_error(name, dataset, "at least one image", "none")
    return Items(np.stack(images), as_labels(f"{name}: labels", labels), _names(dataset, labels))


def _items(name: str, dataset: object) -> Iterator[object]:
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise type_error(name, dataset, _EXPECTED, f"a {type(dataset).__name__}, which makes batches", "give its .dataset")
    if isinstance(dataset, Sequence) or (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        return (dataset[number] for number in range(len(dataset)))
    if isinstance(dataset, Iterable) and not isinstance(dataset, (str, bytes)):
        return iter(dataset)
    raise type_error(name, dataset, _EXPECTED, type(dataset).__name__)


def _label(label: object) -> object:
    """A number or a word, of an array or a tensor of one element too."""
    if isinstance(label, (str, bytes)):
        return label
    value = np.asarray(label)
    return value.item() if value.ndim == 0 else value.tolist()


def _names(dataset: object, labels: Sequence[object]) -> tuple[str, ...] | None:
    """What torchvision's data sets have as `classes`, of a Subset's data set too, where the labels are their numbers."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        return None
    counted = all(isinstance(label, int) and 0 <= label < len(names) for label in labels)
    return tuple(names) if counted and len(set(names)) == len(names) else None
