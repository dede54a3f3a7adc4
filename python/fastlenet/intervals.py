"""Means of a few measurements, and how certain they are: Student's t. Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastlenet.fields import Values, integer

__all__ = ["CONFIDENCE", "Mean", "mean_of", "student_t"]

CONFIDENCE = 0.95
_DEGREES = 10**5  # beyond, t differs from that of a hundred thousand by less than 3e-5
_SHARE = Values(float, "a number in (0, 1)", 0, 1, above=True, below=True)


@dataclass(frozen=True)
class Mean:
    """A mean of n independent measurements. deviation: of the sample, over n - 1. error: of the mean, deviation / sqrt(n). low,
    high: the confidence interval of 95 %, mean +- t error, t of n - 1 degrees of freedom. One measurement has a deviation of 0,
    and no error and interval: None.
    """

    count: int
    mean: float
    deviation: float
    error: float | None
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def mean_of(values: Sequence[float]) -> Mean:
    """Returns the mean of at least one number. Raises ValueError without any."""
    if not values:
        raise ValueError("values expects at least one number, got none")
    mean = statistics.mean(values)
    if len(values) == 1:
        return Mean(1, mean, 0.0, None, None, None)
    deviation = statistics.stdev(values)
    error = deviation / math.sqrt(len(values))
    reach = student_t(len(values) - 1) * error
    return Mean(len(values), mean, deviation, error, mean - reach, mean + reach)


def student_t(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Returns t for which Student's distribution has this share of its mass within -t..t.

    degrees: of freedom, at least 1. Raises FieldValueError or FieldTypeError.
    """
    degrees = min(integer("student_t: degrees", degrees, 1), _DEGREES)
    confidence = _SHARE.convert("student_t: confidence", confidence)
    low, high = 0.0, math.pi / 2  # of theta, tan theta = t / sqrt(degrees); the share rises with it
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < confidence else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(degrees)


def _within(theta: float, degrees: int) -> float:
    """The mass within -t..t: a finite series in cos theta, whose ratio from term to term is cos^2 theta k / (k + 1)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    first = 2 if degrees % 2 else 1
    k = np.arange(first, degrees - 2, 2, dtype=np.float64)
    terms = np.concatenate([[1.0], np.cumprod(cosine**2 * k / (k + 1))])
    series = float(terms.sum())
    if degrees % 2 == 0:
        return sine * series
    return 2 / math.pi * (theta + (sine * cosine * series if degrees > 1 else 0.0))
