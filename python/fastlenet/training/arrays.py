"""From what a user gives `fit` to a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.labels import MAX_CLASSES, as_labels
from fastlenet.fields import FieldError, FieldTypeError, FieldValueError

__all__ = ["dataset_of", "with_validation"]


def dataset_of(data: object, y: object) -> Dataset:
    """Returns the data set itself, or one of images and their labels, as Dataset.from_arrays takes them.

    Integer labels from 0 on are the numbers of the classes, even if some do not occur. Raises TypeError and ValueError.
    """
    if isinstance(data, Dataset):
        if y is not None:
            raise FieldTypeError("y", y, "no labels beside a Dataset, which has them", got=type(y).__name__)
        return data
    if y is None:
        items = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not hasattr(data, "shape")
        cure = "Dataset.from_torch makes one of PyTorch's" if items else ""
        raise FieldTypeError("data", data, "a Dataset, or images with their labels as y", cure=cure, got=type(data).__name__)
    if isinstance(y, str):
        raise FieldTypeError("y", y, "a label for each image", cure="the name of a recipe comes after y")
    with _arguments(X="data"):
        labels = as_labels("y", y)
        counted = labels.dtype == np.int64 and labels.size and labels.min() >= 0
        if counted and labels.max() >= MAX_CLASSES:
            expected = f"numbers of classes below {MAX_CLASSES:,}, or words"
            raise FieldValueError("y", y, expected, got=str(labels.max()))
        return Dataset.from_arrays(data, labels, classes=int(labels.max()) + 1 if counted else None)


def with_validation(data: Dataset, validation: object) -> Dataset:
    """Returns the data set with these images and labels to report on."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        expected = "a pair of images and labels"
        raise FieldTypeError("validation_data", validation, expected, got=type(validation).__name__)
    with _arguments(images="validation_data[0]", labels="validation_data[1]"):
        return data.with_validation(*validation)


@contextmanager
def _arguments(**names: str) -> Iterator[None]:
    """A context for a block whose errors are to name an argument of fit. names: by the field's name in the error."""
    try:
        yield
    except FieldError as error:
        field = names.get(error.field, error.field)
        raise type(error)(field, error.value, error.expected, "", error.cure, error.got) from None
