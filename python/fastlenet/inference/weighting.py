"""The weights with which networks count in an ensemble, chosen on images that none of them was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.labels import Labels
from fastlenet.fields import FieldTypeError, FieldValueError

__all__ = ["best_weights", "expect_weights"]

_LEAST = 1e-12  # probability of a label, which a network may give as 0
_GAP = 1e-6  # of the mean loss, to the least there is
_MOST_STEPS = 10_000


def best_weights(probabilities: Array, labels: Labels) -> tuple[float, ...]:
    """Returns the weights of k networks for which the mean cross-entropy of their averaged probabilities is least.

    probabilities: (k, n, classes), at least one image. labels: (n,). The weights are non-negative and sum to 1.

    With p_ki the probability that network k gives to the label of image i, the loss is L(w) = -mean_i log sum_k w_k p_ki, which
    is convex. From equal weights, each step is w_k <- w_k g_k, where g_k = mean_i p_ki / sum_j w_j p_ji: the EM algorithm for
    the shares of a mixture. It keeps the sum, and no step raises L. Since L is convex, L(w) - min L <= max_k g_k - 1; the steps
    end when that is below 1e-6, or after 10,000. Source: Dempster, Laird and Rubin 1977.
    """
    own = np.maximum(probabilities[:, np.arange(len(labels)), labels], _LEAST)  # (k, n)
    weights = np.full(len(own), 1 / len(own))
    for _ in range(_MOST_STEPS):
        gains = (own / (weights @ own)).mean(axis=1)
        if gains.max() - 1 < _GAP:
            break
        weights = weights * gains
    weights = weights / weights.sum()
    return tuple(weights.tolist())


def expect_weights(name: str, weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Returns the weights of `count` networks. Raises FieldTypeError or FieldValueError for other numbers of them, negative
    ones and a sum that is not 1.
    """
    owner, colon, field = name.rpartition(": ")
    where, expected = owner + colon, f"{count} non-negative numbers whose sum is 1"
    if isinstance(weights, np.ndarray):
        weights = weights.tolist()
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise FieldTypeError(field, weights, expected, where)
    numbers = [float(w) if isinstance(w, (int, float)) and not isinstance(w, bool) else math.nan for w in weights]
    if len(numbers) != count or not all(number >= 0 for number in numbers) or abs(sum(numbers) - 1) > 1e-6:
        raise FieldValueError(field, weights, expected, where)
    return tuple(numbers)
