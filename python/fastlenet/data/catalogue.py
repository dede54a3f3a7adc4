"""Data sets by name, and files by what is in them: the tables that `load` looks into."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fastlenet.data.cifar import find_cifar, holds_cifar, load_cifar
from fastlenet.data.csv import holds_csv, load_csv
from fastlenet.data.dataset import Dataset
from fastlenet.data.digits import load_digits
from fastlenet.data.folder import SUFFIXES, holds_pictures, load_folder
from fastlenet.data.idx_folder import EMNIST_LETTERS, holds_idx, load_idx, load_idx_directory, prefixes
from fastlenet.data.mnist import MEAN_STD, load_mnist
from fastlenet.data.npz import holds_npz, load_npz
from fastlenet.data.reading import DataError, DataFieldError, listing
from fastlenet.data.torchvision import TORCHVISION, load_torchvision
from fastlenet.fields import FieldTypeError, nearest
from fastlenet.files import shown_path, user_path

__all__ = ["FORMATS", "NAMES", "Format", "load", "named"]

Root = str | os.PathLike[str] | None  # where files of named data sets lie; None: where they usually do


class Format(NamedTuple):
    """A kind of files. what: in words; holds: whether a path is one; load: reads it."""

    what: str
    holds: Callable[[Path], bool]
    load: Callable[[Path], Dataset]


# In the order in which they are asked whether a file or a folder is theirs.
FORMATS: tuple[Format, ...] = (
    Format("four IDX files", holds_idx, load_idx),
    Format("a folder of CIFAR's binary files", holds_cifar, load_cifar),
    Format("a NumPy archive, .npz", holds_npz, load_npz),
    Format("a table, .csv", holds_csv, load_csv),
    Format("a folder of pictures for each class", holds_pictures, load_folder),
)


def _mnist(root: Root) -> Dataset:
    """The bundled files, or others, normalised by the same numbers."""
    if root is None:
        return load_mnist()
    raw = user_path(root) / "MNIST" / "raw"
    mean, std = MEAN_STD
    return replace(load_idx_directory(raw), mean=mean, std=std) if raw.is_dir() else load_torchvision("MNIST", root)


def _digits(root: Root) -> Dataset:
    return load_digits()


def _of_torchvision(name: str, root: Root) -> Dataset:
    """From the files under the root, whoever left them there; by torchvision where they are not of a kind that is read here."""
    folder = user_path("data" if root is None else root)
    if name in ("CIFAR10", "CIFAR100"):
        found = find_cifar(folder / {"CIFAR10": "cifar-10-batches-bin", "CIFAR100": "cifar-100-binary"}[name])
        if found is not None:
            return load_cifar(found[1])
    raw = folder / name / "raw"
    if raw.is_dir() and name in ("FashionMNIST", "KMNIST"):
        return load_idx_directory(raw)
    if name == "EMNIST" and EMNIST_LETTERS in prefixes(raw):
        return load_idx_directory(raw, prefix=EMNIST_LETTERS)
    return load_torchvision(name, folder)


# By the name in lower case, without hyphens: what makes the data set, from the folder where its files lie.
NAMES: Mapping[str, Callable[[Root], Dataset]] = {
    "mnist": _mnist,
    "digits": _digits,
    **{name.lower(): partial(_of_torchvision, name) for name in TORCHVISION if name != "MNIST"},
}


def named(source: str | os.PathLike[str]) -> bool:
    """Returns whether the source is the name of a data set, and not a path."""
    return _key(source) in NAMES


def _key(source: str | os.PathLike[str]) -> str:
    """A name as the table has it; that of a path is in no table."""
    return str(source).lower().replace("-", "").replace("_", "")


def load(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """Returns a data set by its name, or from a file or a folder.

    Names: "mnist", which is part of the package; "digits", which is part of scikit-learn; "fashion-mnist", "kmnist", "qmnist",
    "emnist", "cifar10", "cifar100", "svhn" and "usps", whose files lie in `root` (default: data); torchvision downloads missing
    ones. Upper case, - and _ do not matter. Write ./mnist for a folder of that name.

    Files: four IDX files in a folder, under any of the names that are in use; a NumPy archive (Keras's mnist.npz, MedMNIST's);
    a table (Kaggle's digit recognizer); a folder with a folder of pictures for each class; CIFAR's binary files.
    size: (height, width) to which the pictures of a folder are resized.

    Raises DataError, in one line that names the file and says what is wrong and what to do.

        >>> from fastlenet.data import load
        >>> load("mnist")
        Dataset('MNIST', 60,000 training and 10,000 test images of 1x28x28 uint8, 10 classes)
    """
    if not isinstance(source, (str, os.PathLike)):
        raise FieldTypeError("source", source, "the name of a data set, or a path", "load: ")
    if isinstance(source, str) and named(source):
        _expect_no(size, source)
        return NAMES[_key(source)](root)
    path = user_path(source)
    try:
        for form in FORMATS:
            if form.holds(path):
                if form.load is load_folder:
                    return load_folder(path, size=size)
                _expect_no(size, form.what)
                return form.load(path)
        there = path.exists()
    except PermissionError:
        raise DataError(f"{shown_path(path)}: no permission to look into it") from None
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from None
    if not there:
        near = nearest(_key(source), NAMES)
        cure = f"did you mean {near}?" if near else f"names are {', '.join(NAMES)}"
        raise DataError(f"{shown_path(path)}: no such folder or file; {cure}")
    kinds = "; ".join(form.what for form in FORMATS)
    raise DataError(f"{shown_path(path)}: not a known kind of data set ({kinds}); {_what_it_is(path)}")


def _expect_no(size: object, what: str) -> None:
    """Raise DataFieldError for a size that has no meaning."""
    if size is not None:
        raise DataFieldError("size", size, f"none for {what}", "load: ", "only the pictures of a folder are resized")


def _what_it_is(path: Path) -> str:
    if path.is_dir():
        flat = any(entry.suffix.lower() in SUFFIXES for entry in path.iterdir() if entry.is_file())
        return "put the pictures of each class into a folder of its name" if flat else listing(path)
    if path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")):
        return "unpack the archive, and name its folder"
    return f"it is a file with the ending {path.suffix}" if path.suffix else "it is a file without an ending"
