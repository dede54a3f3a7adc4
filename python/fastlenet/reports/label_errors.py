"""The known label errors of MNIST's test set, and how they are recognised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.labels import Labels

__all__ = ["LABEL_ERRORS", "SOURCE", "SOURCE_ADDRESS", "LabelError", "known_label_errors"]

SOURCE = (
    "Northcutt, Athalye, Mueller: Pervasive label errors in test sets destabilize machine learning benchmarks, NeurIPS 2021"
)
SOURCE_ADDRESS = "https://arxiv.org/abs/2103.14749"


@dataclass(frozen=True)
class LabelError:
    """An image of MNIST's test set whose label most people do not see in it.

    index: its place in the test set, from 0. label: the label in the data set. guess: the label that the authors' networks
    proposed. votes: how many of five people saw the label, the guess, or neither. md5: of its 28x28 bytes.
    """

    index: int
    label: int
    guess: int
    votes: tuple[int, int, int]
    md5: str

    def __str__(self) -> str:
        """What the five people saw, in words."""
        given, guess, neither = self.votes
        words = {f"a {self.guess}": guess, f"a {self.label}": given, f"neither a {self.label} nor a {self.guess}": neither}
        (most, count), *others = sorted(((word, count) for word, count in words.items() if count), key=lambda pair: -pair[1])
        return ", ".join([f"{count} of 5 people saw {most}", *(f"{count} {word}" for word, count in others)])


# The images for which at most two of the five people chose the given label: 15 of the 100 that were shown to them. The votes
# are those of mturk/mnist_mturk.json in https://github.com/cleanlab/label-errors; the MD5 sums are of the package's own file.
LABEL_ERRORS = (
    LabelError(947, 8, 9, (0, 5, 0), "d278055d523e8ef7d1dfd1e205df22de"),
    LabelError(1621, 0, 6, (2, 3, 0), "0e02f9c0274e529796ef607da94eebb4"),
    LabelError(1901, 9, 4, (2, 3, 0), "31d93b1d3d2f19eb5dd2250eec377acf"),
    LabelError(2130, 4, 9, (2, 2, 1), "d0d69814c11e6093150364e003e82fba"),
    LabelError(2462, 2, 0, (0, 4, 1), "0d13c148a90077e6413fde16d71473e1"),
    LabelError(2597, 5, 3, (0, 4, 1), "a0a323323364ae51328cdcd2cfe70704"),
    LabelError(2654, 6, 1, (0, 2, 3), "1c452015d9ed9eddce590c46a096a0d7"),
    LabelError(3520, 6, 4, (2, 0, 3), "7ee57c28f4535d4decac6551162848fa"),
    LabelError(3558, 5, 0, (1, 4, 0), "77d86fc599a3547864277791662de964"),
    LabelError(5937, 5, 3, (1, 3, 1), "3246ac1dc3914f7ad4718a4941560882"),
    LabelError(6651, 0, 6, (0, 5, 0), "2fc6ebf741526d600d6c374127d1c4e6"),
    LabelError(6783, 1, 6, (2, 3, 0), "80eb0ec94831ade759ad20c60acc7f0d"),
    LabelError(8527, 4, 9, (2, 2, 1), "0c2e10e029a935cdc9ed5c6d97688d74"),
    LabelError(9679, 6, 3, (2, 0, 3), "fe23b7463596c12ba326de757b09c6d7"),
    LabelError(9729, 5, 6, (2, 3, 0), "20a92563a3e9fea89fc340d585cb2051"),
)
_BY_MD5 = {error.md5: error for error in LABEL_ERRORS}
_SIDE = 28


def known_label_errors(images: Array, labels: Labels, *, scale: int = 255) -> dict[int, LabelError]:
    """Returns the known label errors among images by their places. An image is recognised by its pixels and its label.

    So they are found in any part and order of MNIST's test set, and in no other data. images: (n, h, w) or (n, c, h, w), whose
    pixels divided by `scale` are in [0, 1]. labels: (n,), the digit of each.
    """
    if images.shape[1:] != (_SIDE, _SIDE):
        return {}
    import hashlib  # loads OpenSSL

    found = {}
    for place, image in enumerate(images):
        pixels = image if images.dtype == np.uint8 else np.rint(image * (255 / scale)).astype(np.uint8)
        error = _BY_MD5.get(hashlib.md5(np.ascontiguousarray(pixels).data, usedforsecurity=False).hexdigest())
        if error is not None and error.label == labels[place]:
            found[place] = error
    return found
