"""Activations: functions of each element."""

from __future__ import annotations

import numpy as np

from fastlenet.backend import Array, Backend
from fastlenet.fields import Values
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import Layer

__all__ = ["LeakyReLU", "ReLU", "Sigmoid", "Tanh"]


_SLOPE = Values(float, "a number of at least 0 that fits float32", 0, float(np.finfo(np.float32).max))


class _Activation(Layer):
    """y = f(x), element-wise, where the derivative of f is known from y."""

    calls_only_ops = True

    def forward(self, x: Array, context: Context) -> Array:
        y = self._forward(context.ops, x, context.output(x.shape))
        context.save(y)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (y,) = context.saved
        return self._backward(context.ops, dy, y, context.output(y.shape)) if context.need_dx else None

    def _forward(self, ops: Backend[Array], x: Array, out: Array) -> Array:
        """Compute y into out, and return it."""
        raise NotImplementedError

    def _backward(self, ops: Backend[Array], dy: Array, y: Array, out: Array) -> Array:
        """Compute dx into out, and return it."""
        raise NotImplementedError


class ReLU(_Activation):
    """max(x, 0), element-wise. x: any shape."""

    def _forward(self, ops: Backend[Array], x: Array, out: Array) -> Array:
        return ops.relu_forward(x, out=out)

    def _backward(self, ops: Backend[Array], dy: Array, y: Array, out: Array) -> Array:
        return ops.relu_backward(dy, y, out=out)


class LeakyReLU(_Activation):
    """x where x > 0, else slope * x, element-wise. x: any shape. slope: a number of at least 0 that fits float32."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope: float = _SLOPE.convert("LeakyReLU: slope", slope)

    def _forward(self, ops: Backend[Array], x: Array, out: Array) -> Array:
        return ops.leaky_relu_forward(x, self.slope, out=out)

    def _backward(self, ops: Backend[Array], dy: Array, y: Array, out: Array) -> Array:
        return ops.leaky_relu_backward(dy, y, self.slope, out=out)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)), element-wise. x: any shape."""

    def _forward(self, ops: Backend[Array], x: Array, out: Array) -> Array:
        return ops.sigmoid_forward(x, out=out)

    def _backward(self, ops: Backend[Array], dy: Array, y: Array, out: Array) -> Array:
        return ops.sigmoid_backward(dy, y, out=out)


class Tanh(_Activation):
    """tanh(x), element-wise. x: any shape."""

    def _forward(self, ops: Backend[Array], x: Array, out: Array) -> Array:
        return ops.tanh_forward(x, out=out)

    def _backward(self, ops: Backend[Array], dy: Array, y: Array, out: Array) -> Array:
        return ops.tanh_backward(dy, y, out=out)
