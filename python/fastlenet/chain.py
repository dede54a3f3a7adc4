"""The three-weight chain of sigmoids of the assignment; docs/derivation.md derives what is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet import ops as kernel_ops
from fastlenet.nn import Linear, Sequential, Sigmoid

__all__ = ["Chain"]

Array = npt.NDArray[Any]


class Chain(Sequential):
    """f_w(x) = w3 * s(w2 * s(w1 * x)), where s(u) = 1 / (1 + exp(-u)): three weights and no biases.

    weights: (w1, w2, w3). x: any float32 array, each element an example; f_w(x) has its shape.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0), *, ops: ModuleType = kernel_ops) -> None:
        layers = {
            "w1": Linear(1, 1, bias=False),
            "s1": Sigmoid(),
            "w2": Linear(1, 1, bias=False),
            "s2": Sigmoid(),
            "w3": Linear(1, 1, bias=False),
        }
        super().__init__(*layers.values(), names=list(layers), ops=ops)
        self.weights = weights

    @property
    def weights(self) -> Array:
        """(w1, w2, w3), a view: writing to it changes the chain."""
        return self.parameter_buffer

    @weights.setter
    def weights(self, values: Sequence[float]) -> None:
        if np.shape(values) != (3,):
            raise ValueError(f"Chain: weights expects three numbers, got {values!r}")
        self.parameter_buffer[...] = values

    def __call__(self, x: Any) -> Array:
        """f_w(x), of the shape of x."""
        values = np.asarray(x, np.float32)
        y = super().__call__(values.reshape(-1, 1))
        shaped: Array = y.reshape(values.shape)
        return shaped

    def closed_form_gradients(self, x: Any) -> tuple[Array, Array, Array]:
        """df/dw1, df/dw2, df/dw3 at each x, written out by the chain rule; each has the shape of x.

        With a = s(w1*x), b = s(w2*a): df/dw3 = b, df/dw2 = w3*b(1-b)*a, df/dw1 = w3*b(1-b)*w2*a(1-a)*x.
        """
        values = np.asarray(x, np.float32)
        w1, w2, w3 = self.weights
        a = self.ops.sigmoid_forward(w1 * values)
        b = self.ops.sigmoid_forward(w2 * a)
        outer = w3 * b * (1 - b)
        return outer * w2 * a * (1 - a) * values, outer * a, b

    def loss(self, x: Any, y: Any) -> float:
        """L(w) = sum of (y - f_w(x))^2 over the examples."""
        loss, _ = self.ops.squared_error(self(x), np.asarray(y, np.float32))
        return float(loss)

    def loss_gradient(self, x: Any, y: Any) -> Array:
        """grad L(w) = (dL/dw1, dL/dw2, dL/dw3), by the backward pass."""
        _, dprediction = self.ops.squared_error(self(x), np.asarray(y, np.float32))
        self.backward(dprediction.reshape(-1, 1))
        gradient: Array = self.gradient_buffer.copy()
        return gradient

    def gradient_step(self, x: Any, y: Any, rate: float) -> float:
        """One step of gradient descent, w <- w - rate * grad L(w); returns L before it."""
        loss = self.loss(x, y)
        self.loss_gradient(x, y)
        self.ops.sgd_step(self.parameter_buffer, self.gradient_buffer, None, lr=rate)
        return loss

    def fit(self, x: Any, y: Any, rate: float, steps: int, progress: Callable[[int, float], None] | None = None) -> list[float]:
        """`steps` steps of gradient descent; returns L before each step and after the last.

        progress(step, loss), if given, is called after each step. Raises FloatingPointError when L is no longer finite: the
        rate is then too large.
        """
        losses = []
        for step in range(steps):
            losses.append(self.gradient_step(x, y, rate))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(f"Chain: the loss is {losses[-1]} at step {step}; a smaller rate may help")
            if progress is not None:
                progress(step, losses[-1])
        losses.append(self.loss(x, y))
        return losses
