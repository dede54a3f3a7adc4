"""Losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.reference.checks import Call

__all__ = ["inverse_root", "softmax_cross_entropy", "softmax_distillation", "softmax_squared_error", "squared_error"]


def softmax_cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    call = Call("softmax_cross_entropy", out)
    logits, target, factors, divisor = _rows(call, logits, labels, label_smoothing, weights, batch_size)
    if len(logits) == 0:
        return 0.0 if divisor else float("nan"), call.returns(np.empty(logits.shape, logits.dtype))
    log_softmax, softmax = _softmax(logits)
    with np.errstate(invalid="ignore"):
        losses = -np.where(target > 0, target * log_softmax, 0).sum(axis=1)
    gradient = factors[:, None] * (softmax - target) / divisor
    return float((factors * losses).sum() / divisor), call.returns(gradient.astype(logits.dtype))


def softmax_squared_error(
    logits: Array,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    call = Call("softmax_squared_error", out)
    logits, target, factors, divisor = _rows(call, logits, labels, label_smoothing, weights, batch_size)
    if len(logits) == 0:
        return 0.0 if divisor else float("nan"), call.returns(np.empty(logits.shape, logits.dtype))
    _, softmax = _softmax(logits)
    error = softmax - target
    # d softmax_k / d logits_j = softmax_k * ((j == k) - softmax_j)
    gradient = 2 * softmax * (error - (softmax * error).sum(axis=1, keepdims=True)) / (divisor * logits.shape[1])
    loss = float((factors * (error**2).mean(axis=1)).sum() / divisor)
    return loss, call.returns((factors[:, None] * gradient).astype(logits.dtype))


def softmax_distillation(
    logits: Array,
    labels: npt.ArrayLike,
    teacher: Array,
    *,
    mix: float,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    call = Call("softmax_distillation", out)
    logits, target, factors, divisor = _rows(call, logits, labels, label_smoothing, weights, batch_size)
    teacher = call.floats("teacher", teacher)
    call.shape("teacher", teacher, logits.shape)
    temperature, mix = call.numbers(temperature=temperature, mix=mix)
    if not 0.001 <= temperature <= 1000:
        raise ValueError(f"{call.op}: temperature expects a number in [0.001, 1000], got {temperature}")
    if not 0 <= mix <= 1:
        raise ValueError(f"{call.op}: mix expects a number in [0, 1], got {mix}")
    if len(logits) == 0:
        return 0.0 if divisor else float("nan"), call.returns(np.empty(logits.shape, logits.dtype))
    log_softmax, softmax = _softmax(logits)
    log_cool, cool = _softmax(logits.astype(np.float64) / temperature)
    taught = teacher.astype(np.float64)
    with np.errstate(invalid="ignore"):
        of_labels = -np.where(target > 0, target * log_softmax, 0).sum(axis=1)
        # A probability of 0 leaves out a logit of -inf, but hides no logit that makes the whole softmax NaN.
        of_teacher = -np.where((taught != 0) | np.isnan(log_cool), taught * log_cool, 0).sum(axis=1)
        losses = np.where(mix < 1, (1 - mix) * of_labels, 0) + np.where(mix > 0, mix * temperature**2 * of_teacher, 0)
    slope = (1 - mix) * (softmax - target) + mix * temperature * (taught.sum(axis=1, keepdims=True) * cool - taught)
    gradient = factors[:, None] * slope / divisor
    return float((factors * losses).sum() / divisor), call.returns(gradient.astype(logits.dtype))


def _rows(
    call: Call,
    logits: Array,
    labels: npt.ArrayLike,
    label_smoothing: float,
    weights: Array | None,
    batch_size: int | None,
) -> tuple[Array, Array, Array, int]:
    """The logits, their targets (n, classes) and the rows' weights (n,), both in float64, and the size of the batch."""
    logits = call.floats("logits", logits)
    given = call.optional("weights", weights)
    call.rank("logits", logits, 2)
    n, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{call.op}: logits expects at least one class, got shape {logits.shape}")
    label_smoothing = call.number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{call.op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    divisor = n if batch_size is None else call.integer("batch_size", batch_size, 1, 2**63 - 1, "a positive integer")
    index = call.integers("labels", labels, classes)
    call.shape("labels", index, (n,))
    if given is not None:
        call.shape("weights", given, (n,))
    target = np.full((n, classes), label_smoothing / classes)
    target[np.arange(n), index] += 1 - label_smoothing
    return logits, target, np.ones(n) if given is None else given.astype(np.float64), divisor


def _softmax(logits: Array) -> tuple[Array, Array]:
    """The logarithm of softmax(logits), and softmax(logits), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # the largest exponent is 0
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    return shifted - np.log(sums), exponentials / sums


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
