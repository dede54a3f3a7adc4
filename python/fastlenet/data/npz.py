"""NumPy archives (.npz): Keras's mnist.npz, MedMNIST's files, or one pair of images and labels."""

from __future__ import annotations

import os
import sys
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.images import Array
from fastlenet.data.reading import DataError, limit_of, opened, wrong
from fastlenet.fields import FieldError, shown
from fastlenet.files import shown_path

__all__ = ["holds_npz", "load_npz"]


class _Layout(NamedTuple):
    """The names of images and labels for training, validation and test; an empty name where there are none."""

    train: tuple[str, str]
    validation: tuple[str, str] = ("", "")
    test: tuple[str, str] = ("", "")


_LAYOUTS = (
    _Layout(("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")),  # Keras's mnist.npz
    _Layout(("train_images", "train_labels"), ("val_images", "val_labels"), ("test_images", "test_labels")),  # MedMNIST
    _Layout(("X_train", "y_train"), ("X_val", "y_val"), ("X_test", "y_test")),
    _Layout(("images", "labels")),
    _Layout(("data", "target")),
    _Layout(("X", "y")),
    _Layout(("x", "y")),
    _Layout(("arr_0", "arr_1")),
)
_SHOWN = 8  # names in an error


def holds_npz(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """Returns the data set in a NumPy archive, with Keras's or MedMNIST's names of arrays, or with only images and labels.

    Known names: x_train, y_train, x_test, y_test; train_images, train_labels, val_images, ...; images, labels; X, y; and so on.
    Without test images the test part is empty. Nothing is executed: an array of Python objects is refused. A compressed file
    may decompress to 200 MiB, or to 20 times its size if that is more. Memory: at most three times that. Raises DataError, in
    one line that names file and array.
    """
    with opened(path) as (path, stream):
        try:
            with zipfile.ZipFile(stream) as archive:
                return _of_archive(path, archive, limit_of(path))
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:  # what a stranger's bytes make zipfile raise is not to be listed
            reason = shown(" ".join(str(error).split()))
            raise DataError(f"{shown_path(path)}: damaged, or not a NumPy archive ({reason})") from None


def _of_archive(path: Path, archive: zipfile.ZipFile, limit: int) -> Dataset:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    layout = next((layout for layout in _LAYOUTS if all(name in members for name in layout.train)), None)
    if layout is None:
        names = ", ".join(name[:60] for name in list(members)[:_SHOWN]) + (", ..." if len(members) > _SHOWN else "")
        known = "x_train and y_train, train_images and train_labels, images and labels, or X and y"
        raise wrong(path, "archive", f"arrays {known}", names or "none", "numpy.savez(file, X=images, y=labels) writes one")
    total = 0
    read: dict[str, Array] = {}
    for part in layout:
        for name in part:
            if name in members:
                total += members[name].file_size
                if total > limit:
                    raise wrong(path, name, f"at most {limit:,} bytes of arrays in a file of this size", f"{total:,} and more")
                read[name] = _read(path, archive, members[name], name)
    train, validation, test = (_pair(path, part, read) for part in layout)
    assert train is not None  # by which the layout was chosen
    try:
        return Dataset.from_arrays(*train, validation=validation, test=test, name=path.stem)
    except FieldError as error:
        fields = ("X", "y", "validation[0]", "validation[1]", "test[0]", "test[1]")
        named = dict(zip(fields, (*layout.train, *layout.validation, *layout.test), strict=True))
        raise wrong(path, named.get(error.field, error.field), error.expected, error.got, error.cure) from None


def _pair(path: Path, names: tuple[str, str], read: dict[str, Array]) -> tuple[Array, Array] | None:
    found = [name for name in names if name in read]
    if len(found) == 1:
        missing = names[1] if found[0] == names[0] else names[0]
        raise wrong(path, missing, f"an array beside {found[0]}", "none")
    if not found:
        return None
    labels = read[names[1]]
    return read[names[0]], labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # MedMNIST's are (n, 1)


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Array:
    """One array, whose header is believed only as far as the bytes are there."""
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in readers:
                raise ValueError(f"version {version[0]}.{version[1]}")
            shape, fortran, dtype = readers[version](stream)
        except (MemoryError, OSError, EOFError, zlib.error, zipfile.BadZipFile):
            raise
        except Exception as error:  # what a stranger's header makes NumPy's parsers raise is not to be listed
            raise wrong(path, name, "a NumPy array", f"{' '.join(str(error).split())[:100]}") from None
        if dtype.hasobject:
            cure = "save it again from numbers or fixed-width text, numpy.asarray(labels, str)"
            raise wrong(path, name, "numbers or text", "Python objects, which could run any code when they are loaded", cure)
        if 0 in shape or dtype.itemsize == 0:
            raise wrong(path, name, "at least one number or word", f"none, {dtype} of shape {shape}")
        size, there = int(np.prod(shape, dtype=object)) * dtype.itemsize, info.file_size - stream.tell()
        if size != there:
            raise wrong(path, name, f"{size:,} bytes, as its header of {shape} says", f"{there:,}", "the file is damaged")
        array: Array = np.frombuffer(stream.read(size), dtype)
        if dtype.kind == "U" and array.view(np.dtype("u4").newbyteorder(dtype.byteorder)).max() > sys.maxunicode:
            raise wrong(path, name, "text", "numbers that are no characters", "the file is damaged")
    return array.reshape(shape[::-1]).transpose() if fortran else array.reshape(shape)
