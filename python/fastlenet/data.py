"""Data sets: the bundled MNIST, any four IDX files, and those of torchvision."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.dataset import Dataset
from fastlenet.idx import MAX_BYTES, DataError, read_idx

__all__ = ["TORCHVISION_NAMES", "DataError", "Dataset", "files", "load_idx_directory", "load_mnist", "load_torchvision"]

Bytes = npt.NDArray[np.uint8]

TORCHVISION_NAMES = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST")
_MNIST = Path(__file__).parent / "mnist"
# The mean and the standard deviation of MNIST's training pixels, scaled to [0, 1], as everybody rounds them.
_MNIST_MEAN_STD = 0.1307, 0.3081
_SUBFOLDERS = ("", "raw", "MNIST/raw")


def load_mnist() -> Dataset:
    """The MNIST files of this package, after a check of their MD5 sums. Raises DataError if one is damaged."""
    import hashlib  # loads OpenSSL

    lines = (_MNIST / "MD5SUMS").read_text().splitlines()
    sums = {name: md5 for md5, name in (line.split() for line in lines)}
    for path in sorted(_MNIST.glob("*.gz")):
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != sums[path.name]:
            raise DataError(f"{path}: damaged, its MD5 sum is not {sums[path.name]}; install fastlenet again")
    return _dataset("MNIST", *_read_four(_MNIST), mean_std=_MNIST_MEAN_STD)


def load_idx_directory(directory: str | os.PathLike[str]) -> Dataset:
    """The data set of the four standard files (train-images-idx3-ubyte, ...) in a folder, gzipped or not, or in its MNIST/raw.

    Raises DataError, in one line that names the file, for anything that is not such a set with labels 0..9.
    """
    root = Path(directory)
    try:
        if not root.is_dir():
            raise DataError(f"{root}: not a folder" if root.exists() else f"{root}: no such folder")
        for subfolder in _SUBFOLDERS:
            if _find(root / subfolder, "train-images-idx3-ubyte") is not None:
                return _dataset(root.resolve().name, *_read_four(root / subfolder))
    except PermissionError:
        raise DataError(f"{root}: no permission to look into it") from None
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from None
    raise DataError(f"{root}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in it, nor in its MNIST/raw or raw")


def files(directory: str | os.PathLike[str] | None = None) -> list[str]:
    """The four files of load_idx_directory(directory), or of load_mnist(): training images and labels, test images and labels.

    Raises DataError.
    """
    root = _MNIST if directory is None else Path(directory)
    for subfolder in _SUBFOLDERS:
        names = (f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
        paths = [_find(root / subfolder, name) for name in names]
        if None not in paths:
            return [str(path) for path in paths]
    raise DataError(f"{root}: the four IDX files are not in it, nor in its MNIST/raw or raw")


def _find(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    return None


def _read_four(folder: Path) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    arrays: list[Bytes] = []
    for part in ("train", "t10k"):
        pair: list[tuple[Path, Bytes]] = []
        for name, ndim in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
            path = _find(folder, name)
            if path is None:
                raise DataError(f"{folder / name}: no such file, gzipped or not")
            taken = sum(array.nbytes for array in arrays) + sum(array.nbytes for _, array in pair)
            pair.append((path, read_idx(path, ndim, MAX_BYTES - taken)))
        (images_path, images), (labels_path, labels) = pair
        if len(images) != len(labels):
            raise DataError(f"{labels_path}: {len(labels):,} labels for the {len(images):,} images of {images_path.name}")
        if labels.size and labels.max() > 9:
            raise DataError(f"{labels_path}: label {labels.max()} is out of the range 0..9")
        if 0 in images.shape:
            raise DataError(f"{images_path}: no images in it, its sizes are {images.shape}")
        arrays += [images, labels]
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise DataError(f"{folder}: training images of {arrays[0].shape[1:]} and test images of {arrays[2].shape[1:]} pixels")
    return arrays[0], arrays[1], arrays[2], arrays[3]


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
    total = len(pixels)
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
        raise DataError(f"--dataset needs torchvision ({error}); pip install 'fastlenet[torchvision]'") from None
    arrays: list[Bytes] = []
    for train in (True, False):
        options: dict[str, Any] = {"train": train} if name != "EMNIST" else {"train": train, "split": "letters"}
        try:
            try:
                part = getattr(datasets, name)(str(root), download=False, **options)
            except RuntimeError:
                part = getattr(datasets, name)(str(root), download=True, **options)
        except Exception as error:  # torchvision asserts, and raises whatever its readers and its downloads raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{root}: {name} cannot be read or downloaded ({reason})") from None
        images, labels = np.asarray(part.data, np.uint8), np.asarray(part.targets)
        if labels.ndim == 2:  # QMNIST: the first of its columns is the digit
            labels = labels[:, 0]
        if name == "EMNIST":  # stored lying on its side; letters count from 1
            images, labels = images.transpose(0, 2, 1), labels - 1
        arrays += [np.ascontiguousarray(images), labels.astype(np.uint8)]
    mean_std = _MNIST_MEAN_STD if name == "MNIST" else None
    return _dataset(name, arrays[0], arrays[1], arrays[2], arrays[3], classes=26 if name == "EMNIST" else 10, mean_std=mean_std)
