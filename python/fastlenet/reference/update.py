"""Optimizer steps, in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Array
from fastlenet.reference.checks import Call

__all__ = ["adam_step", "ema_step", "muon_step", "sgd_step"]


def sgd_step(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("sgd_step")
    gradients = call.floats("gradients", gradients)
    parameters = call.state("parameters", parameters)
    velocity = None if velocity is None else call.state("velocity", velocity, parameters)
    average = None if average is None else call.state("average", average, parameters)
    call.shape("gradients", gradients, parameters.shape)
    lr, momentum, weight_decay, decay = call.numbers(lr=lr, momentum=momentum, weight_decay=weight_decay, decay=decay)
    if velocity is None and momentum != 0:
        raise ValueError("sgd_step: velocity expects an array when momentum is not 0, got None")
    gradient = gradients + weight_decay * parameters
    if velocity is None or momentum == 0:
        parameters -= lr * gradient
    else:
        velocity[...] = momentum * velocity + gradient
        parameters -= lr * (gradient + momentum * velocity if nesterov else velocity)
    if average is not None:
        average[...] = decay * average + (1 - decay) * parameters


def adam_step(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("adam_step")
    gradients = call.floats("gradients", gradients)
    parameters = call.state("parameters", parameters)
    first_moment = call.state("first_moment", first_moment, parameters)
    second_moment = call.state("second_moment", second_moment, parameters)
    average = None if average is None else call.state("average", average, parameters)
    call.shape("gradients", gradients, parameters.shape)
    step = call.integer("step", step, 1, 2**63 - 1, "a count from 1")
    beta1, beta2 = call.fraction("beta1", beta1), call.fraction("beta2", beta2)
    lr, eps, weight_decay, decay = call.numbers(lr=lr, eps=eps, weight_decay=weight_decay, decay=decay)
    first_moment[...] = beta1 * first_moment + (1 - beta1) * gradients
    second_moment[...] = beta2 * second_moment + (1 - beta2) * gradients**2
    corrected = first_moment / (1 - beta1**step)
    denominator = np.sqrt(second_moment / (1 - beta2**step)) + eps
    parameters[...] = (1 - lr * weight_decay) * parameters - lr * corrected / denominator
    if average is not None:
        average[...] = decay * average + (1 - decay) * parameters


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    call = Call("ema_step")
    parameters = call.floats("parameters", parameters)
    average = call.state("average", average)
    call.shape("parameters", parameters, average.shape)
    decay = call.number("decay", decay)
    average[...] = decay * average + (1 - decay) * parameters


def muon_step(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    *,
    matrices: Sequence[tuple[int, int, int]],
    lr: float,
    matrix_lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("muon_step")
    gradients = call.floats("gradients", gradients)
    parameters = call.state("parameters", parameters)
    velocity = None if velocity is None else call.state("velocity", velocity, parameters)
    average = None if average is None else call.state("average", average, parameters)
    call.shape("gradients", gradients, parameters.shape)
    lr, matrix_lr, momentum = call.numbers(lr=lr, matrix_lr=matrix_lr, momentum=momentum)
    weight_decay, decay = call.numbers(weight_decay=weight_decay, decay=decay)
    if velocity is None and momentum != 0:
        raise ValueError("muon_step: velocity expects an array when momentum is not 0, got None")
    parts = call.matrices("matrices", matrices, parameters.size)

    def direction(penalised: Array, part: slice) -> Array:
        if velocity is None or momentum == 0:
            return penalised
        velocity[part] = momentum * velocity[part] + penalised
        return penalised + momentum * velocity[part] if nesterov else velocity[part]

    end = 0
    for begin, rows, columns in (*parts, (parameters.size, 0, 0)):
        rest, part = slice(end, begin), slice(begin, begin + rows * columns)
        parameters[rest] -= lr * direction(gradients[rest] + weight_decay * parameters[rest], rest)
        end = part.stop
        if not rows * columns:
            continue
        x = orthogonal(direction(gradients[part], part).reshape(rows, columns)).reshape(-1)
        rate = matrix_lr * math.sqrt(max(1, rows / max(1, columns)))
        parameters[part] -= rate * (x + weight_decay * parameters[part])
    if average is not None:
        average[...] = decay * average + (1 - decay) * parameters


def orthogonal(matrix: Array) -> Array:
    """A nearly orthogonal matrix with the same singular vectors, in float64; a matrix of zeros for one."""
    x: Array = matrix.astype(np.float64)
    norm = float(np.sqrt((x**2).sum()))
    if norm == 0:
        return x
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / norm
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
