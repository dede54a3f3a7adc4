"""Every op in plain NumPy, written to be read: what `fastlenet.ops` computes, with the same names and signatures.

Arrays are float32 or float64, images NCHW; the computation runs in the dtype of the first argument. Shapes, errors and
meaning stand in `fastlenet.ops`; here is how. Legend: n batch, c in-channels, k out-channels, h w input, p q output, r s
filter or window; gradients dx, dweight, dbias, dy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fastlenet.augment import Transform
from fastlenet.philox import STREAM_DROPOUT, philox

__all__ = [
    "adam_step",
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
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "pack_filters",
    "relu_backward",
    "relu_forward",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "squared_error",
]

Array = npt.NDArray[Any]
Pair = int | tuple[int, int]
Gradients = tuple[Array | None, Array, Array]
DEAD = 255


# --- arguments and results ----------------------------------------------------------------------------------------------


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    return np.empty(shape, dtype)


def _floats(op: str, **arrays: Any) -> None:
    for name, array in arrays.items():
        if array is None:
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{op}: {name} expects a numpy array of float32 or float64, got {type(array).__name__}")
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{op}: {name} expects a numpy array of float32 or float64, got {array.dtype}")


def _of_dtype(op: str, name: str, array: Any, dtype: npt.DTypeLike) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{op}: {name} expects a numpy array of {np.dtype(dtype)}, got {got}")


def _rank(op: str, name: str, array: Array, rank: int) -> None:
    if array.ndim != rank:
        raise ValueError(f"{op}: {name} expects {rank} dimensions, got shape {array.shape}")


def _shape(op: str, name: str, array: Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{op}: {name} expects shape {expected}, got {array.shape}")


def _pair(op: str, name: str, value: Pair, least: int) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    if first < least or second < least:
        raise ValueError(f"{op}: {name} expects integers of at least {least}, got {(first, second)}")
    return first, second


def _integers(op: str, name: str, values: Any, limit: int) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{op}: {name} expects an array of integers, got {array.dtype}")
    array = array.astype(np.int64)
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise ValueError(f"{op}: {name} expects values in 0..{limit - 1}, got {array.min()}..{array.max()}")
    return array


def _into(out: Array | None, result: Array) -> Array:
    """The result itself, or copied into the caller's array."""
    if out is None:
        return result
    _shape("reference", "out", out, result.shape)
    out[...] = result
    return out


def _into_each(out: Any, results: tuple[Array | None, ...]) -> tuple[Any, ...]:
    outs = (None,) * len(results) if out is None else out
    return tuple(None if b is None else _into(a, b) for a, b in zip(outs, results, strict=True))


def _output_size(size: int, window: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - window) // stride + 1


# --- convolution --------------------------------------------------------------------------------------------------------


def _patches(x: Array, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """A view (n, c, p, q, r, s) of the padded images: the pixels under the window at each output position."""
    (pad_h, pad_w), (step_h, step_w) = padding, stride
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    return sliding_window_view(padded, window, axis=(2, 3))[:, :, ::step_h, ::step_w]


def _check_conv(op: str, x: Array, weight: Array, bias: Array | None, padding: tuple[int, int]) -> None:
    _floats(op, x=x, weight=weight, bias=bias)
    _rank(op, "x", x, 4)
    _rank(op, "weight", weight, 4)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight expects {weight.shape[1]} input channels, x has {x.shape[1]} (x shape {x.shape})")
    for filter_size, size, pad in zip(weight.shape[2:], x.shape[2:], padding, strict=True):
        if not 1 <= filter_size <= size + 2 * pad:
            raise ValueError(f"{op}: weight's filter of {weight.shape[2:]} exceeds the padded image (x shape {x.shape})")
    if bias is not None:
        _shape(op, "bias", bias, (weight.shape[0],))


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    out: Array | None = None,
) -> Array:
    op = "conv2d_forward"
    strides, pads = _pair(op, "stride", stride, 1), _pair(op, "padding", padding, 0)
    _check_conv(op, x, weight, bias, pads)
    y = np.einsum("ncpqrs,kcrs->nkpq", _patches(x, weight.shape[2:], strides, pads), weight, optimize=True)
    return _into(out, y if bias is None else y + bias[:, None, None])


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
    op = "conv2d_backward"
    strides, pads = _pair(op, "stride", stride, 1), _pair(op, "padding", padding, 0)
    _check_conv(op, x, weight, None, pads)
    _floats(op, dy=dy)
    n, _, h, w = x.shape
    k, _, r, s = weight.shape
    p, q = (_output_size(*sizes) for sizes in zip((h, w), (r, s), strides, pads, strict=True))
    _shape(op, "dy", dy, (n, k, p, q))
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
    results = _into_each(out, (dx, dweight, dbias))
    return results[0], results[1], results[2]


# --- max-pooling --------------------------------------------------------------------------------------------------------


def _winning_position(windows: Array) -> Array:
    """The position of the maximum along the last axis: as numpy.argmax, the first of equals, a NaN before any number."""
    return np.asarray(windows.argmax(axis=-1))


def _pixels(op: str, name: str, shape: Sequence[int]) -> None:
    if min(shape[2:]) < 1:
        raise ValueError(f"{op}: {name} expects planes of at least one pixel, got shape {tuple(shape)}")


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: Any = None,
) -> tuple[Array, Array]:
    op = "max_pool2d_forward"
    _floats(op, x=x)
    _rank(op, "x", x, 4)
    r, s = _pair(op, "kernel_size", kernel_size, 1)
    strides = (r, s) if stride is None else _pair(op, "stride", stride, 1)
    pads = _pair(op, "padding", padding, 0)
    _pixels(op, "x", x.shape)
    if pads[0] > r // 2 or pads[1] > s // 2:
        raise ValueError(f"{op}: padding expects at most half of kernel_size {(r, s)}, got {pads}")
    h, w = x.shape[2:]
    if h + 2 * pads[0] < r or w + 2 * pads[1] < s:
        raise ValueError(f"{op}: kernel_size {(r, s)} exceeds the padded image (x shape {x.shape})")
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
    results = _into_each(out, (y, indices.astype(np.int32)))
    return results[0], results[1]


def max_pool2d_backward(dy: Array, indices: Array, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    op = "max_pool2d_backward"
    _floats(op, dy=dy)
    _pixels(op, "x_shape", x_shape)
    n, c, h, w = x_shape
    _of_dtype(op, "indices", indices, np.int32)
    _shape(op, "indices", indices, dy.shape)
    flat = _integers(op, "indices", indices, h * w).reshape(n * c, dy.shape[2] * dy.shape[3])
    dx = np.zeros((n * c, h * w), dy.dtype)
    np.add.at(dx, (np.arange(n * c)[:, None], flat), dy.reshape(flat.shape))
    return _into(out, dx.reshape(n, c, h, w))


# --- convolution + ReLU + max-pooling -----------------------------------------------------------------------------------


def _fits(op: str, conv_shape: tuple[int, ...], kernel_size: tuple[int, int]) -> None:
    if conv_shape[2] < kernel_size[0] or conv_shape[3] < kernel_size[1]:
        raise ValueError(f"{op}: kernel_size {kernel_size} exceeds the convolution's output {conv_shape[2:]}")


def _algorithm(op: str, algorithm: str) -> None:
    """A matter of speed and rounding, which this backend only checks."""
    if algorithm not in ("direct", "winograd"):
        raise ValueError(f"{op}: algorithm expects 'direct' or 'winograd', got {algorithm!r}")


def _window_view(x: Array, r: int, s: int) -> Array:
    """A view (n, k, p, q, r, s) of the disjoint windows; odd last rows and columns drop."""
    n, k, h, w = x.shape
    p, q = h // r, w // s
    blocks: Array = x[:, :, : p * r, : q * s].reshape(n, k, p, r, q, s)
    windows: Array = blocks.transpose(0, 1, 2, 4, 3, 5)
    return windows


def conv2d_relu_max_pool2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    packed: Array | None = None,
    out: Any = None,
) -> tuple[Array, Array]:
    op = "conv2d_relu_max_pool2d_forward"
    del packed  # a matter of speed
    _algorithm(op, algorithm)
    r, s = _pair(op, "kernel_size", kernel_size, 1)
    if r * s > DEAD:
        raise ValueError(f"{op}: kernel_size expects at most {DEAD} elements, got {(r, s)}")
    _check_conv(op, x, weight, bias, _pair(op, "padding", padding, 0))
    conv = conv2d_forward(x, weight, bias, padding=padding)
    _fits(op, conv.shape, (r, s))
    view = _window_view(conv, r, s)
    windows = view.reshape(*view.shape[:4], r * s)
    winner = _winning_position(windows)
    maximum = np.take_along_axis(windows, winner[..., None], -1)[..., 0]
    dead = maximum <= 0
    results = _into_each(out, (np.where(dead, 0, maximum), np.where(dead, DEAD, winner).astype(np.uint8)))
    return results[0], results[1]


def pack_filters(weight: Array, algorithm: str = "direct") -> Array:
    """The weights as they are."""
    op = "pack_filters"
    _algorithm(op, algorithm)
    _floats(op, weight=weight)
    _rank(op, "weight", weight, 4)
    return weight


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
    op = "conv2d_relu_max_pool2d_backward"
    r, s = _pair(op, "kernel_size", kernel_size, 1)
    pads = _pair(op, "padding", padding, 0)
    _check_conv(op, x, weight, None, pads)
    _floats(op, dy=dy)
    n, _, h, w = x.shape
    conv_sizes = (_output_size(*sizes) for sizes in zip((h, w), weight.shape[2:], (1, 1), pads, strict=True))
    conv_shape = (n, weight.shape[0], *conv_sizes)
    _fits(op, conv_shape, (r, s))
    dconv = np.zeros(conv_shape, dy.dtype)
    view = _window_view(dconv, r, s)
    _shape(op, "dy", dy, view.shape[:4])
    _of_dtype(op, "winners", winners, np.uint8)
    _shape(op, "winners", winners, view.shape[:4])
    alive = np.nonzero(winners != DEAD)
    position = winners[alive].astype(np.int64)
    if position.size and position.max() >= r * s:
        raise ValueError(f"{op}: winners expects values below {r * s} or {DEAD}, got {position.max()}")
    place = (*alive, position // s, position % s)
    view[place] = dy[alive]
    return conv2d_backward(dconv, x, weight, padding=padding, need_dx=need_dx, out=out)


# --- linear -------------------------------------------------------------------------------------------------------------


def _check_linear(op: str, x: Array, weight: Array) -> None:
    _floats(op, x=x, weight=weight)
    _rank(op, "x", x, 2)
    _rank(op, "weight", weight, 2)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight expects {weight.shape[1]} input features, x has {x.shape[1]} (x shape {x.shape})")


def linear_forward(
    x: Array, weight: Array, bias: Array | None = None, *, skip_zeros: bool = False, out: Array | None = None
) -> Array:
    del skip_zeros  # a matter of speed
    op = "linear_forward"
    _check_linear(op, x, weight)
    y = x @ weight.T
    if bias is not None:
        _floats(op, bias=bias)
        _shape(op, "bias", bias, (weight.shape[0],))
        y = y + bias
    return _into(out, y)


def linear_backward(dy: Array, x: Array, weight: Array, *, need_dx: bool = True, out: Any = None) -> Gradients:
    op = "linear_backward"
    _check_linear(op, x, weight)
    _floats(op, dy=dy)
    _shape(op, "dy", dy, (x.shape[0], weight.shape[0]))
    results = _into_each(out, (dy @ weight if need_dx else None, dy.T @ x, dy.sum(axis=0)))
    return results[0], results[1], results[2]


# --- element by element -------------------------------------------------------------------------------------------------


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    _floats("relu_forward", x=x)
    return _into(out, np.where(x <= 0, x.dtype.type(0), x))


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    _floats("relu_backward", dy=dy, y=y)
    _shape("relu_backward", "dy", dy, y.shape)
    return _into(out, np.where(y > 0, dy, dy.dtype.type(0)))


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    _floats("sigmoid_forward", x=x)
    e = np.exp(-np.abs(x.astype(np.float64)))  # in (0, 1]: neither branch can overflow
    return _into(out, (np.where(x >= 0, 1, e) / (1 + e)).astype(x.dtype))


def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    _floats("sigmoid_backward", dy=dy, y=y)
    _shape("sigmoid_backward", "dy", dy, y.shape)
    return _into(out, dy * (y * (1 - y)))


def dropout_forward(x: Array, rate: float, seed: int, counter: int, *, out: Any = None) -> tuple[Array, Array]:
    op = "dropout_forward"
    _floats(op, x=x)
    rate = float(rate)  # a NumPy scalar would keep its precision
    if not 0 <= rate < 1:
        raise ValueError(f"{op}: rate expects a number in [0, 1), got {rate}")
    words = philox(seed, STREAM_DROPOUT, counter, x.size).astype(np.uint64)
    kept = (words >= np.uint64(round(rate * 2**32))).reshape(x.shape)
    mask = np.where(kept, 1 / (1 - rate), 0.0).astype(x.dtype)
    results = _into_each(out, (x * mask, mask))
    return results[0], results[1]


def dropout_backward(dy: Array, mask: Array, *, out: Array | None = None) -> Array:
    _floats("dropout_backward", dy=dy, mask=mask)
    _shape("dropout_backward", "dy", dy, mask.shape)
    return _into(out, dy * mask)


# --- losses -------------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, labels: Any, *, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[float, Array]:
    op = "softmax_cross_entropy"
    _floats(op, logits=logits)
    _rank(op, "logits", logits, 2)
    n, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{op}: logits expects at least one class, got shape {logits.shape}")
    label_smoothing = float(label_smoothing)  # a NumPy scalar would keep its precision
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    index = _integers(op, "labels", labels, classes)
    _shape(op, "labels", index, (n,))
    if n == 0:
        return float("nan"), _into(out, np.empty_like(logits))
    target = np.full((n, classes), label_smoothing / classes)
    target[np.arange(n), index] += 1 - label_smoothing
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)  # the largest exponent is 0
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    log_softmax = shifted - np.log(sums)
    with np.errstate(invalid="ignore"):
        loss = -np.where(target > 0, target * log_softmax, 0).sum() / n
    return float(loss), _into(out, ((exponentials / sums - target) / n).astype(logits.dtype))


def squared_error(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    _floats("squared_error", prediction=prediction, target=target)
    _shape("squared_error", "target", target, prediction.shape)
    difference = prediction.astype(np.float64) - target
    return float((difference**2).sum()), _into(out, (2 * difference).astype(prediction.dtype))


def inverse_root(square: float) -> float:
    if square < 0:
        raise ValueError(f"inverse_root: square expects a number of at least 0, got {square}")
    return float(square) ** -0.5 if square else 0.0


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
    op = "gather_images"
    _of_dtype(op, "images", images, np.uint8)
    _rank(op, "images", images, 3)
    if not np.isfinite(mean):
        raise ValueError(f"{op}: mean expects a finite number, got {mean}")
    if not (np.isfinite(std) and std > 0):
        raise ValueError(f"{op}: std expects a positive number, got {std}")
    numbers = _integers(op, "index", index, len(images))
    _rank(op, "index", numbers, 1)
    if transform is None:
        values = images[numbers]
    elif isinstance(transform, Transform):
        values = _distort(images, numbers, transform)
    else:
        _floats(op, transform=transform)
        _shape(op, "transform", transform, (len(numbers), 2, 3))
        values = _bilinear(images[numbers], _affine_places(transform, *images.shape[1:]))
    return _into(out, ((values / 255 - mean) / std).astype(np.float32)[:, None])


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
    _floats("sgd_step", parameters=parameters, gradients=gradients, velocity=velocity)
    for name, array in (("gradients", gradients), ("velocity", velocity)):
        if array is not None:
            _shape("sgd_step", name, array, parameters.shape)
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
    op = "adam_step"
    _floats(op, parameters=parameters, gradients=gradients, first_moment=first_moment, second_moment=second_moment)
    for name, array in (("gradients", gradients), ("first_moment", first_moment), ("second_moment", second_moment)):
        _shape(op, name, array, parameters.shape)
    if step < 1:
        raise ValueError(f"{op}: step expects a count from 1, got {step}")
    first_moment[...] = beta1 * first_moment + (1 - beta1) * gradients
    second_moment[...] = beta2 * second_moment + (1 - beta2) * gradients**2
    corrected = first_moment / (1 - beta1**step)
    denominator = np.sqrt(second_moment / (1 - beta2**step)) + eps
    parameters[...] = (1 - lr * weight_decay) * parameters - lr * corrected / denominator


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    _floats("ema_step", average=average, parameters=parameters)
    _shape("ema_step", "parameters", parameters, average.shape)
    average[...] = decay * average + (1 - decay) * parameters
