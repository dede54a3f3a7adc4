"""The layers: PyTorch's names and arguments, forward and backward through the ops of a backend."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from fastlenet.fields import Values
from fastlenet.nn.context import Array, Pass, Shape

__all__ = [
    "PROBABILITY",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "MisfitError",
    "ReLU",
    "Sigmoid",
    "gradient_outputs",
    "slide",
]


_Pair = tuple[int, int]
_MOST = 2**31 - 1  # channels, features, pixels
_SIZE = Values(int, "a positive integer below 2^31", 1, _MOST)
_FLAG = Values(bool)
PROBABILITY = Values(float, "a number in [0, 1)", 0, 1, below=True)


class MisfitError(ValueError):
    """A shape of examples that a layer cannot take; `expected` says what it takes, of one example."""

    def __init__(self, expected: str, shape: Shape) -> None:
        super().__init__(expected, shape)  # by which it is copied
        self.expected, self.shape = expected, shape

    def __str__(self) -> str:
        return f"an input expects shape ({self.expected}), got {self.shape}"


class Layer:
    """One step of a Sequential. `forward` and `backward` take the pass, the layer's position, and its names' prefix."""

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of one example's output, given that of its input, both without n."""
        return shape

    def shapes(self) -> dict[str, Shape]:
        """Its parameters' names and shapes."""
        return {}

    def fan_in(self) -> int:
        """The number of inputs that reach one output."""
        return 1

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-adds of one example's forward pass."""
        return 0

    def pack(self, weight: Array, backend: ModuleType, algorithm: str) -> Array | None:
        """Weights that no longer change in the layout that is best for a few images, if there is one."""
        return None

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({settings})"


def _sizes(name: str, value: Any, least: int) -> tuple[int, int]:
    """An int or a pair of ints, for rows and columns."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in pair):
        raise TypeError(f"{name} expects an int or a pair of ints, got {value!r}")
    if not least <= min(pair) <= max(pair) <= _MOST:
        raise ValueError(f"{name} expects {'positive' if least else 'non-negative'} ints below 2^31, got {value!r}")
    return int(pair[0]), int(pair[1])


def slide(shape: Shape, channels: int | None, window: _Pair, stride: _Pair, padding: _Pair) -> tuple[int, int]:
    """The size of what a window makes that slides over images of shape (c, h, w). MisfitError if it does not fit in."""
    legend = "c" if channels is None else str(channels)
    if len(shape) != 3 or (shape[0] != channels if channels is not None else False):
        raise MisfitError(f"{legend}, h, w", shape)
    (h, w), (r, s) = shape[1:], window
    if h + 2 * padding[0] < r or w + 2 * padding[1] < s:
        raise MisfitError(f"{legend}, h >= {max(0, r - 2 * padding[0])}, w >= {max(0, s - 2 * padding[1])}", shape)
    return (h + 2 * padding[0] - r) // stride[0] + 1, (w + 2 * padding[1] - s) // stride[1] + 1


class Conv2d(Layer):
    """Cross-correlation; see ops.conv2d_forward. x: (n, in_channels, h, w) -> (n, out_channels, p, q)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
    ) -> None:
        self.kernel_size: _Pair = _sizes("Conv2d: kernel_size", kernel_size, 1)
        self.stride: _Pair = _sizes("Conv2d: stride", stride, 1)
        self.padding: _Pair = _sizes("Conv2d: padding", padding, 0)
        self.in_channels: int = _SIZE.convert("Conv2d: in_channels", in_channels)
        self.out_channels: int = _SIZE.convert("Conv2d: out_channels", out_channels)
        self.bias: bool = _FLAG.convert("Conv2d: bias", bias)

    def shapes(self) -> dict[str, Shape]:
        weight = {"weight": (self.out_channels, self.in_channels, *self.kernel_size)}
        return weight | ({"bias": (self.out_channels,)} if self.bias else {})

    def fan_in(self) -> int:
        return self.in_channels * math.prod(self.kernel_size)

    def output_shape(self, shape: Shape) -> Shape:
        return (self.out_channels, *slide(shape, self.in_channels, self.kernel_size, self.stride, self.padding))

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.fan_in()

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        weight, bias = run.parameters[f"{name}.weight"], run.parameters.get(f"{name}.bias")
        if out is None:
            out = run.workspace.take((at, "y"), (len(x), *self.output_shape(x.shape[1:])))
        y: Array = run.backend.conv2d_forward(x, weight, bias, stride=self.stride, padding=self.padding, out=out)
        run.saved[at] = (x,)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (x,) = run.saved[at]
        dx: Array | None = run.backend.conv2d_backward(
            dy,
            x,
            run.parameters[f"{name}.weight"],
            stride=self.stride,
            padding=self.padding,
            need_dx=need_dx,
            out=gradient_outputs(run, at, name, x.shape, need_dx),
        )[0]
        return dx


def gradient_outputs(run: Pass, at: int, name: str, x_shape: Shape, need_dx: bool) -> tuple[Array | None, ...]:
    """dx from the workspace, dweight and dbias straight in the model's gradients (None where there is no bias)."""
    dx = run.workspace.take((at, "dx"), x_shape) if need_dx else None
    return dx, run.gradients[f"{name}.weight"], run.gradients.get(f"{name}.bias")


class MaxPool2d(Layer):
    """The maximum of each window; see ops.max_pool2d_forward. stride defaults to kernel_size."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        self.kernel_size, self.padding = (
            _sizes("MaxPool2d: kernel_size", kernel_size, 1),
            _sizes("MaxPool2d: padding", padding, 0),
        )
        self.stride = self.kernel_size if stride is None else _sizes("MaxPool2d: stride", stride, 1)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"MaxPool2d: padding expects at most half of kernel_size {kernel_size!r}, got {padding!r}")

    def output_shape(self, shape: Shape) -> Shape:
        sizes = slide(shape, None, self.kernel_size, self.stride, self.padding)
        return (shape[0], *sizes)

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y = run.workspace.take((at, "y"), shape) if out is None else out
        indices = run.workspace.take((at, "indices"), shape, np.int32)
        run.backend.max_pool2d_forward(x, self.kernel_size, stride=self.stride, padding=self.padding, out=(y, indices))
        run.saved[at] = (indices, x.shape)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        indices, shape = run.saved[at]
        if not need_dx:
            return None
        dx: Array = run.backend.max_pool2d_backward(dy, indices, shape, out=run.workspace.take((at, "dx"), shape))
        return dx


class Linear(Layer):
    """y = x @ weight.T + bias. x: (n, in_features) -> (n, out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features: int = _SIZE.convert("Linear: in_features", in_features)
        self.out_features: int = _SIZE.convert("Linear: out_features", out_features)
        self.bias: bool = _FLAG.convert("Linear: bias", bias)

    def shapes(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features)} | ({"bias": (self.out_features,)} if self.bias else {})

    def fan_in(self) -> int:
        return self.in_features

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.in_features,):
            raise MisfitError(str(self.in_features), shape)
        return (self.out_features,)

    def multiply_adds(self, shape: Shape) -> int:
        return self.in_features * self.out_features

    def pack(self, weight: Array, backend: ModuleType, algorithm: str) -> Array | None:
        return np.asfortranarray(weight)

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        weight, bias = run.parameters[f"{name}.weight"], run.parameters.get(f"{name}.bias")
        weight = run.packed.get(f"{name}.weight", weight)
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y = run.workspace.take((at, "y"), shape) if out is None else out
        run.saved[at] = (x,)
        result: Array = run.backend.linear_forward(x, weight, bias, skip_zeros=run.skip_zeros, out=y)
        return result

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (x,) = run.saved[at]
        out = gradient_outputs(run, at, name, x.shape, need_dx)
        dx: Array | None = run.backend.linear_backward(dy, x, run.parameters[f"{name}.weight"], need_dx=need_dx, out=out)[0]
        return dx


class ReLU(Layer):
    """max(x, 0), element by element."""

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        y: Array = run.backend.relu_forward(x, out=run.workspace.take((at, "y"), x.shape) if out is None else out)
        run.saved[at] = (y,)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (y,) = run.saved[at]
        dx: Array = run.backend.relu_backward(dy, y, out=run.workspace.take((at, "dx"), y.shape))
        return dx


class Sigmoid(Layer):
    """1 / (1 + exp(-x)), element by element."""

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        y: Array = run.backend.sigmoid_forward(x, out=run.workspace.take((at, "y"), x.shape) if out is None else out)
        run.saved[at] = (y,)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (y,) = run.saved[at]
        dx: Array = run.backend.sigmoid_backward(dy, y, out=run.workspace.take((at, "dx"), y.shape))
        return dx


class Flatten(Layer):
    """(n, ...) -> (n, product of the rest), row by row."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        run.saved[at] = (x.shape,)
        flat = x.reshape(len(x), math.prod(x.shape[1:]))
        if out is None:
            return flat
        out[...] = flat
        return out

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (shape,) = run.saved[at]
        dx: Array = dy.reshape(shape)
        return dx


class Dropout(Layer):
    """In training, zeroes each element with probability p and scales the others by 1 / (1 - p); else the identity."""

    def __init__(self, p: float = 0.5) -> None:
        self.p: float = PROBABILITY.convert("Dropout: p", p)

    def forward(self, x: Array, run: Pass, at: int, name: str, out: Array | None) -> Array:
        y = run.workspace.take((at, "y"), x.shape) if out is None else out
        if not run.training:
            if out is None:
                return x
            out[...] = x
            return out
        mask = run.workspace.take((at, "mask"), x.shape)
        # Counters of two layers never meet: the position in the network is above all steps.
        counter = run.dropout_counter + (at << 48)
        run.backend.dropout_forward(x, self.p, run.seed, counter, out=(y, mask))
        run.saved[at] = (mask,)
        return y

    def backward(self, dy: Array, run: Pass, at: int, name: str, need_dx: bool) -> Array | None:
        (mask,) = run.saved[at]
        dx: Array = run.backend.dropout_backward(dy, mask, out=run.workspace.take((at, "dx"), mask.shape))
        return dx
