"""--sample-weight: reads the weights of the training images from a file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from fastlenet.backend import Array
from fastlenet.data import DataError
from fastlenet.files import shown_path, user_path

__all__ = ["read_weights"]


def read_weights(path: str, held_out: int) -> Array:
    """Returns the numbers in a .npy file, or in text with one number a line. Raises DataError if there are none.

    held_out: the number of images at the end that are not trained on, whose weights are left out.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an empty file, which is refused later
            weights = _numbers(user_path(path))  # a Path: NumPy would download a word that is an address
    except Exception as error:  # what a stranger's header makes NumPy's parsers raise is not to be listed
        reason = getattr(error, "strerror", None) or "it holds no array of numbers, nor text with one number a line"
        raise DataError(f"{shown_path(path)}: cannot be read as weights of images ({reason})") from None
    return weights[: max(0, len(weights) - held_out)] if weights.ndim == 1 else weights


def _numbers(path: Path) -> Array:
    if path.suffix != ".npy":
        return np.loadtxt(path, ndmin=1)
    with path.open("rb") as file:
        numbers: Array = np.lib.format.read_array(file, allow_pickle=False)
        return numbers
