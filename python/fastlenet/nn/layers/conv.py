"""Convolution."""

from __future__ import annotations

import math

from fastlenet.backend import Array, Shape
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import FLAG, SIZE, Layer, Sizes, expect_only, gradient_outputs, sizes, slide

__all__ = ["Conv2d"]


def _padding(value: object, kernel_size: Sizes, stride: Sizes) -> Sizes:
    """The zeros on each side of the rows and of the columns. "same": as many as keep the size; "valid": none."""
    if not isinstance(value, str):
        return sizes("Conv2d: padding", value, 0)
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
        expect_only("Conv2d", there_is, **options)
        self.kernel_size: Sizes = sizes("Conv2d: kernel_size", kernel_size, 1)
        self.stride: Sizes = sizes("Conv2d: stride", stride, 1)
        self.padding: Sizes = _padding(padding, self.kernel_size, self.stride)
        self.in_channels: int = SIZE.convert("Conv2d: in_channels", in_channels)
        self.out_channels: int = SIZE.convert("Conv2d: out_channels", out_channels)
        self.bias: bool = FLAG.convert("Conv2d: bias", bias)

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
