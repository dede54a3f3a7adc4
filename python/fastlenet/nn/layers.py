"""The layers, with PyTorch's names and arguments. They compute with the ops of a backend."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import Values, shown
from fastlenet.nn.context import Context

__all__ = [
    "PROBABILITY",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MisfitError",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "gradient_outputs",
    "slide",
]


_Pair = tuple[int, int]
_MOST = 2**31 - 1  # channels, features, pixels
_SIZE = Values(int, "a positive integer below 2^31", 1, _MOST)
_FLAG = Values(bool)
_SLOPE = Values(float, "a number of at least 0 that fits float32", 0, float(np.finfo(np.float32).max))
PROBABILITY = Values(float, "a number in [0, 1)", 0, 1, below=True)


class MisfitError(ValueError):
    """A layer cannot take examples of this shape. expected: the shape of one example that it takes, in words."""

    def __init__(self, expected: str, shape: Shape) -> None:
        super().__init__(expected, shape)  # copies are made from these
        self.expected, self.shape = expected, shape

    def __str__(self) -> str:
        return f"an input expects shape ({self.expected}), got {self.shape}"


class Layer:
    """The base class of layers. Derive your layer from it, define `forward` and `backward`, and put it into a Sequential.

    If the layer has parameters, define `shapes`. If its output has another shape than its input, define `output_shape`. Store
    only settings in the layer itself, and everything that a pass computes in the context, so that several threads can call the
    layer.

    calls_only_ops: set it to True if `forward` and `backward` write to arrays only by ops of `context.ops`, with the same
    Python numbers in every pass. A model may then capture the ops and repeat them without calling the layer. A derived class
    that defines one of the two methods must set it again.
    """

    calls_only_ops: ClassVar[bool] = False
    packs: ClassVar[tuple[str, ...]] = ()  # the parameters that `forward` takes by context.weight, packed if frozen

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        if ("forward" in own or "backward" in own) and "calls_only_ops" not in own:
            cls.calls_only_ops = False

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape of one example's output. shape: of one example's input; both without n."""
        return shape

    def shapes(self) -> dict[str, Shape]:
        """Returns the names and shapes of the layer's parameters."""
        return {}

    def fan_in(self) -> int:
        """Returns the number of inputs of one output. Parameters start uniform in +-1/sqrt(fan_in)."""
        return 1

    def multiply_adds(self, shape: Shape) -> int:
        """Returns the multiply-adds of one example's forward pass, for the summary. shape: of the input, without n."""
        return 0

    def forward(self, x: Array, context: Context) -> Array:
        """Compute the layer's output y. x: (n, ...) float32; do not change it. Returns y: (n, *output_shape(x.shape[1:])).

        Compute with the ops of `context.ops` and the parameters `context.parameter("weight")` and so on. Write the result to
        `context.output(shape)`, and return it. Save what `backward` needs by `context.save(...)`. Raise ValueError for a wrong
        shape; the model adds the layer's name.
        """
        raise NotImplementedError(f"{type(self).__name__} expects a method forward(x, context)")

    def backward(self, dy: Array, context: Context) -> Array | None:
        """Compute the gradients of the loss. dy: its gradient with respect to the output; do not change it. Returns dx, like x.

        `context.saved` has what `forward` saved. Overwrite the gradient of each parameter, `context.gradient("weight")` and so
        on. Write dx to `context.output(shape)`, and return it. If `context.need_dx` is false, you may return None instead.
        """
        raise NotImplementedError(f"{type(self).__name__} expects a method backward(dy, context)")

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({settings})"


def _sizes(name: str, value: object, least: int) -> tuple[int, int]:
    """An int or a pair of ints, for rows and columns."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in pair):
        raise TypeError(f"{name} expects an int or a pair of ints, got {value!r}")
    if not least <= min(pair) <= max(pair) <= _MOST:
        raise ValueError(f"{name} expects {'positive' if least else 'non-negative'} ints below 2^31, got {value!r}")
    return int(pair[0]), int(pair[1])


def _padding(value: object, kernel_size: _Pair, stride: _Pair) -> _Pair:
    """The zeros on each side of the rows and of the columns. "same": as many as keep the size; "valid": none."""
    if not isinstance(value, str):
        return _sizes("Conv2d: padding", value, 0)
    if value not in ("same", "valid"):
        raise ValueError(f"Conv2d: padding expects an int, a pair of ints, 'same' or 'valid', got {value!r}")
    if value == "valid":
        return 0, 0
    if stride != (1, 1):
        raise ValueError(f"Conv2d: padding 'same' expects stride 1, got {stride}; give the padding as ints")
    if not all(size % 2 for size in kernel_size):
        cure = "give the padding as ints, which is the same on both sides"
        raise ValueError(f"Conv2d: padding 'same' expects odd sizes of kernel_size, got {kernel_size}; {cure}")
    return kernel_size[0] // 2, kernel_size[1] // 2


def _expect_only(layer: str, there_is: str, **options: tuple[object, object]) -> None:
    """Raise ValueError for an option of PyTorch that has a value which is not supported here."""
    for name, (value, only) in options.items():
        if shown(value) not in (repr(only), repr((only, only)), repr([only, only])):
            cure = f"the arguments that can be set are {there_is}"
            raise ValueError(f"{layer}: {name} expects {only!r}, got {shown(value)}; {cure}")


def slide(shape: Shape, channels: int | None, window: _Pair, stride: _Pair, padding: _Pair) -> tuple[int, int]:
    """The output size of a window that slides over images of shape (c, h, w). Raises MisfitError if it does not fit."""
    legend = "c" if channels is None else str(channels)
    if len(shape) != 3 or (shape[0] != channels if channels is not None else False):
        raise MisfitError(f"{legend}, h, w", shape)
    (h, w), (r, s) = shape[1:], window
    if h + 2 * padding[0] < r or w + 2 * padding[1] < s:
        raise MisfitError(f"{legend}, h >= {max(0, r - 2 * padding[0])}, w >= {max(0, s - 2 * padding[1])}", shape)
    return (h + 2 * padding[0] - r) // stride[0] + 1, (w + 2 * padding[1] - s) // stride[1] + 1


class Conv2d(Layer):
    """Cross-correlation, as ops.conv2d_forward. x: (n, in_channels, h, w) -> (n, out_channels, p, q).

    kernel_size, stride: an int, or a pair for rows and columns. padding: the zeros on each side of the image, an int or a pair;
    "same" keeps h and w, and needs stride 1 and odd kernel sizes; "valid" is 0. dilation, groups, padding_mode: as in PyTorch;
    only the defaults are supported. Raises TypeError or ValueError, which names the argument.
    """

    calls_only_ops = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        there_is = "in_channels, out_channels, kernel_size, stride, padding and bias"
        options = {"dilation": (dilation, 1), "groups": (groups, 1), "padding_mode": (padding_mode, "zeros")}
        _expect_only("Conv2d", there_is, **options)
        self.kernel_size: _Pair = _sizes("Conv2d: kernel_size", kernel_size, 1)
        self.stride: _Pair = _sizes("Conv2d: stride", stride, 1)
        self.padding: _Pair = _padding(padding, self.kernel_size, self.stride)
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

    def forward(self, x: Array, context: Context) -> Array:
        bias = context.parameter("bias") if self.bias else None
        y = context.output((len(x), *self.output_shape(x.shape[1:])))
        context.save(x)
        return context.ops.conv2d_forward(x, context.parameter("weight"), bias, stride=self.stride, padding=self.padding, out=y)

    def backward(self, dy: Array, context: Context) -> Array | None:
        (x,) = context.saved
        return context.ops.conv2d_backward(
            dy,
            x,
            context.parameter("weight"),
            stride=self.stride,
            padding=self.padding,
            need_dx=context.need_dx,
            out=gradient_outputs(x, context, self.bias),
        )[0]


def gradient_outputs(x: Array, context: Context, bias: bool) -> tuple[Array | None, Array, Array | None]:
    """The outputs for dx, dweight and dbias; None for a gradient that is not needed."""
    dx = context.output(x.shape) if context.need_dx else None
    return dx, context.gradient("weight"), context.gradient("bias") if bias else None


def _windows(
    layer: str, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None, padding: int | tuple[int, int]
) -> tuple[_Pair, _Pair, _Pair]:
    """The kernel sizes, strides and padding of a pooling layer."""
    sizes, pads = _sizes(f"{layer}: kernel_size", kernel_size, 1), _sizes(f"{layer}: padding", padding, 0)
    strides = sizes if stride is None else _sizes(f"{layer}: stride", stride, 1)
    if any(2 * pad > size for pad, size in zip(pads, sizes, strict=True)):
        raise ValueError(f"{layer}: padding expects at most half of kernel_size {kernel_size!r}, got {padding!r}")
    return sizes, strides, pads


class MaxPool2d(Layer):
    """The maximum of each window, as ops.max_pool2d_forward. x: (n, c, h, w) -> (n, c, p, q).

    kernel_size, stride, padding: an int, or a pair for rows and columns. stride: by default kernel_size. padding: at most half
    of kernel_size. dilation, return_indices, ceil_mode: as in PyTorch; only the defaults are supported. Raises TypeError or
    ValueError, which names the argument.
    """

    calls_only_ops = True

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        options = {"dilation": (dilation, 1), "return_indices": (return_indices, False), "ceil_mode": (ceil_mode, False)}
        _expect_only("MaxPool2d", "kernel_size, stride and padding", **options)
        self.kernel_size, self.stride, self.padding = _windows("MaxPool2d", kernel_size, stride, padding)

    def output_shape(self, shape: Shape) -> Shape:
        sizes = slide(shape, None, self.kernel_size, self.stride, self.padding)
        return (shape[0], *sizes)

    def forward(self, x: Array, context: Context) -> Array:
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y, indices = context.output(shape), context.scratch("indices", shape, np.int32)
        context.save(indices, x.shape)
        return context.ops.max_pool2d_forward(x, self.kernel_size, stride=self.stride, padding=self.padding, out=(y, indices))[
            0
        ]

    def backward(self, dy: Array, context: Context) -> Array | None:
        indices, shape = context.saved
        return context.ops.max_pool2d_backward(dy, indices, shape, out=context.output(shape)) if context.need_dx else None


class AvgPool2d(Layer):
    """The mean of each window, as ops.avg_pool2d_forward; padding counts as zeros. x: (n, c, h, w) -> (n, c, p, q).

    kernel_size, stride, padding: as for MaxPool2d. ceil_mode, count_include_pad, divisor_override: as in PyTorch; only the
    defaults are supported. Raises TypeError or ValueError, which names the argument.
    """

    calls_only_ops = True

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        counting = {"count_include_pad": (count_include_pad, True), "divisor_override": (divisor_override, None)}
        _expect_only("AvgPool2d", "kernel_size, stride and padding", ceil_mode=(ceil_mode, False), **counting)
        self.kernel_size, self.stride, self.padding = _windows("AvgPool2d", kernel_size, stride, padding)

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *slide(shape, None, self.kernel_size, self.stride, self.padding))

    def forward(self, x: Array, context: Context) -> Array:
        y = context.output((len(x), *self.output_shape(x.shape[1:])))
        context.save(x.shape)
        return context.ops.avg_pool2d_forward(x, self.kernel_size, stride=self.stride, padding=self.padding, out=y)

    def backward(self, dy: Array, context: Context) -> Array | None:
        (shape,) = context.saved
        if not context.need_dx:
            return None
        options = {"stride": self.stride, "padding": self.padding}
        return context.ops.avg_pool2d_backward(dy, shape, self.kernel_size, **options, out=context.output(shape))


class Linear(Layer):
    """y = x @ weight.T + bias. x: (n, in_features) -> (n, out_features). weight: (out_features, in_features)."""

    calls_only_ops = True
    packs = ("weight",)

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

    def forward(self, x: Array, context: Context) -> Array:
        y = context.output((len(x), *self.output_shape(x.shape[1:])))
        bias = context.parameter("bias") if self.bias else None
        context.save(x)
        return context.ops.linear_forward(x, context.weight("weight"), bias, out=y)

    def backward(self, dy: Array, context: Context) -> Array | None:
        (x,) = context.saved
        out = gradient_outputs(x, context, self.bias)
        return context.ops.linear_backward(dy, x, context.parameter("weight"), need_dx=context.need_dx, out=out)[0]


class ReLU(Layer):
    """max(x, 0), element-wise. x: any shape."""

    calls_only_ops = True

    def forward(self, x: Array, context: Context) -> Array:
        y = context.ops.relu_forward(x, out=context.output(x.shape))
        context.save(y)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (y,) = context.saved
        return context.ops.relu_backward(dy, y, out=context.output(y.shape)) if context.need_dx else None


class LeakyReLU(Layer):
    """x where x > 0, else slope * x, element-wise. x: any shape. slope: a number of at least 0 that fits float32."""

    calls_only_ops = True

    def __init__(self, slope: float = 0.01) -> None:
        self.slope: float = _SLOPE.convert("LeakyReLU: slope", slope)

    def forward(self, x: Array, context: Context) -> Array:
        y = context.ops.leaky_relu_forward(x, self.slope, out=context.output(x.shape))
        context.save(y)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (y,) = context.saved
        return context.ops.leaky_relu_backward(dy, y, self.slope, out=context.output(y.shape)) if context.need_dx else None


class Sigmoid(Layer):
    """1 / (1 + exp(-x)), element-wise. x: any shape."""

    calls_only_ops = True

    def forward(self, x: Array, context: Context) -> Array:
        y = context.ops.sigmoid_forward(x, out=context.output(x.shape))
        context.save(y)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (y,) = context.saved
        return context.ops.sigmoid_backward(dy, y, out=context.output(y.shape)) if context.need_dx else None


class Tanh(Layer):
    """tanh(x), element-wise. x: any shape."""

    calls_only_ops = True

    def forward(self, x: Array, context: Context) -> Array:
        y = context.ops.tanh_forward(x, out=context.output(x.shape))
        context.save(y)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (y,) = context.saved
        return context.ops.tanh_backward(dy, y, out=context.output(y.shape)) if context.need_dx else None


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
        y, mask = context.ops.dropout_forward(x, self.p, context.seed, context.counter, out=out)
        context.save(mask)
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        (mask,) = context.saved
        return context.ops.dropout_backward(dy, mask, out=context.output(mask.shape)) if context.need_dx else None
