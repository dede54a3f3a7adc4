"""Pooling: the maximum or the mean of each window."""

from __future__ import annotations

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import Layer, Sizes, expect_only, sizes, slide

__all__ = ["AvgPool2d", "MaxPool2d"]


class _Pool2d(Layer):
    """A window that slides over each channel."""

    calls_only_ops = True

    def __init__(
        self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None, padding: int | tuple[int, int]
    ) -> None:
        layer = type(self).__name__
        self.kernel_size: Sizes = sizes(f"{layer}: kernel_size", kernel_size, 1)
        self.stride: Sizes = self.kernel_size if stride is None else sizes(f"{layer}: stride", stride, 1)
        self.padding: Sizes = sizes(f"{layer}: padding", padding, 0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{layer}: padding expects at most half of kernel_size {kernel_size!r}, got {padding!r}")

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *slide(shape, None, self.kernel_size, self.stride, self.padding))


class MaxPool2d(_Pool2d):
    """The maximum of each window, as ops.max_pool2d_forward. x: (n, c, h, w) -> (n, c, p, q).

    kernel_size, stride, padding: an int, or a pair for rows and columns. stride: by default kernel_size. padding: at most half
    of kernel_size. dilation, return_indices, ceil_mode: as in PyTorch; only the defaults are supported. Raises TypeError or
    ValueError, which names the argument.
    """

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
        expect_only("MaxPool2d", "kernel_size, stride and padding", **options)
        super().__init__(kernel_size, stride, padding)

    def forward(self, x: Array, context: Context) -> Array:
        shape = (len(x), *self.output_shape(x.shape[1:]))
        y, indices = context.output(shape), context.scratch("indices", shape, np.int32)
        context.save(indices, x.shape)
        options = {"stride": self.stride, "padding": self.padding}
        context.ops.max_pool2d_forward(x, self.kernel_size, **options, out=(y, indices))
        return y

    def backward(self, dy: Array, context: Context) -> Array | None:
        indices, shape = context.saved
        return context.ops.max_pool2d_backward(dy, indices, shape, out=context.output(shape)) if context.need_dx else None


class AvgPool2d(_Pool2d):
    """The mean of each window, as ops.avg_pool2d_forward; padding counts as zeros. x: (n, c, h, w) -> (n, c, p, q).

    kernel_size, stride, padding: as for MaxPool2d. ceil_mode, count_include_pad, divisor_override: as in PyTorch; only the
    defaults are supported. Raises TypeError or ValueError, which names the argument.
    """

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
        expect_only("AvgPool2d", "kernel_size, stride and padding", ceil_mode=(ceil_mode, False), **counting)
        super().__init__(kernel_size, stride, padding)

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
