"""Every op in plain NumPy, written to be read, with the names and signatures of `fastlenet.ops`.

Arrays are float32 or float64, images NCHW; an op computes in the dtype of its first argument. `fastlenet.ops` documents shapes,
errors and meaning; this module shows how to compute them. Legend: n batch, c in-channels, k out-channels, h w input, p q
output, r s filter or window; gradients dx, dweight, dbias, dy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet.augment import Transform
from fastlenet.backend import DEAD, Array, Pair, Uncaptured, expect_algorithm
from fastlenet.backend import Packed as PackedWeight
from fastlenet.philox import STREAM_DROPOUT, philox
from fastlenet.reference_call import Call

__all__ = [
    "Graph",
    "Packed",
    "adam_step",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_relu_max_pool2d_backward",
    "conv2d_relu_max_pool2d_forward",
    "dropout_backward",
    "dropout_forward",
    "ema_step",
    "empty",
    "gather_images",
    "inverse_root",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "level",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "name",
    "relu_backward",
    "relu_forward",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "squared_error",
    "tanh_backward",
    "tanh_forward",
]

Gradients = tuple[Array | None, Array, Array]

name = "reference"  # of this backend


def level() -> str:
    """Returns "numpy": its rounding is that of no level of the kernels."""
    return "numpy"


class Graph(Uncaptured[Array]):
    """Calls the function, but cannot be launched."""

    reason = "the reference cannot be captured: it computes with NumPy's functions, whose calls nothing notes"


class Packed(PackedWeight[Array]):
    """Keeps the weight unchanged, since the reference has no other layout."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        call = Call("Packed")
        super().__init__(call.weight(weight), algorithm)


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    return np.empty(shape, dtype)


def _output_size(size: int, window: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - window) // stride + 1


# --- convolution --------------------------------------------------------------------------------------------------------


def _patches(x: Array, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """A view (n, c, p, q, r, s) of the padded images: the pixels under the window at each output position."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    return sliding_window_view(padded, window, axis=(2, 3))[:, :, ::step_h, ::step_w]


def _check_conv(call: Call, x: Array, weight: Array, bias: Array | None, padding: tuple[int, int]) -> None:
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
    x, weight, bias = call.floats(x=x, weight=weight, bias=bias)
    strides, pads = call.pair("stride", stride, 1), call.pair("padding", padding, 0)
    _check_conv(call, x, weight, bias, pads)
    y = _convolution(x, weight, bias, strides, pads)
    return cast(Array, call.returns(y))


def _convolution(x: Array, weight: Array, bias: Array | None, strides: tuple[int, int], pads: tuple[int, int]) -> Array:
    y = np.einsum("ncpqrs,kcrs->nkpq", _patches(x, weight.shape[2:], strides, pads), weight, optimize=True)
    return np.asarray(y if bias is None else y + bias[:, None, None])


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    need_dx: bool = True,
    out: Any = None,
) -> Gradients:
    call = Call("conv2d_backward", out)
    dy, x, weight = call.floats(dy=dy, x=x, weight=weight)
    strides, pads = call.pair("stride", stride, 1), call.pair("padding", padding, 0)
    _check_conv(call, x, weight, None, pads)
    sizes = zip(x.shape[2:], weight.shape[2:], strides, pads, strict=True)
    call.shape("dy", dy, (x.shape[0], weight.shape[0], *(_output_size(*axis) for axis in sizes)))
    return cast(Gradients, call.returns(*_convolution_gradients(dy, x, weight, strides, pads, need_dx)))


def _convolution_gradients(
    dy: Array, x: Array, weight: Array, strides: tuple[int, int], pads: tuple[int, int], need_dx: bool
) -> Gradients:
    (n, _, h, w), (_, _, r, s), (p, q) = x.shape, weight.shape, dy.shape[2:]
    dweight = np.einsum("nkpq,ncpqrs->kcrs", dy, _patches(x, (r, s), strides, pads), optimize=True)
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


# --- pooling ------------------------------------------------------------------------------------------------------------


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


def _winning_position(windows: Array) -> Array:
    """The position of the maximum along the last axis: as numpy.argmax, the first of equals, a NaN before any number."""
    return np.asarray(windows.argmax(axis=-1))


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: Any = None,
) -> tuple[Array, Array]:
    call = Call("max_pool2d_forward", out)
    (x,) = call.floats(x=x)
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
    winner = _winning_position(candidates)
    lost = ~np.take_along_axis(inside, winner[..., None], -1)[..., 0]
    winner = np.where(lost, inside.argmax(axis=-1), winner)
    y = np.take_along_axis(candidates, winner[..., None], -1)[..., 0]
    indices = np.take_along_axis(np.broadcast_to(place, candidates.shape), winner[..., None], -1)[..., 0]
    return cast(tuple[Array, Array], call.returns(y, indices.astype(np.int32)))


def max_pool2d_backward(dy: Array, indices: Array, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    call = Call("max_pool2d_backward", out)
    dims = call.sizes("x_shape", x_shape)
    (dy,), indices = call.floats(dy=dy), call.array("indices", indices, np.int32)
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
    return cast(Array, call.returns(dx.reshape(n, c, h, w)))


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, out: Array | None = None
) -> Array:
    call = Call("avg_pool2d_forward", out)
    (x,) = call.floats(x=x)
    (r, s), strides, pads = _check_pool(call, "x", x.shape, kernel_size, stride, padding)
    return cast(Array, call.returns(_patches(x, (r, s), strides, pads).sum(axis=(4, 5)) / x.dtype.type(r * s)))


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
    (dy,) = call.floats(dy=dy)
    (r, s), strides, pads = _check_pool(call, "x_shape", dims, kernel_size, stride, padding)
    n, c, h, w = dims
    p, q = (_output_size(*axis) for axis in zip((h, w), (r, s), strides, pads, strict=True))
    call.shape("dy", dy, (n, c, p, q))
    padded = np.zeros((n, c, h + 2 * pads[0], w + 2 * pads[1]), dy.dtype)
    for i in range(r):
        for j in range(s):
            padded[:, :, i : i + strides[0] * p : strides[0], j : j + strides[1] * q : strides[1]] += dy
    dx = padded[:, :, pads[0] : pads[0] + h, pads[1] : pads[1] + w] / dy.dtype.type(r * s)
    return cast(Array, call.returns(dx))


# --- convolution + ReLU + max-pooling -----------------------------------------------------------------------------------


def _check_windows(call: Call, conv_shape: tuple[int, ...], kernel_size: tuple[int, int]) -> None:
    if conv_shape[2] < kernel_size[0] or conv_shape[3] < kernel_size[1]:
        raise ValueError(f"{call.op}: kernel_size {kernel_size} exceeds the convolution's output {conv_shape[2:]}")
    if kernel_size[0] * kernel_size[1] > DEAD:
        raise ValueError(f"{call.op}: kernel_size expects at most {DEAD} elements, got {kernel_size}")


def _window_view(x: Array, r: int, s: int) -> Array:
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
    out: Any = None,
) -> tuple[Array, Array]:
    call = Call("conv2d_relu_max_pool2d_forward", out)
    expect_algorithm(call.op, algorithm)  # a matter of speed and rounding
    if isinstance(weight, Packed):
        weight.expect_algorithm(call.op, algorithm)
        weight = weight.weight
    x, filters, bias = call.floats(x=x, weight=weight, bias=bias)
    r, s = call.pair("kernel_size", kernel_size, 1)
    pads = call.pair("padding", padding, 0)
    _check_conv(call, x, filters, bias, pads)
    conv = _convolution(x, filters, bias, (1, 1), pads)
    _check_windows(call, conv.shape, (r, s))
    view = _window_view(conv, r, s)
    windows = view.reshape(*view.shape[:4], r * s)
    winner = _winning_position(windows)
    maximum = np.take_along_axis(windows, winner[..., None], -1)[..., 0]
    dead = maximum <= 0
    y = np.where(dead, maximum.dtype.type(0), maximum)
    return cast(tuple[Array, Array], call.returns(y, np.where(dead, DEAD, winner).astype(np.uint8)))


def conv2d_relu_max_pool2d_backward(
    dy: Array,
    winners: Array,
    x: Array,
    weight: Array,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
    out: Any = None,
) -> Gradients:
    call = Call("conv2d_relu_max_pool2d_backward", out)
    (dy, x, weight), winners = call.floats(dy=dy, x=x, weight=weight), call.array("winners", winners, np.uint8)
    r, s = call.pair("kernel_size", kernel_size, 1)
    pads = call.pair("padding", padding, 0)
    _check_conv(call, x, weight, None, pads)
    conv_sizes = (_output_size(*sizes) for sizes in zip(x.shape[2:], weight.shape[2:], (1, 1), pads, strict=True))
    conv_shape = (x.shape[0], weight.shape[0], *conv_sizes)
    _check_windows(call, conv_shape, (r, s))
    dconv = np.zeros(conv_shape, dy.dtype)
    view = _window_view(dconv, r, s)
    call.shape("dy", dy, view.shape[:4])
    call.shape("winners", winners, view.shape[:4])
    alive = np.nonzero(winners != DEAD)
    position = winners[alive].astype(np.int64)
    if position.size and position.max() >= r * s:
        raise ValueError(f"{call.op}: winners expects values below {r * s} or {DEAD}, got {position.max()}")
    place = (*alive, position // s, position % s)
    view[place] = dy[alive]
    return cast(Gradients, call.returns(*_convolution_gradients(dconv, x, weight, (1, 1), pads, need_dx)))


# --- linear -------------------------------------------------------------------------------------------------------------


def _check_linear(call: Call, x: Array, weight: Array) -> None:
    call.rank("x", x, 2)
    call.rank("weight", weight, 2)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{call.op}: weight expects {weight.shape[1]} input features, x has {x.shape[1]} (x shape {x.shape})")


def linear_forward(
    x: Array, weight: Array | PackedWeight[Array], bias: Array | None = None, *, out: Array | None = None
) -> Array:
    call = Call("linear_forward", out)
    if isinstance(weight, Packed):
        weight = weight.weight
    x, matrix, bias = call.floats(x=x, weight=weight, bias=bias)
    _check_linear(call, x, matrix)
    y = x @ matrix.T
    if bias is not None:
        call.shape("bias", bias, (matrix.shape[0],))
        y = y + bias
    return cast(Array, call.returns(y))


def linear_backward(dy: Array, x: Array, weight: Array, *, need_dx: bool = True, out: Any = None) -> Gradients:
    call = Call("linear_backward", out)
    dy, x, weight = call.floats(dy=dy, x=x, weight=weight)
    _check_linear(call, x, weight)
    call.shape("dy", dy, (x.shape[0], weight.shape[0]))
    return cast(Gradients, call.returns(dy @ weight if need_dx else None, dy.T @ x, dy.sum(axis=0)))


# --- element by element -------------------------------------------------------------------------------------------------


def _map(op: str, function: Callable[[Array], Any], x: Array, out: Array | None) -> Array:
    call = Call(op, out)
    (x,) = call.floats(x=x)
    return cast(Array, call.returns(np.asarray(function(x)), in_place=True))


def _map_gradient(
    op: str, function: Callable[[Array, Array], Any], dy: Array, name: str, other: Array, out: Array | None
) -> Array:
    call = Call(op, out)
    dy, other = call.floats(dy=dy, **{name: other})
    call.shape("dy", dy, other.shape)
    return cast(Array, call.returns(np.asarray(function(dy, other)), in_place=True))


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


def dropout_forward(x: Array, rate: float, seed: int, counter: int, *, out: Any = None) -> tuple[Array, Array]:
    call = Call("dropout_forward", out)
    (x,), rate = call.floats(x=x), call.fraction("rate", rate)
    words = philox(call.word("seed", seed), STREAM_DROPOUT, call.word("counter", counter), x.size).astype(np.uint64)
    kept = (words >= np.uint64(round(rate * 2**32))).reshape(x.shape)
    mask = np.where(kept, 1 / (1 - rate), 0.0).astype(x.dtype)
    return cast(tuple[Array, Array], call.returns(np.asarray(x * mask), mask, in_place=True))


def dropout_backward(dy: Array, mask: Array, *, out: Array | None = None) -> Array:
    return _map_gradient("dropout_backward", lambda dy, mask: dy * mask, dy, "mask", mask, out)


# --- losses -------------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, labels: Any, *, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[float, Array]:
    call = Call("softmax_cross_entropy", out)
    (logits,) = call.floats(logits=logits)
    call.rank("logits", logits, 2)
    n, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{call.op}: logits expects at least one class, got shape {logits.shape}")
    label_smoothing = call.number("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{call.op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    index = call.integers("labels", labels, classes)
    call.shape("labels", index, (n,))
    if n == 0:
        return float("nan"), call.returns(np.empty(logits.shape, logits.dtype))
    target = np.full((n, classes), label_smoothing / classes)
    target[np.arange(n), index] += 1 - label_smoothing
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # the largest exponent is 0
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    log_softmax = shifted - np.log(sums)
    with np.errstate(invalid="ignore"):
        loss = -np.where(target > 0, target * log_softmax, 0).sum() / n
    return float(loss), call.returns(((exponentials / sums - target) / n).astype(logits.dtype))


def squared_error(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    call = Call("squared_error", out)
    prediction, target = call.floats(prediction=prediction, target=target)
    call.shape("target", target, prediction.shape)
    difference = prediction.astype(np.float64) - target
    dprediction = np.asarray(2 * difference).astype(prediction.dtype)
    return float((difference**2).sum()), call.returns(dprediction, in_place=True)


def inverse_root(square: float, *, at_least: float = 0.0) -> float:
    call = Call("inverse_root")
    square, at_least = call.number("square", square), call.number("at_least", at_least)
    for name, value in (("square", square), ("at_least", at_least)):
        if value < 0:
            raise ValueError(f"inverse_root: {name} expects a number of at least 0, got {value}")
    square = max(square, at_least)
    return float(square**-0.5) if square else 0.0


# --- batches ------------------------------------------------------------------------------------------------------------


def _affine_places(transform: Array, h: int, w: int) -> Array:
    """transform[n] @ (row, column, 1) for every pixel: (n, 2, h, w)."""
    grid = np.stack([*np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), np.ones((h, w))])
    return np.asarray(np.einsum("nij,jhw->nihw", transform.astype(np.float64), grid))


def _bilinear(images: Array, places: Array) -> Array:
    """Samples (n, h, w) of the images (n, h, w) at the places (n, 2, h, w), rows and columns; zeros outside and at NaN."""
    n, h, w = images.shape
    row, column = np.moveaxis(places, 1, 0)
    seen = (row > -1) & (row < h) & (column > -1) & (column < w)  # false for NaN
    row, column = np.where(seen, row, 0), np.where(seen, column, 0)
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = row - top, column - left
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    batch = np.arange(n)[:, None, None]

    def at(i: int, j: int) -> Array:
        return framed[batch, top + i + 1, left + j + 1].astype(np.float64)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return np.where(seen, upper * (1 - down) + lower * down, 0)


def _distort(images: Array, index: Array, transform: Transform) -> Array:
    """Raw values (n, h, w), in float64: each image sampled where its transform says, then its hole blackened."""
    h, w = images.shape[1:]
    places = [transform.places(int(number), h, w) for number in index]
    samples = _bilinear(images[index], np.stack(places) if places else np.empty((0, 2, h, w)))
    for sample, number in zip(samples, index, strict=True):
        sample[transform.hole(int(number), h, w)] = 0
    return samples


def gather_images(
    images: Array,
    index: Any,
    *,
    mean: float,
    std: float,
    transform: Array | Transform | None = None,
    out: Array | None = None,
) -> Array:
    call = Call("gather_images", out)
    images = call.array("images", images, np.uint8)
    call.rank("images", images, 3)
    mean, std = call.normalisation(mean, std)
    numbers = call.integers("index", index, len(images))
    call.rank("index", numbers, 1)
    if transform is not None and max(images.shape[1:]) > 32000:
        raise ValueError(f"{call.op}: images expects at most 32000 pixels a side for a transform, got shape {images.shape}")
    if transform is None:
        values = images[numbers]
    elif isinstance(transform, Transform):
        values = _distort(images, numbers, transform)
    else:
        (affine,) = call.floats(transform=transform)
        call.shape("transform", affine, (len(numbers), 2, 3))
        values = _bilinear(images[numbers], _affine_places(affine, *images.shape[1:]))
    return cast(Array, call.returns(((values / 255 - mean) / std).astype(np.float32)[:, None]))


# --- optimizer steps, in place ------------------------------------------------------------------------------------------


def sgd_step(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    call = Call("sgd_step")
    (gradients,) = call.floats(gradients=gradients)
    parameters, velocity = call.state(parameters=parameters, velocity=velocity)
    call.shape("gradients", gradients, parameters.shape)
    lr, momentum, weight_decay = call.numbers(lr=lr, momentum=momentum, weight_decay=weight_decay)
    if velocity is None and momentum != 0:
        raise ValueError("sgd_step: velocity expects an array when momentum is not 0, got None")
    gradient = gradients + weight_decay * parameters
    if velocity is None or momentum == 0:
        parameters -= lr * gradient
        return
    velocity[...] = momentum * velocity + gradient
    parameters -= lr * (gradient + momentum * velocity if nesterov else velocity)


def adam_step(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    call = Call("adam_step")
    (gradients,) = call.floats(gradients=gradients)
    parameters, first_moment, second_moment = call.state(
        parameters=parameters, first_moment=first_moment, second_moment=second_moment
    )
    call.shape("gradients", gradients, parameters.shape)
    step = call.integer("step", step, 1, 2**63 - 1, "a count from 1")
    beta1, beta2 = call.fraction("beta1", beta1), call.fraction("beta2", beta2)
    lr, eps, weight_decay = call.numbers(lr=lr, eps=eps, weight_decay=weight_decay)
    first_moment[...] = beta1 * first_moment + (1 - beta1) * gradients
    second_moment[...] = beta2 * second_moment + (1 - beta2) * gradients**2
    corrected = first_moment / (1 - beta1**step)
    denominator = np.sqrt(second_moment / (1 - beta2**step)) + eps
    parameters[...] = (1 - lr * weight_decay) * parameters - lr * corrected / denominator


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    call = Call("ema_step")
    (parameters,) = call.floats(parameters=parameters)
    (average,) = call.state(average=average)
    call.shape("parameters", parameters, average.shape)
    (decay,) = call.numbers(decay=decay)
    average[...] = decay * average + (1 - decay) * parameters


if TYPE_CHECKING:
    from fastlenet import reference
    from fastlenet.backend import Backend

    _: Backend[Array] = reference
