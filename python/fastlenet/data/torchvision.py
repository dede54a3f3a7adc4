"""The data sets of torchvision, if it is installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastlenet.data.dataset import Bytes, Dataset, mean_std
from fastlenet.data.idx import DataError
from fastlenet.data.idx_folder import TORCHVISION_NAMES
from fastlenet.data.mnist import MEAN_STD
from fastlenet.files import user_path

__all__ = ["load_torchvision"]


def load_torchvision(name: str, root: str | os.PathLike[str] = "data") -> Dataset:
    """Returns a data set of torchvision.datasets: MNIST, FashionMNIST, KMNIST, QMNIST or EMNIST (its letters, turned upright).

    Reads the files that torchvision left in `root`, and downloads only missing ones. Raises DataError if torchvision is not
    installed, or the files can be neither read nor downloaded.
    """
    if name not in TORCHVISION_NAMES:
        raise DataError(f"dataset expects one of {', '.join(TORCHVISION_NAMES)}, got {name!r}")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"the data sets of torchvision need it ({error}); pip install 'fastlenet[torchvision]'") from None
    arrays: list[Bytes] = []
    folder = str(user_path(root))
    for train in (True, False):
        options: dict[str, Any] = {"train": train} if name != "EMNIST" else {"train": train, "split": "letters"}
        try:
            try:
                part = getattr(datasets, name)(folder, download=False, **options)
            except RuntimeError:
                part = getattr(datasets, name)(folder, download=True, **options)
        except Exception as error:  # torchvision asserts, and raises whatever its readers and its downloads raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{root}: {name} cannot be read or downloaded ({reason})") from None
        images, labels = np.asarray(part.data, np.uint8), np.asarray(part.targets)
        if labels.ndim == 2:  # QMNIST: the first of its columns is the digit
            labels = labels[:, 0]
        if name == "EMNIST":  # stored lying on its side; letters count from 1
            images, labels = images.transpose(0, 2, 1), labels - 1
        arrays += [np.ascontiguousarray(images), labels]
    try:
        numbers = MEAN_STD if name == "MNIST" else mean_std(arrays[0])
        classes = 26 if name == "EMNIST" else 10
        return Dataset(name, arrays[0], arrays[1], arrays[2], arrays[3], classes, *numbers)
    except (TypeError, ValueError) as error:
        raise DataError(f"{root}: {name} is not as it should be; {error}") from None
