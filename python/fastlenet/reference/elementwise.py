"""Ops that work element by element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastlenet.backend import Array
from fastlenet.philox import STREAM_DROPOUT, philox
from fastlenet.reference.checks import Call

__all__ = [
    "dropout_backward",
    "dropout_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
    "tanh_forward",
]


def _map(op: str, function: Callable[[Array], Array], x: Array, out: Array | None) -> Array:
    call = Call(op, out)
    x = call.floats("x", x)
    return call.returns(function(x), in_place=True)


def _map_gradient(
    op: str, function: Callable[[Array, Array], Array], dy: Array, name: str, other: Array, out: Array | None
) -> Array:
    call = Call(op, out)
    dy, other = call.floats("dy", dy), call.floats(name, other)
    call.shape("dy", dy, other.shape)
    return call.returns(function(dy, other), in_place=True)


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("relu_forward", lambda x: np.where(x <= 0, x.dtype.type(0), x), x, out)


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    return _map_gradient("relu_backward", lambda dy, y: np.where(y > 0, dy, dy.dtype.type(0)), dy, "y", y, out)


def leaky_relu_forward(x: Array, slope: float = 0.01, *, out: Array | None = None) -> Array:
    below = Call("leaky_relu_forward").not_negative("slope", slope)
    return _map("leaky_relu_forward", lambda x: np.where(x > 0, x, x.dtype.type(below) * x), x, out)


def leaky_relu_backward(dy: Array, y: Array, slope: float = 0.01, *, out: Array | None = None) -> Array:
    below = Call("leaky_relu_backward").not_negative("slope", slope)

    def gradient(dy: Array, y: Array) -> Array:
        return np.where(y > 0, dy, dy.dtype.type(below) * dy)

    return _map_gradient("leaky_relu_backward", gradient, dy, "y", y, out)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x.astype(np.float64)))  # in (0, 1]: neither branch can overflow
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e)).astype(x.dtype)


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("sigmoid_forward", _sigmoid, x, out)


def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    return _map_gradient("sigmoid_backward", lambda dy, y: dy * (y * (1 - y)), dy, "y", y, out)


def tanh_forward(x: Array, *, out: Array | None = None) -> Array:
    return _map("tanh_forward", lambda x: np.tanh(x.astype(np.float64)).astype(x.dtype), x, out)


def tanh_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    return _map_gradient("tanh_backward", lambda dy, y: dy * ((1 - y) * (1 + y)), dy, "y", y, out)


def dropout_forward(
    x: Array,
    rate: float,
    seed: int,
    counter: int,
    *,
    offset: int = 0,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    call = Call("dropout_forward", out)
    x, rate = call.floats("x", x), call.fraction("rate", rate)
    numbers = call.word("seed", seed), STREAM_DROPOUT, call.word("counter", counter)
    words = philox(*numbers, x.size, call.word("offset", offset)).astype(np.uint64)
    kept = (words >= np.uint64(round(rate * 2**32))).reshape(x.shape)
    mask = np.where(kept, 1 / (1 - rate), 0.0).astype(x.dtype)
    return call.returns_two(np.asarray(x * mask), mask, in_place=True)


def dropout_backward(dy: Array, mask: Array, *, out: Array | None = None) -> Array:
    return _map_gradient("dropout_backward", lambda dy, mask: dy * mask, dy, "mask", mask, out)
