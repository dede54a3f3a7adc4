"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet.backend import Array, Pair
from fastlenet.reference.checks import Call
from fastlenet.reference.conv import output_size, patches

__all__ = ["avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward", "winning_position"]


def _check_pool(
    call: Call, name: str, x_shape: tuple[int, ...], kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """The windows of an op, their strides and their padding."""
    if len(x_shape) != 4:
        raise ValueError(f"{call.op}: {name} expects 4 dimensions, got shape {x_shape}")
    window = r, s = call.pair("kernel_size", kernel_size, 1)
    strides = window if stride is None else call.pair("stride", stride, 1)
    pads = call.pair("padding", padding, 0)
    call.pixels(name, x_shape)
    if pads[0] > r // 2 or pads[1] > s // 2:
        raise ValueError(f"{call.op}: padding expects at most half of kernel_size {window}, got {pads}")
    if x_shape[2] + 2 * pads[0] < r or x_shape[3] + 2 * pads[1] < s:
        raise ValueError(f"{call.op}: kernel_size {window} exceeds the padded image (x shape {x_shape})")
    return window, strides, pads


def winning_position(windows: Array) -> Array:
    """The position of the maximum along the last axis: as numpy.argmax, the first of equals, a NaN before any number."""
    return np.asarray(windows.argmax(axis=-1))


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    call = Call("max_pool2d_forward", out)
    x = call.floats("x", x)
    (r, s), strides, pads = _check_pool(call, "x", x.shape, kernel_size, stride, padding)
    h, w = x.shape[2:]
    # -inf outside the image; where even the image is -inf, the first position inside it must win.
    padding_widths = ((0, 0), (0, 0), (pads[0], pads[0]), (pads[1], pads[1]))
    values = np.pad(x, padding_widths, constant_values=-np.inf)
    places = np.pad(np.arange(h * w).reshape(1, 1, h, w), padding_widths, constant_values=-1)

    def windows(array: Array) -> Array:
        view = sliding_window_view(array, (r, s), axis=(2, 3))[:, :, :: strides[0], :: strides[1]]
        return view.reshape(*view.shape[:4], r * s)

    place = windows(places)
    candidates = windows(values)
    inside = np.broadcast_to(place >= 0, candidates.shape)
    winner = winning_position(candidates)
    lost = ~np.take_along_axis(inside, winner[..., None], -1)[..., 0]
    winner = np.where(lost, inside.argmax(axis=-1), winner)
    y = np.take_along_axis(candidates, winner[..., None], -1)[..., 0]
    indices = np.take_along_axis(np.broadcast_to(place, candidates.shape), winner[..., None], -1)[..., 0]
    return call.returns_two(y, indices.astype(np.int32))


def max_pool2d_backward(dy: Array, indices: Array, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    call = Call("max_pool2d_backward", out)
    dims = call.sizes("x_shape", x_shape)
    dy, indices = call.floats("dy", dy), call.array("indices", indices, np.int32)
    if len(dims) != 4:
        raise ValueError(f"{call.op}: x_shape expects 4 dimensions (n, c, h, w), got shape {dims}")
    n, c, h, w = dims
    call.rank("dy", dy, 4)
    call.shape("dy", dy, (n, c, *dy.shape[2:]))
    call.pixels("x_shape", dims)
    call.shape("indices", indices, dy.shape)
    flat = call.below("indices", indices, h * w).reshape(n * c, dy.shape[2] * dy.shape[3])
    dx = np.zeros((n * c, h * w), dy.dtype)
    np.add.at(dx, (np.arange(n * c)[:, None], flat), dy.reshape(flat.shape))
    return call.returns(dx.reshape(n, c, h, w))


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, out: Array | None = None
) -> Array:
    call = Call("avg_pool2d_forward", out)
    x = call.floats("x", x)
    (r, s), strides, pads = _check_pool(call, "x", x.shape, kernel_size, stride, padding)
    return call.returns(patches(x, (r, s), strides, pads).sum(axis=(4, 5)) / x.dtype.type(r * s))


def avg_pool2d_backward(
    dy: Array,
    x_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: Array | None = None,
) -> Array:
    call = Call("avg_pool2d_backward", out)
    dims = call.sizes("x_shape", x_shape)
    dy = call.floats("dy", dy)
    (r, s), strides, pads = _check_pool(call, "x_shape", dims, kernel_size, stride, padding)
    n, c, h, w = dims
    p, q = (output_size(*axis) for axis in zip((h, w), (r, s), strides, pads, strict=True))
    call.shape("dy", dy, (n, c, p, q))
    padded = np.zeros((n, c, h + 2 * pads[0], w + 2 * pads[1]), dy.dtype)
    for i in range(r):
        for j in range(s):
            padded[:, :, i : i + strides[0] * p : strides[0], j : j + strides[1] * q : strides[1]] += dy
    dx = padded[:, :, pads[0] : pads[0] + h, pads[1] : pads[1] + w] / dy.dtype.type(r * s)
    return call.returns(dx)
