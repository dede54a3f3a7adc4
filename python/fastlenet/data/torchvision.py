"""The data sets of torchvision, if it is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import Bytes
from fastlenet.data.images import mean_std
from fastlenet.data.mnist import MEAN_STD
from fastlenet.data.names import class_names
from fastlenet.data.reading import DataError, DataFieldError
from fastlenet.files import user_path

__all__ = ["TORCHVISION", "load_torchvision"]


class _Set(NamedTuple):
    """How a class of torchvision.datasets is asked for its two parts, and what it hands over."""

    train: Mapping[str, object] = {"train": True}
    test: Mapping[str, object] = {"train": False}
    labels: str = "targets"
    classes: int = 10
    first_label: int = 0
    on_their_side: bool = False
    named: bool = False  # whether its `classes` are names, one for each


_EMNIST = {"split": "letters"}  # of its splits the one of 26 classes, which count from 1
TORCHVISION: Mapping[str, _Set] = {
    "MNIST": _Set(),
    "FashionMNIST": _Set(named=True),
    "KMNIST": _Set(named=True),
    "QMNIST": _Set(),
    "EMNIST": _Set({"train": True, **_EMNIST}, {"train": False, **_EMNIST}, "targets", 26, 1, on_their_side=True),
    "CIFAR10": _Set(named=True),
    "CIFAR100": _Set(classes=100, named=True),
    "SVHN": _Set({"split": "train"}, {"split": "test"}, "labels"),
    "USPS": _Set(),
}


def load_torchvision(name: str, root: str | os.PathLike[str] = "data") -> Dataset:
    """Returns a data set of torchvision.datasets, one of the table TORCHVISION. Of EMNIST it returns the letters, upright.

    Reads the files that torchvision left in `root`, and downloads only missing ones. Colour images are (3, h, w). Raises
    DataError if torchvision is not installed, or the files can be neither read nor downloaded.
    """
    if name not in TORCHVISION:
        raise DataFieldError("name", name, f"one of {', '.join(TORCHVISION)}", "load_torchvision: ")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"this data set needs torchvision ({error}); pip install 'fastlenet[torchvision]'") from None
    chosen = TORCHVISION[name]
    parts = [_part(getattr(datasets, name), name, root, options) for options in (chosen.train, chosen.test)]
    try:
        images, labels = zip(*(_arrays(part, chosen) for part in parts), strict=True)
        numbers = MEAN_STD if name == "MNIST" else mean_std(images[0])
        names = tuple(map(str, parts[0].classes)) if chosen.named and hasattr(parts[0], "classes") else ()
        if name == "EMNIST":
            names = class_names("emnist-letters", 0, chosen.classes)
        arrays = images[0], labels[0], images[1], labels[1]
        return Dataset(name, *arrays, chosen.classes, *numbers, class_names=names)
    except (TypeError, ValueError) as error:
        raise DataError(f"{root}: {name} is not as it should be; {error}") from None


class _Part(Protocol):
    """The part of a torchvision data set that all of them have; its labels are named by _Set."""

    @property
    def data(self) -> object: ...


def _part(kind: Callable[..., _Part], name: str, root: str | os.PathLike[str], options: Mapping[str, object]) -> _Part:
    folder = str(user_path(root))
    try:
        try:
            return kind(folder, download=False, **options)
        except RuntimeError:
            return kind(folder, download=True, **options)
    except Exception as error:  # torchvision asserts, and raises whatever its readers and its downloads raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{root}: {name} cannot be read or downloaded ({reason})") from None


def _arrays(part: _Part, chosen: _Set) -> tuple[Bytes, Array]:
    images, labels = np.asarray(part.data, np.uint8), np.asarray(getattr(part, chosen.labels))
    if labels.ndim == 2:  # QMNIST: the first of its columns is the digit
        labels = labels[:, 0]
    if images.ndim == 4 and images.shape[3] == 3:  # CIFAR's
        images = images.transpose(0, 3, 1, 2)
    if chosen.on_their_side:
        images = images.transpose(0, 2, 1)
    return np.ascontiguousarray(images), labels - chosen.first_label if chosen.first_label else labels
