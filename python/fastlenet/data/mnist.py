"""The MNIST data set, which is part of the package."""

from __future__ import annotations

import os
from pathlib import Path

from fastlenet.data.dataset import Dataset
from fastlenet.data.idx import DataError
from fastlenet.data.idx_folder import IdxSet, find_set
from fastlenet.files import user_path

__all__ = ["FOLDER", "MEAN_STD", "files", "load_mnist"]

FOLDER = Path(__file__).parent / "mnist"
# The mean and the standard deviation of MNIST's training pixels, scaled to [0, 1], as everybody rounds them.
MEAN_STD = 0.1307, 0.3081


def load_mnist() -> Dataset:
    """Returns MNIST from this package's files, after a check of their MD5 sums. Raises DataError if a file is damaged."""
    import hashlib  # loads OpenSSL

    lines = (FOLDER / "MD5SUMS").read_text().splitlines()
    sums = {name: md5 for md5, name in (line.split() for line in lines)}
    for path in sorted(FOLDER.glob("*.gz")):
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != sums[path.name]:
            raise DataError(f"{path}: damaged, its MD5 sum is not {sums[path.name]}; install fastlenet again")
    arrays, _, _ = IdxSet(FOLDER, "MNIST").read()
    return Dataset("MNIST", *arrays, 10, *MEAN_STD)


def files(directory: str | os.PathLike[str] | None = None) -> list[str]:
    """Returns the four files of load_idx_directory(directory), or of load_mnist(): training images and labels, test images and
    labels.

    Raises DataError if a file is missing, and for EMNIST, because the images in its files are not upright.
    """
    found = find_set(FOLDER if directory is None else user_path(directory))
    if found.lies_on_its_side:
        raise DataError(f"{found.folder}: the images of {found.prefix.rstrip('-')} lie on their side in its files")
    return [str(path) for path in found.paths()]
