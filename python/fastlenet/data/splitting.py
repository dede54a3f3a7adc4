"""Which images of a data set are held out: at random, and of each class alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlenet.data.labels import Labels
from fastlenet.philox import permutation

__all__ = ["held_out", "part_of"]

Places = npt.NDArray[np.int64]


def held_out(labels: Labels, count: int, *, stratify: bool, seed: int) -> tuple[Places, Places]:
    """The places of the images that stay, and those of `count` images that are held out, both in ascending order.

    stratify: of each class the same share, rounded so that the sum is right; a class keeps an image where that can be. The
    choice depends on the labels, the count and the seed alone.
    """
    order = permutation(len(labels), seed, 0)
    if stratify:
        classes, of_class = np.unique(labels[order], return_inverse=True)
        quota = _quotas(np.bincount(of_class, minlength=len(classes)), count)
        by_class = np.argsort(of_class, kind="stable")  # of each class, in random order
        start = np.concatenate([[0], np.cumsum(np.bincount(of_class))[:-1]])
        rank = np.empty(len(labels), np.int64)
        rank[by_class] = np.arange(len(labels)) - start[of_class[by_class]]
        is_out = rank < quota[of_class]
    else:
        is_out = np.arange(len(labels)) < count
    return np.sort(order[~is_out]), np.sort(order[is_out])


def _quotas(sizes: Places, count: int) -> Places:
    """How many of each class make `count` in all: its share rounded down, and one more where the most was lost by that."""
    exact = sizes * count / sizes.sum()
    quotas: Places = np.floor(exact).astype(np.int64)
    is_last = quotas + 1 >= sizes  # one more would leave none, or is not there
    best_first = np.lexsort((-(exact - quotas), quotas + 1 > sizes, is_last))
    quotas[best_first[: count - quotas.sum()]] += 1
    return quotas


def part_of(labels: Labels, parts: int, part: int) -> tuple[Places, Places]:
    """The places of the images that stay, and those of one of several parts that are alike, both in ascending order.

    The parts are disjoint and have all images. Their sizes differ by one image at most, and so do their numbers of images of
    each class. The choice depends on the labels and the number of parts alone.
    """
    order = permutation(len(labels), 0, 0)
    by_class = order[np.argsort(labels[order], kind="stable")]  # each class in random order, one class after the other
    is_out = np.arange(len(labels)) % parts == part
    return np.sort(by_class[~is_out]), np.sort(by_class[is_out])
