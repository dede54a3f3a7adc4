"""Data sets: the bundled MNIST, any four IDX files, and those of torchvision."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.dataset import Dataset
from fastlenet.files import user_path
from fastlenet.idx import DataError
from fastlenet.idx_folder import TORCHVISION_NAMES, IdxSet, find_set

__all__ = ["TORCHVISION_NAMES", "DataError", "Dataset", "files", "load_idx_directory", "load_mnist", "load_torchvision"]

Bytes = npt.NDArray[np.uint8]

_MNIST = Path(__file__).parent / "mnist"
# The mean and the standard deviation of MNIST's training pixels, scaled to [0, 1], as everybody rounds them.
_MNIST_MEAN_STD = 0.1307, 0.3081


def load_mnist() -> Dataset:
    """The MNIST files of this package, after a check of their MD5 sums. Raises DataError if one is damaged."""
    import hashlib  # loads OpenSSL

    lines = (_MNIST / "MD5SUMS").read_text().splitlines()
    sums = {name: md5 for md5, name in (line.split() for line in lines)}
    for path in sorted(_MNIST.glob("*.gz")):
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != sums[path.name]:
            raise DataError(f"{path}: damaged, its MD5 sum is not {sums[path.name]}; install fastlenet again")
    arrays, _ = IdxSet(_MNIST, "MNIST").read()
    return _dataset("MNIST", *arrays, mean_std=_MNIST_MEAN_STD)


def load_idx_directory(directory: str | os.PathLike[str]) -> Dataset:
    """The data set of the four standard files (train-images-idx3-ubyte, ...) in a folder, raw or gzipped.

    Or of train-images.idx3-ubyte, of folders of these names with the files in them, or in a subfolder where torchvision keeps
    them (raw, MNIST/raw, FashionMNIST/raw, ...). Or one split of EMNIST, whose images lie on their side in the files and are
    turned upright, as the data set's name says. There are ten classes, unless labels beyond 9 are in use: then as many as there
    are labels; labels that count from 1 to 10 or more become 0, 1, ... `~` is the home folder.

    Raises DataError, in one line that names the file, for anything that is not such a set, or more than one.
    """
    found = find_set(user_path(directory))
    arrays, classes = found.read()
    return _dataset(found.name, *arrays, classes=classes)


def files(directory: str | os.PathLike[str] | None = None) -> list[str]:
    """The four files of load_idx_directory(directory), or of load_mnist(): training images and labels, test images and labels.

    Raises DataError, also for EMNIST, whose files do not hold the images as they are trained on.
    """
    found = find_set(_MNIST if directory is None else user_path(directory))
    if found.lies_on_its_side:
        raise DataError(f"{found.folder}: the images of {found.prefix.rstrip('-')} lie on their side in its files")
    return [str(path) for path in found.paths()]


def _dataset(
    name: str,
    train_images: Bytes,
    train_labels: Bytes,
    test_images: Bytes,
    test_labels: Bytes,
    *,
    classes: int = 10,
    mean_std: tuple[float, float] | None = None,
) -> Dataset:
    mean, std = mean_std or _mean_std(train_images)
    return Dataset(name, train_images, train_labels, test_images, test_labels, classes, mean, std)


def _mean_std(images: Bytes) -> tuple[float, float]:
    """Of the pixels scaled to [0, 1]; exact sums of integers, from how often each value occurs. One colour has std 1."""
    pixels, counts, piece = images.reshape(-1), np.zeros(256, np.int64), 1 << 16
    for start in range(0, len(pixels), piece):  # in pieces, since bincount makes a copy of eight times their size
        counts += np.bincount(pixels[start : start + piece], minlength=256)
    total = max(1, len(pixels))
    first = sum(value * count for value, count in enumerate(counts.tolist()))
    second = sum(value * value * count for value, count in enumerate(counts.tolist()))
    variance = (second * total - first * first) / total**2
    return first / total / 255, math.sqrt(variance) / 255 or 1.0


def load_torchvision(name: str, root: str | os.PathLike[str] = "data") -> Dataset:
    """A data set of torchvision.datasets: MNIST, FashionMNIST, KMNIST, QMNIST or EMNIST (its letters, turned upright).

    Reads what lies under `root` as torchvision left it there, and downloads only what is missing. Raises DataError when
    torchvision is not installed or the files cannot be had.
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
    mean_std = _MNIST_MEAN_STD if name == "MNIST" else None
    try:
        return _dataset(name, *arrays, classes=26 if name == "EMNIST" else 10, mean_std=mean_std)
    except (TypeError, ValueError) as error:
        raise DataError(f"{root}: {name} is not as it should be; {error}") from None
