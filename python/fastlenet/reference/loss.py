"""Losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.reference.checks import Call

__all__ = ["inverse_root", "softmax_cross_entropy", "squared_error"]


def softmax_cross_entropy(
    logits: Array, labels: npt.ArrayLike, *, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[float, Array]:
    call = Call("softmax_cross_entropy", out)
    logits = call.floats("logits", logits)
    call.rank("logits", logits, 2)
    n, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{call.op}: logits expects at least one class, got shape {logits.shape}")
    label_smoothing = call.number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{call.op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    index = call.integers("labels", labels, classes)
    call.shape("labels", index, (n,))
    if n == 0:
        return float("nan"), call.returns(np.empty(logits.shape, logits.dtype))
    target = np.full((n, classes), label_smoothing / classes)
    target[np.arange(n), index] += 1 - label_smoothing
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # the largest exponent is 0
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    log_softmax = shifted - np.log(sums)
    with np.errstate(invalid="ignore"):
        loss = -np.where(target > 0, target * log_softmax, 0).sum() / n
    return float(loss), call.returns(((exponentials / sums - target) / n).astype(logits.dtype))


def squared_error(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    call = Call("squared_error", out)
    prediction = call.floats("prediction", prediction)
    target = call.floats("target", target)
    call.shape("target", target, prediction.shape)
    difference = prediction.astype(np.float64) - target
    dprediction = np.asarray(2 * difference).astype(prediction.dtype)
    return float((difference**2).sum()), call.returns(dprediction, in_place=True)


def inverse_root(square: float, *, at_least: float = 0.0) -> float:
    call = Call("inverse_root")
    square, at_least = call.number("square", square), call.number("at_least", at_least)
    for name, value in (("square", square), ("at_least", at_least)):
        if value < 0:
            raise ValueError(f"inverse_root: {name} expects a number of at least 0, got {value}")
    square = max(square, at_least)
    return float(square**-0.5) if square else 0.0
