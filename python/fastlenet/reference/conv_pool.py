"""Convolution, ReLU and max-pooling in one op."""

from __future__ import annotations

import numpy as np

from fastlenet.backend import DEAD, Array, Gradients, Pair, expect_algorithm
from fastlenet.backend import Packed as PackedWeight
from fastlenet.reference.checks import Call
from fastlenet.reference.conv import check_conv, convolution, convolution_gradients, output_size
from fastlenet.reference.packed import Packed
from fastlenet.reference.pool import winning_position

__all__ = ["conv2d_relu_max_pool2d_backward", "conv2d_relu_max_pool2d_forward", "window_view"]


def _check_windows(call: Call, conv_shape: tuple[int, ...], kernel_size: tuple[int, int]) -> None:
    if conv_shape[2] < kernel_size[0] or conv_shape[3] < kernel_size[1]:
        raise ValueError(f"{call.op}: kernel_size {kernel_size} exceeds the convolution's output {conv_shape[2:]}")
    if kernel_size[0] * kernel_size[1] > DEAD:
        raise ValueError(f"{call.op}: kernel_size expects at most {DEAD} elements, got {kernel_size}")


def window_view(x: Array, r: int, s: int) -> Array:
    """A view (n, k, p, q, r, s) of the disjoint windows; odd last rows and columns drop."""
    n, k, h, w = x.shape
    p, q = h // r, w // s
    blocks: Array = x[:, :, : p * r, : q * s].reshape(n, k, p, r, q, s)
    windows: Array = blocks.transpose(0, 1, 2, 4, 3, 5)
    return windows


def conv2d_relu_max_pool2d_forward(
    x: Array,
    weight: Array | PackedWeight[Array],
    bias: Array | None = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    call = Call("conv2d_relu_max_pool2d_forward", out)
    expect_algorithm(call.op, algorithm)  # a matter of speed and rounding
    if isinstance(weight, Packed):
        weight.expect_algorithm(call.op, algorithm)
        weight = weight.weight
    x = call.floats("x", x)
    filters = call.floats("weight", weight)
    bias = call.optional("bias", bias)
    r, s = call.pair("kernel_size", kernel_size, 1)
    pads = call.pair("padding", padding, 0)
    check_conv(call, x, filters, bias, pads)
    conv = convolution(x, filters, bias, (1, 1), pads)
    _check_windows(call, conv.shape, (r, s))
    view = window_view(conv, r, s)
    windows = view.reshape(*view.shape[:4], r * s)
    winner = winning_position(windows)
    maximum = np.take_along_axis(windows, winner[..., None], -1)[..., 0]
    dead = maximum <= 0
    y = np.where(dead, maximum.dtype.type(0), maximum)
    return call.returns_two(y, np.where(dead, DEAD, winner).astype(np.uint8))


def conv2d_relu_max_pool2d_backward(
    dy: Array,
    winners: Array,
    x: Array,
    weight: Array,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients[Array]:
    call = Call("conv2d_relu_max_pool2d_backward", out)
    dy, x, weight = call.floats("dy", dy), call.floats("x", x), call.floats("weight", weight)
    winners = call.array("winners", winners, np.uint8)
    r, s = call.pair("kernel_size", kernel_size, 1)
    pads = call.pair("padding", padding, 0)
    check_conv(call, x, weight, None, pads)
    conv_sizes = (output_size(*sizes) for sizes in zip(x.shape[2:], weight.shape[2:], (1, 1), pads, strict=True))
    conv_shape = (x.shape[0], weight.shape[0], *conv_sizes)
    _check_windows(call, conv_shape, (r, s))
    dconv = np.zeros(conv_shape, dy.dtype)
    view = window_view(dconv, r, s)
    call.shape("dy", dy, view.shape[:4])
    call.shape("winners", winners, view.shape[:4])
    alive = np.nonzero(winners != DEAD)
    position = winners[alive].astype(np.int64)
    if position.size and position.max() >= r * s:
        raise ValueError(f"{call.op}: winners expects values below {r * s} or {DEAD}, got {position.max()}")
    place = (*alive, position // s, position % s)
    view[place] = dy[alive]
    return call.returns_gradients(*convolution_gradients(dconv, x, weight, (1, 1), pads, need_dx))
