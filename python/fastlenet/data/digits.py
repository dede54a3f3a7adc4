"""The digits that come with scikit-learn: 1,797 images of 8x8 pixels with values 0..16."""

from __future__ import annotations

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.data.reading import DataError

__all__ = ["load_digits"]


def load_digits(test: float = 0.2) -> Dataset:
    """Returns scikit-learn's digits.

    test: the share of the images for the test part, the same of each class; always the same images. Raises DataError if
    scikit-learn is not installed. Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test
    set, as sklearn.datasets.load_digits returns it.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(f"the digits need scikit-learn ({error}); pip install 'fastlenet[sklearn]'") from None
    digits = datasets.load_digits()
    return Dataset.from_arrays(digits.images.astype(np.uint8), digits.target, test=test, classes=10, name="digits")
