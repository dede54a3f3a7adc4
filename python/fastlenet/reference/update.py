"""Optimizer steps, in place."""

from __future__ import annotations

import numpy as np

from fastlenet.backend import Array
from fastlenet.reference.checks import Call

__all__ = ["adam_step", "ema_step", "sgd_step"]


def sgd_step(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    call = Call("sgd_step")
    gradients = call.floats("gradients", gradients)
    parameters = call.state("parameters", parameters)
    velocity = None if velocity is None else call.state("velocity", velocity, parameters)
    call.shape("gradients", gradients, parameters.shape)
    lr, momentum, weight_decay = call.numbers(lr=lr, momentum=momentum, weight_decay=weight_decay)
    if velocity is None and momentum != 0:
        raise ValueError("sgd_step: velocity expects an array when momentum is not 0, got None")
    gradient = gradients + weight_decay * parameters
    if velocity is None or momentum == 0:
        parameters -= lr * gradient
        return
    velocity[...] = momentum * velocity + gradient
    parameters -= lr * (gradient + momentum * velocity if nesterov else velocity)


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
) -> None:
    call = Call("adam_step")
    gradients = call.floats("gradients", gradients)
    parameters = call.state("parameters", parameters)
    first_moment = call.state("first_moment", first_moment, parameters)
    second_moment = call.state("second_moment", second_moment, parameters)
    call.shape("gradients", gradients, parameters.shape)
    step = call.integer("step", step, 1, 2**63 - 1, "a count from 1")
    beta1, beta2 = call.fraction("beta1", beta1), call.fraction("beta2", beta2)
    lr, eps, weight_decay = call.numbers(lr=lr, eps=eps, weight_decay=weight_decay)
    first_moment[...] = beta1 * first_moment + (1 - beta1) * gradients
    second_moment[...] = beta2 * second_moment + (1 - beta2) * gradients**2
    corrected = first_moment / (1 - beta1**step)
    denominator = np.sqrt(second_moment / (1 - beta2**step)) + eps
    parameters[...] = (1 - lr * weight_decay) * parameters - lr * corrected / denominator


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    call = Call("ema_step")
    parameters = call.floats("parameters", parameters)
    average = call.state("average", average)
    call.shape("parameters", parameters, average.shape)
    decay = call.number("decay", decay)
    average[...] = decay * average + (1 - decay) * parameters
