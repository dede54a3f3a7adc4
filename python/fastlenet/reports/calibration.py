"""Calibration: compares a model's probabilities with the share of its answers that are right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastlenet.backend import Array
from fastlenet.inference.scores import wilson_interval

__all__ = ["BINS", "Calibration"]

BINS = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence and accuracy in bins of equal width. Confidence is the probability of the predicted class.

    counts: int64 (bins,), the images whose confidence is in ((i) / bins, (i + 1) / bins]. correct: int64 (bins,), how many of
    them were classified correctly. confidence: float64 (bins,), their mean confidence, NaN in an empty bin.
    Source: Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML 2017.
    """

    counts: Array
    correct: Array
    confidence: Array

    @classmethod
    def of(cls, probabilities: Array, labels: Array, bins: int = BINS) -> Calibration:
        """probabilities: (n, classes). labels: (n,), the numbers of the true classes."""
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == labels
        edges = np.arange(1, bins) / bins
        place = np.searchsorted(edges, confidence, side="left")  # an edge belongs to the bin below it
        counts = np.bincount(place, minlength=bins)
        sums = np.bincount(place, confidence, minlength=bins)
        means = np.full(bins, np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return cls(counts, np.bincount(place[right], minlength=bins), means)

    @property
    def accuracy(self) -> Array:
        """The share of each bin's images that were classified correctly, float64 (bins,); NaN in an empty bin."""
        shares: Array = np.full(len(self.counts), np.nan)
        np.divide(self.correct, self.counts, out=shares, where=self.counts > 0)
        return shares

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Wilson's 95 % interval of each bin's accuracy; (NaN, NaN) in an empty bin."""
        pairs = zip(self.correct.tolist(), self.counts.tolist(), strict=True)
        return [wilson_interval(correct, count) if count else (math.nan, math.nan) for correct, count in pairs]

    @property
    def expected_error(self) -> float:
        """The expected calibration error: the mean over all images of their bin's |accuracy - confidence|."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())

    def __repr__(self) -> str:
        return (
            f"Calibration(expected error {self.expected_error:.2%}, {len(self.counts)} bins, {int(self.counts.sum()):,} images)"
        )
