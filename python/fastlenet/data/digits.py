"""The digits that come with scikit-learn: 1,797 images of 8x8 pixels with values 0..16."""

from __future__ import annotations

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.reading import DataError

__all__ = ["load_digits"]


def load_digits(test: float = 0.2) -> Dataset:
    """scikit-learn's digits, of which the share `test`, of each class alike, are test images; always the same ones.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test set, as
    sklearn.datasets.load_digits has it. Raises DataError where scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(f"the digits of scikit-learn need it ({error}); pip install 'fastlenet[sklearn]'") from None
    digits = datasets.load_digits()
    return Dataset.from_arrays(digits.images.astype(np.uint8), digits.target, test=test, classes=10, name="digits")
