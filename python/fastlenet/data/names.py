"""What the classes of published data sets are called, where their files have numbers alone."""

from __future__ import annotations

import string
from collections.abc import Mapping

__all__ = ["class_names"]

_DIGITS, _CAPITALS = tuple(string.digits), tuple(string.ascii_uppercase)
_MERGED = (*_DIGITS, *_CAPITALS, *"abdefghnqrt")  # small letters that look like capitals are one class with them

# Sources: the data sets' own pages; Cohen et al. 2017 for the splits of EMNIST.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "FashionMNIST": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "emnist-letters": tuple(string.ascii_lowercase),
    "emnist-balanced": _MERGED,
    "emnist-bymerge": _MERGED,
    "emnist-byclass": (*_DIGITS, *_CAPITALS, *string.ascii_lowercase),
}


def class_names(name: str, first: int, classes: int) -> tuple[str, ...]:
    """The names of a data set's classes: the published ones if there are as many, else their numbers from `first` on.

    name: "FashionMNIST", "KMNIST", or a split of EMNIST as its files are called, "emnist-letters".
    """
    known = _NAMES.get(name, ())
    return known if len(known) == classes else tuple(map(str, range(first, first + classes)))
