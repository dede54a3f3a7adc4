"""The layers of a quantized network: frozen arrays of integers, and what each computes, in NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Shape
from fastlenet.nn.layers.base import Sizes

__all__ = [
    "Bytes",
    "QuantizedAvgPool2d",
    "QuantizedConv2d",
    "QuantizedFlatten",
    "QuantizedLayer",
    "QuantizedLinear",
    "QuantizedMaxPool2d",
    "QuantizedTable",
    "Scores",
    "requantized",
]

Bytes = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.int8]
Sums = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


def requantized(sums: npt.NDArray[np.int32], multiplier: Floats | np.float32, zero_point: int | Floats) -> Bytes:
    """Returns clip(rint(float32(sums) * multiplier) + zero_point, 0, 255), with ties to even."""
    y = sums.astype(np.float32)
    with np.errstate(over="ignore"):  # an infinity is clipped
        y *= multiplier
    np.rint(y, out=y)
    np.clip(y, -zero_point, 255 - zero_point, out=y)  # before the sum, which is then exact
    y += zero_point
    return y.astype(np.uint8)


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """A layer with its name in the network and the shape of one example's output."""

    name: str
    output_shape: Shape

    kind: ClassVar[str]  # what it computes

    def __call__(self, x: Bytes) -> npt.NDArray[np.uint8 | np.float32]:
        """Compute the layer. x: (n, ...) of the previous layer's output_shape. Returns (n, *output_shape)."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class QuantizedConv2d(QuantizedLayer):
    """A convolution, and the ReLU behind it if there is one.

    weight: int8 (k, c, r, s). bias: int32 (k,). multiplier: float32 (k,). stride, padding: (rows, columns).
    padding_value: uint8 (c,), what the padding holds. zero_point: of the output; None if the output is float32,
    float32(sum) * multiplier, which only the last layer's is.
    The sum of output k is bias[k] + sum of weight[k] * x, in int32 without overflow; the input's zero points are in the bias.
    """

    weight: Weights
    bias: Sums
    multiplier: Floats
    zero_point: int | None
    stride: Sizes
    padding: Sizes
    padding_value: Bytes

    kind = "Conv2d"

    def __call__(self, x: Bytes) -> npt.NDArray[np.uint8 | np.float32]:
        k, c, r, s = self.weight.shape
        windows = _windows(_padded(x, self.padding, self.padding_value), (r, s), self.stride)
        n, (p, q) = len(x), windows.shape[2:4]
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * p * q, c * r * s)  # not -1, which no images leave open
        sums = _product(rows, self.weight.reshape(k, c * r * s)) + self.bias
        y = _finished(sums, self.multiplier, self.zero_point)
        return np.ascontiguousarray(y.reshape(n, p, q, k).transpose(0, 3, 1, 2))


@dataclass(frozen=True, eq=False)
class QuantizedLinear(QuantizedLayer):
    """A linear layer, and the ReLU behind it. weight: int8 (out, in). The rest: as for QuantizedConv2d, k = out."""

    weight: Weights
    bias: Sums
    multiplier: Floats
    zero_point: int | None

    kind = "Linear"

    def __call__(self, x: Bytes) -> npt.NDArray[np.uint8 | np.float32]:
        return _finished(_product(x, self.weight) + self.bias, self.multiplier, self.zero_point)


@dataclass(frozen=True, eq=False)
class QuantizedMaxPool2d(QuantizedLayer):
    """The maximum of each window. Padding is never the maximum."""

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes

    kind = "MaxPool2d"

    def __call__(self, x: Bytes) -> Bytes:
        smallest = np.zeros(x.shape[1], np.uint8)
        maximum: Bytes = _windows(_padded(x, self.padding, smallest), self.kernel_size, self.stride).max(axis=(4, 5))
        return maximum


@dataclass(frozen=True, eq=False)
class QuantizedAvgPool2d(QuantizedLayer):
    """The mean of each window, padding included: requantized(sum of (x - zero_point), multiplier, zero_point).

    zero_point: uint8 (c,), of the input and the output, and what the padding holds. multiplier: float32(1 / (r * s)).
    """

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes
    zero_point: Bytes
    multiplier: np.float32

    kind = "AvgPool2d"

    def __call__(self, x: Bytes) -> Bytes:
        windows = _windows(_padded(x, self.padding, self.zero_point), self.kernel_size, self.stride)
        area = self.kernel_size[0] * self.kernel_size[1]
        zeros = self.zero_point[:, None, None]
        sums = windows.sum(axis=(4, 5), dtype=np.int32) - area * zeros.astype(np.int32)
        return requantized(sums, self.multiplier, zeros.astype(np.float32))


@dataclass(frozen=True, eq=False)
class QuantizedTable(QuantizedLayer):
    """A function of each byte: table[x]. table: uint8 (256,). activation: the name of the float layer's class."""

    table: Bytes
    activation: str

    kind = "Table"

    def __call__(self, x: Bytes) -> Bytes:
        return np.take(self.table, x)


@dataclass(frozen=True, eq=False)
class QuantizedFlatten(QuantizedLayer):
    """(n, ...) to (n, product of the other sizes), in row order."""

    kind = "Flatten"

    def __call__(self, x: Bytes) -> Bytes:
        return x.reshape(len(x), math.prod(x.shape[1:]))


@dataclass(frozen=True, eq=False)
class Scores(QuantizedLayer):
    """The last layer of a network that ends in bytes: float32(x - zero_point) * scale, the scores as float32."""

    scale: np.float32
    zero_point: int

    kind = "Scores"

    def __call__(self, x: Bytes) -> Floats:
        y: Floats = (x.astype(np.float32) - np.float32(self.zero_point)) * self.scale
        return y


def _product(rows: Bytes, weight: Weights) -> Sums:
    """rows @ weight.T, exactly: in float32, which has all integers below 2^24, or where sums may be larger, in float64."""
    largest = 255 * int(np.abs(weight.astype(np.int64)).sum(axis=1).max(initial=0))
    floats = np.float32 if largest < 2**24 else np.float64
    sums: Sums = (rows.astype(floats) @ weight.astype(floats).T).astype(np.int32)
    return sums


def _finished(sums: Sums, multiplier: Floats, zero_point: int | None) -> npt.NDArray[np.uint8 | np.float32]:
    if zero_point is None:
        return sums.astype(np.float32) * multiplier
    return requantized(sums, multiplier, zero_point)


def _padded(x: Bytes, padding: Sizes, value: Bytes) -> Bytes:
    """x (n, c, h, w) in a frame that holds value[c]."""
    if padding == (0, 0):
        return x
    (n, c, h, w), (rows, columns) = x.shape, padding
    framed = np.empty((n, c, h + 2 * rows, w + 2 * columns), np.uint8)
    framed[...] = value[:, None, None]
    framed[:, :, rows : rows + h, columns : columns + w] = x
    return framed


def _windows(x: Bytes, size: Sizes, stride: Sizes) -> Bytes:
    """A view (n, c, p, q, r, s) of the windows of x (n, c, h, w)."""
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
