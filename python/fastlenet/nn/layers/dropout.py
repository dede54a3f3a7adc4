"""Dropout."""

from __future__ import annotations

import math

from fastlenet.backend import Array
from fastlenet.fields import Values
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import Layer

__all__ = ["PROBABILITY", "Dropout"]


PROBABILITY = Values(float, "a number in [0, 1)", 0, 1, below=True)


class Dropout(Layer):
    """In training, sets each element to zero with probability p and multiplies the others by 1 / (1 - p). Otherwise the
    identity.

    p: in [0, 1). x: any shape.
    """

    calls_only_ops = True

    def __init__(self, p: float = 0.5) -> None:
        self.p: float = PROBABILITY.convert("Dropout: p", p)

    def forward(self, x: Array, context: Context) -> Array:
        if not context.training:
            return x
        out = context.output(x.shape), context.scratch("mask", x.shape)
        offset = context.first * math.prod(x.shape[1:])
        y, mask = context.ops.dropout_forward(x, self.p, context.seed, context.renewed_counter, offset=offset, out=out)
        context.save(mask)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (mask,) = context.saved
        return context.ops.dropout_backward(dy, mask, out=context.output(mask.shape)) if context.need_dx else None
