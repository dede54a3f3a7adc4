"""CIFAR-10 and CIFAR-100 in their binary version: colour images of 32x32 pixels (Krizhevsky 2009)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import Bytes
from fastlenet.data.images import mean_std
from fastlenet.data.reading import limit_of, opened, wrong
from fastlenet.files import user_path

__all__ = ["find_cifar", "holds_cifar", "load_cifar"]

_SHAPE = (3, 32, 32)
_PIXELS = 3072


class _Set(NamedTuple):
    """What the files of a set are called. label_bytes: those before the pixels in a record, of which the last is the label."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_bytes: int
    names: str
    classes: int


_SETS = (
    _Set(
        "CIFAR-10",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        1,
        "batches.meta.txt",
        10,
    ),
    _Set("CIFAR-100", "cifar-100-binary", ("train.bin",), ("test.bin",), 2, "fine_label_names.txt", 100),
)


def find_cifar(path: Path) -> tuple[_Set, Path] | None:
    """The set whose files lie in a folder, or in the subfolder of the archive's name, and that folder."""
    for one in _SETS:
        for folder in (path, path / one.folder):
            if (folder / one.train[0]).is_file():
                return one, folder
    return None


def holds_cifar(path: Path) -> bool:
    """Whether it is a folder with the files of one of the versions; of the pickles, for an error that says more."""
    return path.is_dir() and (find_cifar(path) is not None or _has_pickles(path))


def _has_pickles(path: Path) -> bool:
    return any((folder / "data_batch_1").is_file() for folder in (path, path / "cifar-10-batches-py"))


def load_cifar(path: str | os.PathLike[str]) -> Dataset:
    """Returns the data set in a folder of CIFAR-10's binary version (data_batch_1.bin, ...), or CIFAR-100's with fine labels.

    Images are (3, 32, 32): red, green, blue. class_names come from the file of names, if there is one. Memory: twice the files'
    size. Raises DataError, in one line that names the file. It also raises DataError for the version of Python pickles, because
    loading a pickle can run any code.
    """
    root = user_path(path)
    found = find_cifar(root)
    if found is None:
        expected = "data_batch_1.bin of CIFAR-10's binary version, or CIFAR-100's train.bin"
        if _has_pickles(root):
            cure = "download the binary version, cifar-10-binary.tar.gz"
            raise wrong(root, "folder", expected, "Python pickles, which could run any code when they are loaded", cure)
        raise wrong(root, "folder", expected, "none")
    one, folder = found
    train = [_records(folder / name, one) for name in one.train]
    test = [_records(folder / name, one) for name in one.test]
    images = np.concatenate([part[0] for part in train])
    labels = np.concatenate([part[1] for part in train])
    test_images = np.concatenate([part[0] for part in test])
    test_labels = np.concatenate([part[1] for part in test])
    names = _names(folder / one.names, one.classes)
    mean, std = mean_std(images)
    return Dataset(one.name, images, labels, test_images, test_labels, one.classes, mean, std, class_names=names)


def _records(path: Path, one: _Set) -> tuple[Bytes, Bytes]:
    """Images (n, 3, 32, 32) and labels (n,) of a file."""
    size = one.label_bytes + _PIXELS
    with opened(path) as (path, stream):
        limit = limit_of(path)
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise wrong(path, "file", f"at most {limit:,} bytes", "more")
    if not content or len(content) % size:
        expected = f"records of {size:,} bytes, a label and 32x32 pixels in three colours"
        raise wrong(path, "length", expected, f"{len(content):,} bytes", "download it again, in the binary version")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, one.label_bytes - 1]
    if labels.max() >= one.classes:
        place = int(np.argmax(labels >= one.classes))
        raise wrong(path, f"label of record {place}", f"a number in 0..{one.classes - 1}", str(labels[place]))
    return np.ascontiguousarray(records[:, one.label_bytes :]).reshape(-1, *_SHAPE), labels.copy()


def _names(path: Path, classes: int) -> tuple[str, ...]:
    """The names of the classes, a line each; none where the file is not there."""
    if not path.is_file():
        return ()
    with opened(path) as (path, stream):
        names = tuple(stream.read(1 << 16).decode(errors="backslashreplace").split())
    if len(names) != classes:
        raise wrong(path, "names", f"a line for each of {classes} classes", f"{len(names)}", "remove the file to do without")
    return names
