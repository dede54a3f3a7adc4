"""A chain of three weights and two sigmoids. docs/derivation.md derives its gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from fastlenet import ops as kernel_ops
from fastlenet.backend import Array
from fastlenet.fields import Values, integer
from fastlenet.nn import Linear, Sequential, Sigmoid

__all__ = ["Chain"]

_RATE = Values(float, "a finite number", -sys.float_info.max, sys.float_info.max)


def _numbers(name: str, values: ArrayLike) -> Array:
    """Numbers of any type, or nested lists of them, as a float32 array."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"Chain: {name} expects numbers, got {type(values).__name__} of {array.dtype}")
    return np.asarray(array, np.float32)


class Chain(Sequential):
    """f_w(x) = w3 * s(w2 * s(w1 * x)), where s(u) = 1 / (1 + exp(-u)): three weights and no biases.

    weights: (w1, w2, w3), finite numbers. ops: the backend. In all methods, x is a number or an array of any shape; each
    element is an example. It is converted to float32. Raises TypeError or ValueError, which names the argument, for wrong ones.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0), *, ops: ModuleType = kernel_ops) -> None:
        layers = {
            "w1": Linear(1, 1, bias=False),
            "s1": Sigmoid(),
            "w2": Linear(1, 1, bias=False),
            "s2": Sigmoid(),
            "w3": Linear(1, 1, bias=False),
        }
        super().__init__(*layers.values(), names=list(layers), ops=ops, input_shape=(1,))
        self.weights = weights

    @property
    def weights(self) -> Array:
        """(w1, w2, w3), a float32 view: writing to it changes the chain."""
        return self.parameter_buffer

    @weights.setter
    def weights(self, values: Sequence[float]) -> None:
        weights = _numbers("weights", values)
        if weights.shape != (3,) or not np.isfinite(weights).all():
            raise ValueError(f"Chain: weights expects three numbers, finite in float32, got {values!r}")
        self.parameter_buffer[...] = weights

    def __call__(self, x: ArrayLike) -> Array:
        """Returns f_w(x), float32, of the shape of x."""
        values = _numbers("x", x)
        y = super().__call__(values.reshape(-1, 1))
        shaped: Array = y.reshape(values.shape)
        return shaped

    def closed_form_gradients(self, x: ArrayLike) -> tuple[Array, Array, Array]:
        """Returns df/dw1, df/dw2, df/dw3 at each x by the chain rule; each has the shape of x.

        With a = s(w1*x), b = s(w2*a): df/dw3 = b, df/dw2 = w3*b(1-b)*a, df/dw1 = w3*b(1-b)*w2*a(1-a)*x.
        """
        values = _numbers("x", x)
        w1, w2, w3 = self.weights
        a = self.ops.sigmoid_forward(w1 * values)
        b = self.ops.sigmoid_forward(w2 * a)
        outer = w3 * b * (1 - b)
        return outer * w2 * a * (1 - a) * values, outer * a, b

    def _squared_error(self, x: ArrayLike, y: ArrayLike) -> tuple[SupportsFloat, Array]:
        values, target = _numbers("x", x), _numbers("y", y)
        if target.shape != values.shape:
            raise ValueError(f"Chain: y expects shape {values.shape}, as x, got {target.shape}")
        loss, dprediction = self.ops.squared_error(self(values), target)
        return loss, dprediction

    def loss(self, x: ArrayLike, y: ArrayLike) -> float:
        """Returns L(w) = sum of (y - f_w(x))^2 over the examples. y: the targets, of the shape of x."""
        return float(self._squared_error(x, y)[0])

    def loss_gradient(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Returns grad L(w) = (dL/dw1, dL/dw2, dL/dw3), float32 (3,), by the backward pass. y: of the shape of x."""
        _, dprediction = self._squared_error(x, y)
        self.backward(dprediction.reshape(-1, 1))
        gradient: Array = self.gradient_buffer.copy()
        return gradient

    def gradient_step(self, x: ArrayLike, y: ArrayLike, rate: float) -> float:
        """Make one step of gradient descent, w <- w - rate * grad L(w). Returns L before the step."""
        rate = _RATE.convert("Chain: rate", rate)
        loss = self.loss(x, y)
        self.loss_gradient(x, y)
        self.ops.sgd_step(self.parameter_buffer, self.gradient_buffer, None, lr=rate)
        return loss

    def fit(
        self, x: ArrayLike, y: ArrayLike, rate: float, steps: int, progress: Callable[[int, float], None] | None = None
    ) -> list[float]:
        """Make `steps` steps of gradient descent. Returns L before each step and after the last.

        progress: a function that is called as progress(step, loss) after each step. Raises FloatingPointError if L is no longer
        finite; a smaller rate may help.
        """
        steps, losses = integer("Chain: steps", steps, 0), []
        if progress is not None and not callable(progress):
            raise TypeError(f"Chain: progress expects a function of step and loss, got {progress!r}")
        for step in range(steps):
            losses.append(self.gradient_step(x, y, rate))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(f"Chain: the loss is {losses[-1]} at step {step}; a smaller rate may help")
            if progress is not None:
                progress(step, losses[-1])
        losses.append(self.loss(x, y))
        return losses
