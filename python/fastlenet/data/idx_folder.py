"""Reads the four IDX files of a data set in a folder, under the names that are in use."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import Bytes, read_idx
from fastlenet.data.images import mean_std
from fastlenet.data.names import class_names
from fastlenet.data.reading import MAX_BYTES, DataError, listing
from fastlenet.files import user_path

__all__ = [
    "EMNIST_LETTERS",
    "TORCHVISION_NAMES",
    "IdxSet",
    "find_set",
    "holds_idx",
    "load_idx",
    "load_idx_directory",
    "prefixes",
]

TORCHVISION_NAMES = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST")
# Where torchvision keeps them under its root, and where EMNIST's archive has them.
_SUBFOLDERS = ("raw", *(f"{name}/raw" for name in TORCHVISION_NAMES), "gzip")
# EMNIST puts the name of the split in front, and calls the second part test.
_PREFIXED = re.compile(r"(?P<prefix>.+-)train-images[-.]idx3-ubyte(\.gz)?")
EMNIST_LETTERS = "emnist-letters-"
_SECOND_PARTS = ("t10k", "test")
_ONE_FILE = re.compile(r"(.+-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")


def load_idx_directory(directory: str | os.PathLike[str], *, prefix: str | None = None) -> Dataset:
    """Returns the data set of four IDX files in a folder, raw or gzipped.

    The files are called train-images-idx3-ubyte or train-images.idx3-ubyte, and so on. They may lie in folders of these names,
    or in a subfolder of torchvision (raw, MNIST/raw, FashionMNIST/raw, ...). One split of EMNIST is read too; its images, which
    lie on their side in the files, are turned upright, and the data set's name mentions it. There are ten classes, or as many
    as there are labels if labels above 9 are used. Labels that count from 1 to 10 or more become 0, 1, ... For Fashion-MNIST,
    KMNIST and EMNIST the class_names are the published names, else the labels. `~` is the home folder.

    prefix: the beginning of the files' names, such as "emnist-letters-", if the folder has several data sets. Raises DataError,
    in one line that names the file, if there is no such data set, or more than one.
    """
    folder = user_path(directory)
    found = find_set(folder) if prefix is None else _prefixed(folder, prefix)
    arrays, first, classes = found.read()
    names = class_names(found.prefix.rstrip("-") or found.name, first, classes)
    return Dataset(found.name, *arrays, classes, *mean_std(arrays[0]), class_names=names)


def holds_idx(path: Path) -> bool:
    """Whether it is a folder with such a set, or one of its files."""
    return bool(_sets_of(path)) if path.is_dir() else _ONE_FILE.fullmatch(path.name) is not None and path.is_file()


def load_idx(path: Path) -> Dataset:
    """The data set of which a folder, or one of its files, has been named."""
    return load_idx_directory(path if path.is_dir() else path.parent)


@dataclass(frozen=True)
class IdxSet:
    """The files of one data set: their folder, and the prefix of the standard names."""

    folder: Path
    name: str
    prefix: str = ""

    @property
    def lies_on_its_side(self) -> bool:
        """Whether the images are stored with rows and columns exchanged, as EMNIST's are."""
        return self.prefix.startswith("emnist-")

    def path(self, part: str, kind: str) -> Path:
        """The file of a part ("train", "t10k") and kind ("images-idx3", "labels-idx1"). Raises DataError if it is missing."""
        parts = ("train",) if part == "train" else _SECOND_PARTS
        for name in parts:
            found = _find(self.folder, f"{self.prefix}{name}-{kind}")
            if found is not None:
                return found
        raise DataError(f"{self.folder / f'{self.prefix}{part}-{kind}-ubyte'}: no such file, gzipped or not")

    def paths(self) -> list[Path]:
        """The files of training images and labels, test images and labels. Raises DataError if one is missing."""
        return [self.path(part, kind) for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

    def read(self) -> tuple[tuple[Bytes, Bytes, Bytes, Bytes], int, int]:
        """The four arrays, images upright and labels counted from 0; the label that was the first; the number of classes.

        Raises DataError.
        """
        arrays: list[Bytes] = []
        for part in ("train", "t10k"):
            paths = self.path(part, "images-idx3"), self.path(part, "labels-idx1")
            images = read_idx(paths[0], 3, MAX_BYTES - sum(array.nbytes for array in arrays))
            labels = read_idx(paths[1], 1, MAX_BYTES - sum(array.nbytes for array in [*arrays, images]))
            if len(images) != len(labels):
                raise DataError(f"{paths[1]}: {len(labels):,} labels for the {len(images):,} images of {paths[0].name}")
            if 0 in images.shape:
                raise DataError(f"{paths[0]}: no images in it, its sizes are {images.shape}")
            arrays += [images, labels]
        if self.lies_on_its_side:
            arrays[::2] = [np.ascontiguousarray(images.transpose(0, 2, 1)) for images in arrays[::2]]
        if arrays[0].shape[1:] != arrays[2].shape[1:]:
            raise DataError(
                f"{self.folder}: training images of {arrays[0].shape[1:]} and test images of {arrays[2].shape[1:]} pixels"
            )
        first, classes = self._label_range(arrays[1], arrays[3])
        if first:
            arrays[1::2] = [labels - np.uint8(first) for labels in arrays[1::2]]
        return (arrays[0], arrays[1], arrays[2], arrays[3]), first, classes

    def _label_range(self, train: Bytes, test: Bytes) -> tuple[int, int]:
        """The first label, and how many classes there are: ten, unless every label from 0 or 1 to a larger one is in use."""
        if max(train.max(), test.max()) <= 9:
            return 0, 10
        used = np.flatnonzero(np.bincount(train, minlength=256))
        first, last = int(used[0]), int(used[-1])
        if first <= 1 and len(used) == last - first + 1 and first <= test.min() and test.max() <= last:
            return first, len(used)
        wrong, part = (train, "train") if train.max() > 9 else (test, "t10k")
        raise DataError(
            f"{self.path(part, 'labels-idx1')}: label {wrong.max()} is out of the range 0..9; more classes than ten need every "
            f"label, from 0 or 1 on, among the training labels, which have {len(used)} values in {first}..{last}"
        )


def find_set(root: Path) -> IdxSet:
    """The data set in a folder, or in a subfolder of torchvision. Raises DataError if there is none, or more than one."""
    try:
        if not root.is_dir():
            raise DataError(f"{root}: not a folder" if root.exists() else f"{root}: no such folder")
        found = _sets_of(root)
        if not found:
            raise DataError(
                f"{root}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in it, nor in its raw or MNIST/raw; "
                f"{listing(root)}"
            )
    except PermissionError:
        raise DataError(f"{root}: no permission to look into it") from None
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from None
    if len(found) > 1:
        places = [one.prefix.rstrip("-") or str(one.folder.relative_to(root)) for one in found]
        together = len({one.folder for one in found}) == 1
        cure = "copy the files of one to a folder of its own" if together else "name the folder of one of them"
        raise DataError(f"{root}: several data sets, {', '.join(places)}; {cure}")
    return found[0]


def _sets_of(root: Path) -> list[IdxSet]:
    """The data sets in the folder itself, or else in the subfolders."""
    whole = root.resolve()
    name = whole.parent.name if whole.name in _SUBFOLDERS else whole.name
    found = _sets(root, name)
    if not found:
        for subfolder in _SUBFOLDERS:
            found += _sets(root / subfolder, subfolder.split("/")[0] if "/" in subfolder else name)
    return found


def _sets(folder: Path, name: str) -> list[IdxSet]:
    """The data sets in a folder: the one with the standard names, else all those with prefixed names."""
    if _find(folder, "train-images-idx3") is not None:
        return [IdxSet(folder, name)]
    return [_prefixed(folder, prefix) for prefix in prefixes(folder)]


def prefixes(folder: Path) -> list[str]:
    """What stands in front of the standard names of the data sets in a folder."""
    if not folder.is_dir():
        return []
    matches = (_PREFIXED.fullmatch(entry) for entry in os.listdir(folder))
    return sorted({match["prefix"] for match in matches if match is not None})


def _prefixed(folder: Path, prefix: str) -> IdxSet:
    one = IdxSet(folder, prefix.rstrip("-"), prefix)
    return IdxSet(folder, f"{one.name} (turned upright)", prefix) if one.lies_on_its_side else one


def _find(folder: Path, stem: str) -> Path | None:
    """The file of that name, with its last - or a dot, raw or .gz; or the one in a folder of that name, as Kaggle has it."""
    names = [f"{name}{suffix}" for name in (f"{stem}-ubyte", f"{_dotted(stem)}-ubyte") for suffix in ("", ".gz")]
    paths = [folder / name for name in names if (folder / name).exists()]
    for path in paths:
        if not path.is_dir():
            return path
        inside = [path / name for name in names if (path / name).is_file()]
        if inside:
            return inside[0]
    return paths[0] if paths else None


def _dotted(stem: str) -> str:
    """train-images.idx3, as some copies have it."""
    start, _, dimensions = stem.rpartition("-")
    return f"{start}.{dimensions}"
