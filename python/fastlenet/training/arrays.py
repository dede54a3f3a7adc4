"""From what a user gives `fit` to a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastlenet.data.dataset import Dataset, mean_std
from fastlenet.fields import FieldTypeError

__all__ = ["dataset_of", "with_validation"]


def dataset_of(data: object, y: object) -> Dataset:
    """Returns the data set itself, or one of images and their labels. Raises TypeError and ValueError."""
    if isinstance(data, Dataset):
        if y is not None:
            raise FieldTypeError("y", y, "no labels beside a Dataset, which has them", got=type(y).__name__)
        return data
    if y is None:
        raise FieldTypeError("data", data, "a Dataset, or images with their labels as y", got=type(data).__name__)
    if isinstance(y, str):
        raise FieldTypeError("y", y, "a label for each image", cure="the name of a recipe comes after y")
    return _made(data, y, None)


def with_validation(data: Dataset, validation: object) -> Dataset:
    """Returns the data set with these images and labels to report on."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        expected = "a pair of images and labels"
        raise FieldTypeError("validation_data", validation, expected, got=type(validation).__name__)
    images, labels = validation
    part = _made(images, labels, data.classes)
    return replace(data, test_images=part.train_images, test_labels=part.train_labels)


def _made(images: Any, labels: Any, classes: int | None) -> Dataset:
    images, labels = np.asarray(images), np.asarray(labels)
    mean, std = mean_std(images) if images.dtype == np.uint8 else (0.0, 1.0)
    count = classes or int(labels.max(initial=0)) + 1
    return Dataset("arrays", images, labels, images[:0], labels[:0], count, mean, std)
