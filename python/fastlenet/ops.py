"""Every op of the network on the compiled kernels; the same names and signatures as in `fastlenet.reference`.

Arrays are NumPy float32, images NCHW. Inputs may have any strides and alignment (they are copied when not C-contiguous
and aligned); another dtype is a TypeError, a wrong shape a ValueError, and both name the argument. Empty batches work.
`out` is an array, or a tuple in the order of the returned arrays, to be filled and returned instead of new ones.
Arrays that an op writes share no memory with any other of its arguments; where a docstring says "May work in place", `out` may
be an input, all of it. Subclasses are read and written as the plain arrays that they are; a masked array is a TypeError.
Another thread that writes an argument meanwhile changes the result, but nothing else.

Legend: n batch, c in-channels, k out-channels, h w input, p q output, r s filter or window; gradients dx, dweight,
dbias, dy.
Results have the same bits for any number of threads, and for an image whatever batch it comes in.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fastlenet import _core
from fastlenet.augment import Transform
from fastlenet.backend import Array, Pair

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
    "level",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "name",
    "pack_filters",
    "relu_backward",
    "relu_forward",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "squared_error",
]

Gradients = tuple[Array | None, Array, Array]

name = "cpu"  # of this backend

_CACHE_LINE = 64


def level() -> str:
    """The instruction-set level in use, such as "x86-64-v4", on which the last bits of results depend."""
    return _core.level()


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    """An uninitialised C-contiguous array that starts on a cache line (64 bytes)."""
    try:
        dims = tuple(map(operator.index, shape if isinstance(shape, (tuple, list)) else (shape,)))
    except TypeError:
        raise TypeError(f"empty: shape expects an integer or a tuple of integers, got {shape!r}") from None
    if min(dims, default=0) < 0:
        raise ValueError(f"empty: shape expects sizes of at least 0, got {shape!r}")
    size = math.prod(dims) * np.dtype(dtype).itemsize
    memory = np.empty(size + _CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % _CACHE_LINE  # faster than memory.ctypes.data
    return memory[start : start + size].view(dtype).reshape(dims)


def _int64(op: str, argument: str, values: Any) -> Array:
    """An array of any integer dtype as int64; another dtype is refused rather than truncated."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{op}: {argument} expects an array of integers, got a masked array, whose mask would be ignored")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{op}: {argument} expects an array of integers, got rows of different lengths") from None
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{op}: {argument} expects an array of integers, got {array.dtype}")
    return array.astype(np.int64, copy=False)


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    out: Array | None = None,
) -> Array:
    """Cross-correlation, y[n,k,p,q] = bias[k] + sum of x[n,c,p*stride+r,q*stride+s] * weight[k,c,r,s].

    x: (n, c, h, w), counted from -padding; weight: (k, c, r, s); bias: (k,) or None.
    Returns y: (n, k, p, q) with p = (h + 2*padding - r)//stride + 1, and q alike.
    Each output is one chain of multiply-adds over (c, r, s) in order.
    Source: LeCun et al. 1998; lowered to a product as in Chellapilla et al. 2006.
    """
    return _core.conv2d_forward(x, weight, bias, stride, padding, out)


def conv2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients:
    """The gradients of conv2d_forward.

    dy: (n, k, p, q); x and weight as given to the forward pass.
    Returns dx: like x, or None without need_dx; dweight: like weight; dbias: (k,). An infinity or NaN in weight may spread
    over dx, as NaN: it is multiplied by the zeros around and between dy's elements too.
    """
    return cast(Gradients, _core.conv2d_backward(dy, x, weight, stride, padding, need_dx, out))


def max_pool2d_forward(
    x: Array,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """The maximum of each window of kernel_size, one every `stride` (kernel_size, if None).

    x: (n, c, h, w). Padding, at most half a window, never wins.
    Returns y: (n, c, p, q) with p = (h + 2*padding - r)//stride + 1; indices: int32, like y, the place of the maximum
    in its h*w plane. Ties go to the first in row order; the first NaN in the window wins.
    """
    return cast(tuple[Array, Array], _core.max_pool2d_forward(x, kernel_size, stride, padding, out))


def max_pool2d_backward(dy: Array, indices: Array, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    """Each dy added to dx at its index; overlapping windows add up in row order.

    dy: (n, c, p, q); indices: int32, like dy, in 0..h*w-1; x_shape: (n, c, h, w). Returns dx of that shape.
    """
    return _core.max_pool2d_backward(dy, indices, x_shape, out)


def conv2d_relu_max_pool2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    packed: Array | None = None,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """max_pool2d(relu(conv2d(x))) in one pass, with disjoint windows of kernel_size.

    x: (n, c, h, w); weight: (k, c, r, s); bias: (k,) or None. An odd last row or column of the convolution drops.
    Returns y: (n, k, p, q) and winners: uint8, like y: the position of the maximum in its window, row by row, or
    255 where ReLU is dead (maximum <= 0). Ties go to the first; the first NaN in the window wins.
    algorithm: "direct", which gives the same bits as the three ops one after the other; or "winograd", which computes 3x3 and
    5x5 filters with 2x2 windows by fewer multiply-adds where that is faster (other shapes directly). It rounds more: on random
    data y errs by up to 1e-5 of its largest element, directly by up to 1e-6; docs/performance.md has the bound. Values that
    nearly tie may have another winner, and what is not finite may spread, as NaN, to its neighbours in the same image.
    packed: None, or pack_filters(weight, algorithm), which saves a few images the time to do that; the result is the same.
    Source: Lavin & Gray 2016.
    """
    result = _core.conv2d_relu_max_pool2d_forward(x, weight, bias, padding, kernel_size, algorithm, packed, out)
    return cast(tuple[Array, Array], result)


def pack_filters(weight: Array, algorithm: str = "direct") -> Array:
    """weight: (k, c, r, s), in the layout that conv2d_relu_max_pool2d_forward wants of it for a few images, as its `packed`.

    The result belongs to this backend and instruction-set level, and to the values that weight has now. Returns (size,) floats.
    """
    return _core.pack_filters(weight, algorithm)


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
) -> Gradients:
    """The gradients of conv2d_relu_max_pool2d_forward: only the winners have one.

    dy and winners: (n, k, p, q); x and weight as given to the forward pass.
    Returns dx: like x, or None without need_dx; dweight: like weight; dbias: (k,). A loser counts as absent, so that an
    infinity or NaN in its place in x does not spread.
    """
    result = _core.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, padding, kernel_size, need_dx, out)
    return cast(Gradients, result)


def linear_forward(
    x: Array, weight: Array, bias: Array | None = None, *, skip_zeros: bool = False, out: Array | None = None
) -> Array:
    """y = x @ weight.T + bias.

    x: (n, in); weight: (out, in); bias: (out,) or None. Returns y: (n, out). For up to four images it is fastest when the
    weight's memory is transposed (numpy.asfortranarray), the more so with skip_zeros: leave out the products of x's zeros, as
    ReLU makes them, which changes nothing if the weights are finite.
    """
    return _core.linear_forward(x, weight, bias, skip_zeros, out)


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients:
    """The gradients of linear_forward: dx = dy @ weight, dweight = dy.T @ x, dbias = sum of dy over n.

    dy: (n, out); x: (n, in); weight: (out, in). dx is None without need_dx.
    """
    return cast(Gradients, _core.linear_backward(dy, x, weight, need_dx, out))


def relu_forward(x: Array, *, out: Array | None = None) -> Array:
    """y = max(x, 0) of an array of any shape; NaN stays NaN. May work in place (out=x)."""
    return _core.relu_forward(x, out)


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0. dy and y have one shape. May work in place."""
    return _core.relu_backward(dy, y, out)


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)) of an array of any shape, within 1 ulp; never overflows. May work in place."""
    return _core.sigmoid_forward(x, out)


def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """dx = dy * y * (1 - y). dy and y have one shape. May work in place."""
    return _core.sigmoid_backward(dy, y, out)


def dropout_forward(
    x: Array,
    rate: float,
    seed: int,
    counter: int,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """y = x * mask, where mask is 0 with probability `rate`, else 1 / (1 - rate).

    x: any shape; rate in [0, 1); seed and counter: 64-bit integers, the same pair gives the same mask.
    Returns y and mask, like x. May work in place (y, not the mask).
    Source: Srivastava et al. 2014; random bits by Philox4x32-10, Salmon et al. 2011.
    """
    return cast(tuple[Array, Array], _core.dropout_forward(x, rate, seed, counter, out))


def dropout_backward(dy: Array, mask: Array, *, out: Array | None = None) -> Array:
    """dx = dy * mask. dy and mask have one shape. May work in place."""
    return _core.dropout_backward(dy, mask, out)


def softmax_cross_entropy(
    logits: Array, labels: Any, *, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[float, Array]:
    """Mean over n of -sum of target * log softmax(logits), and its gradient.

    logits: (n, classes); labels: (n,) of any integer dtype, in 0..classes-1. The target is 1 - label_smoothing at the
    label plus label_smoothing / classes everywhere. Returns the loss (nan for n = 0) and dlogits: (n, classes).
    """
    values = _int64("softmax_cross_entropy", "labels", labels)
    return cast(tuple[float, Array], _core.softmax_cross_entropy(logits, values, label_smoothing, out))


def squared_error(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """L = sum of (prediction - target)^2 over arrays of one shape, and dprediction = 2 (prediction - target).

    May work in place.
    """
    return cast(tuple[float, Array], _core.squared_error(prediction, target, out))


def inverse_root(square: float) -> float:
    """1 / sqrt(square), 0 of 0: what scales an array to a norm of 1, given the sum of its squares."""
    if square < 0:
        raise ValueError(f"inverse_root: square expects a number of at least 0, got {square}")
    return 1 / math.sqrt(square) if square else 0.0


def gather_images(
    images: Array,
    index: Any,
    *,
    mean: float,
    std: float,
    transform: Array | Transform | None = None,
    out: Array | None = None,
) -> Array:
    """A batch of normalised images, (images[index] / 255 - mean) / std, each rounded once to float32.

    images: uint8 (N, h, w); index: (n,) of any integer dtype, in 0..N-1; (1 + |mean|) / std must fit float32.
    Returns x: (n, 1, h, w).
    transform: None; or float32 (n, 2, 3): output pixel (i, j) is the bilinear sample of the raw image at
    (row, column) = transform[n] @ (i, j, 1), with zeros outside the image; or an `Augmentation(...).at(seed, epoch)`, which
    distorts each image at random, the same way wherever its number stands in `index`. Images have at most 32,000 pixels a side
    then.
    """
    values = _int64("gather_images", "index", index)
    if isinstance(transform, Transform):
        return _core.gather_augmented(images, values, mean, std, out=out, **transform.numbers)
    return _core.gather_images(images, values, mean, std, transform, out)


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
    """One step of stochastic gradient descent, in place, by PyTorch's rule.

    g = gradients + weight_decay * parameters; velocity = momentum * velocity + g;
    parameters -= lr * (g + momentum * velocity if nesterov else velocity).
    All are flat float32 buffers of one size; velocity starts at 0; when momentum is 0
    it is left alone, and may be None.
    Source: Sutskever et al. 2013.
    """
    _core.sgd_step(parameters, gradients, velocity, lr, momentum, nesterov, weight_decay)


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
    """One step of AdamW, in place; `step` counts from 1 and corrects the bias of the moments.

    All are flat float32 buffers of one size; the moments start at 0; beta1 and beta2 lie in [0, 1). Weight decay is decoupled:
    parameters *= 1 - lr * weight_decay first. Source: Loshchilov & Hutter 2019.
    """
    _core.adam_step(parameters, gradients, first_moment, second_moment, step, lr, beta1, beta2, eps, weight_decay)


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    """average = decay * average + (1 - decay) * parameters, in place on flat float32 buffers."""
    _core.ema_step(average, parameters, decay)


if TYPE_CHECKING:
    from fastlenet import ops
    from fastlenet.backend import Backend

    _: Backend[Array] = ops
