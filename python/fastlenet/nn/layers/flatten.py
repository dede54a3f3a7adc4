"""Flattening."""

from __future__ import annotations

import math

from fastlenet.backend import Array, Shape
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import Layer

__all__ = ["Flatten"]


class Flatten(Layer):
    """Reshapes (n, ...) to (n, product of the other sizes), in row order."""

    calls_only_ops = True

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Array, context: Context) -> Array:
        context.save(x.shape)
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, dy: Array, context: Context) -> Array | None:
        shape: Shape = context.saved[0]
        return dy.reshape(shape)
