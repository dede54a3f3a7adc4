"""Convolution."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet.backend import Array, Gradients, Pair
from fastlenet.reference.checks import Call

__all__ = ["check_conv", "conv2d_backward", "conv2d_forward", "convolution", "convolution_gradients", "output_size", "patches"]


def output_size(size: int, window: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - window) // stride + 1


def patches(x: Array, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """A view (n, c, p, q, r, s) of the padded images: the pixels under the window at each output position."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    return sliding_window_view(padded, window, axis=(2, 3))[:, :, ::step_h, ::step_w]


def check_conv(call: Call, x: Array, weight: Array, bias: Array | None, padding: tuple[int, int]) -> None:
    call.rank("x", x, 4)
    call.filters(weight)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{call.op}: weight expects {weight.shape[1]} input channels, x has {x.shape[1]} (x shape {x.shape})")
    for filter_size, size, pad in zip(weight.shape[2:], x.shape[2:], padding, strict=True):
        if filter_size > size + 2 * pad:
            raise ValueError(f"{call.op}: weight's filter of {weight.shape[2:]} exceeds the padded image (x shape {x.shape})")
    if bias is not None:
        call.shape("bias", bias, (weight.shape[0],))


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    out: Array | None = None,
) -> Array:
    call = Call("conv2d_forward", out)
    x = call.floats("x", x)
    weight = call.floats("weight", weight)
    bias = call.optional("bias", bias)
    strides, pads = call.pair("stride", stride, 1), call.pair("padding", padding, 0)
    check_conv(call, x, weight, bias, pads)
    y = convolution(x, weight, bias, strides, pads)
    return call.returns(y)


def convolution(x: Array, weight: Array, bias: Array | None, strides: tuple[int, int], pads: tuple[int, int]) -> Array:
    y = np.einsum("ncpqrs,kcrs->nkpq", patches(x, weight.shape[2:], strides, pads), weight, optimize=True)
    return np.asarray(y if bias is None else y + bias[:, None, None])


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients[Array]:
    call = Call("conv2d_backward", out)
    dy = call.floats("dy", dy)
    x = call.floats("x", x)
    weight = call.floats("weight", weight)
    strides, pads = call.pair("stride", stride, 1), call.pair("padding", padding, 0)
    check_conv(call, x, weight, None, pads)
    sizes = zip(x.shape[2:], weight.shape[2:], strides, pads, strict=True)
    call.shape("dy", dy, (x.shape[0], weight.shape[0], *(output_size(*axis) for axis in sizes)))
    return call.returns_gradients(*convolution_gradients(dy, x, weight, strides, pads, need_dx))


def convolution_gradients(
    dy: Array, x: Array, weight: Array, strides: tuple[int, int], pads: tuple[int, int], need_dx: bool
) -> Gradients[Array]:
    (n, _, h, w), (_, _, r, s), (p, q) = x.shape, weight.shape, dy.shape[2:]
    dweight = np.einsum("nkpq,ncpqrs->kcrs", dy, patches(x, (r, s), strides, pads), optimize=True)
    dbias = dy.sum(axis=(0, 2, 3))
    dx = None
    if need_dx:
        # Every tap of the filter sends dy back to the pixels that it saw.
        padded = np.zeros((n, x.shape[1], h + 2 * pads[0], w + 2 * pads[1]), x.dtype)
        for i in range(r):
            for j in range(s):
                rows = slice(i, i + strides[0] * p, strides[0])
                columns = slice(j, j + strides[1] * q, strides[1])
                padded[:, :, rows, columns] += np.einsum("nkpq,kc->ncpq", dy, weight[:, :, i, j], optimize=True)
        dx = padded[:, :, pads[0] : pads[0] + h, pads[1] : pads[1] + w]
    return dx, dweight, dbias
