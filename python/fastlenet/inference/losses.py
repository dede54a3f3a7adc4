"""The losses of the softmax of logits, which a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np

from fastlenet.backend import Array, Backend
from fastlenet.fields import Values

__all__ = ["LOSSES", "Loss", "loss_of"]


@dataclass(frozen=True)
class Loss:
    """A loss of the softmax of logits.

    op: of a backend, the op that computes the mean loss of a batch and its gradient. of_probabilities: the loss of each row of
    probabilities (N, classes) at its label (N,).
    """

    op: Callable[[Backend[Array]], Callable[..., tuple[SupportsFloat, Array]]]
    of_probabilities: Callable[[Array, Array], Array]


def _cross_entropy(probabilities: Array, labels: Array) -> Array:
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    losses: Array = -np.log(np.maximum(of_label, np.finfo(np.float64).tiny))
    return losses


def _squared_error(probabilities: Array, labels: Array) -> Array:
    target = np.zeros_like(probabilities)
    np.put_along_axis(target, labels[:, None], 1.0, axis=1)
    losses: Array = ((probabilities - target) ** 2).mean(axis=1)
    return losses


# What Recipe.loss may say: the names of Keras.
LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss(lambda ops: ops.softmax_cross_entropy, _cross_entropy),
    "mse": Loss(lambda ops: ops.softmax_squared_error, _squared_error),
}


def loss_of(name: str) -> Loss:
    """Returns the loss of this name. Raises FieldTypeError or FieldValueError for another."""
    return LOSSES[Values(str, choices=tuple(LOSSES)).convert("loss", name)]
