"""The network's ops on the compiled kernels. `fastlenet.reference` has the same names and signatures.

Arrays are NumPy float32, images NCHW. Inputs may have any strides and alignment (they are copied if they are not C-contiguous
and aligned). A wrong dtype raises TypeError, a wrong shape ValueError; both name the op and the argument. Empty batches work.
`out` is an array, or a tuple in the order of the returned arrays. The op fills and returns it instead of new arrays.
An array that an op writes must not share memory with any other argument. Where a docstring says "May work in place", `out` may
be exactly an input. Subclasses of NumPy's arrays are used as plain arrays; a masked array raises TypeError.
If another thread writes an argument during the call, the result changes, but nothing else.

Legend: n batch, c in-channels, k out-channels, h w input, p q output, r s filter or window; gradients dx, dweight,
dbias, dy.
Results have the same bits for any number of threads. An image's results do not depend on the rest of its batch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import numpy.typing as npt

from fastlenet import _core
from fastlenet.augment import Transform
from fastlenet.backend import Array, Pair, as_integers
from fastlenet.backend import Packed as PackedWeight

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
    "muon_step",
    "name",
    "relu_backward",
    "relu_forward",
    "sgd_step",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "softmax_distillation",
    "softmax_squared_error",
    "squared_error",
    "tanh_backward",
    "tanh_forward",
]

Gradients = tuple[Array | None, Array, Array]

name = "cpu"  # of this backend

_CACHE_LINE = 64


def level() -> str:
    """Returns the instruction-set level in use, such as "x86-64-v4". The last bits of results depend on it."""
    return _core.level()


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
    """Returns an uninitialised C-contiguous array that starts on a cache line (64 bytes).

    shape: an int or a tuple of ints, at least 0. Raises TypeError or ValueError for others.
    """
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


class Graph(_core.Graph):
    """A captured sequence of op calls, which `launch` repeats without Python.

    Graph(function, *inputs) calls function(*inputs) and captures the ops that it calls in this thread. `launch()` calls these
    ops again, in the same order and on the same arrays, which may then contain other numbers. It repeats nothing else that the
    function does. `launch(copy_of=x)` first copies x to the only input, and returns a copy of the array that the function
    returned. This is one call, so no signal handler runs in between. The graph keeps its arrays alive, including those that ops
    made.

        y = ops.empty(x.shape)
        graph = ops.Graph(lambda x: ops.relu_forward(x, out=y), x)
        x[...] = other
        graph.launch()                      # y = relu(other)
        z = graph.launch(copy_of=another)   # z = relu(another), and so are x and y now

    Of the numbers that change from step to step, a launch reads those again that are a `Rate` or a `Count` (fastlenet.backend):
    the optimizers' lr and step, a gather's epoch, dropout's counter. A captured loss returns an array of shape (), which each
    launch renews; `Graph.stop_unless_finite(loss)` lets a launch end there if it is not finite. All other numbers are those of
    the capture.
    The launch of another graph is captured too.

    Some work cannot be captured and voids the graph: an op that takes or returns Python numbers which would change from launch
    to launch (optimizer steps, distortions and dropout without a `Rate` or `Count`, squared_error, packing); an op that fails,
    or that copies an input because it is not dense; an input that is no dense array; and a call of `Graph.void(reason)`. The
    function has then done its work all the same, `reason` is one line that names the cause (otherwise None), and `launch`
    raises RuntimeError. If the function raises an exception, Graph raises it too.

    Computations of the function without ops are not captured. Ops that signal handlers or finalisers call meanwhile are
    captured too; compare `calls`, the number of all captured calls. `reads(x)` returns whether x is the input. If two threads
    launch one graph at once, one gets RuntimeError.

    `time()` measures the ops of each launch from now on: it returns an array of float64, (n, 3), for the n ops captured, to
    which a launch adds 1, their seconds, and how often the threads waited for one another. `Graph.recorded()` is the number of
    ops that this thread has captured so far; 0 outside a capture.
    """

    captures_one_thread: ClassVar[bool] = True
    captures_steps: ClassVar[bool] = False


class Packed(PackedWeight[Array]):
    """A weight in the layout that is fastest for a few images. Ops take it in place of the weight.

    weight: float32, (out, in) for linear_forward, or (k, c, r, s) for conv2d_relu_max_pool2d_forward with the same algorithm.
    The array is kept, not copied; pack it again after a change. The results have the same bits as with the weight itself.
    Filters that were packed at another instruction-set level are packed again in each call.

    If a matrix is finite, linear_forward leaves out its products with zeros of x, which ReLU makes.
    """

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        super().__init__(weight, algorithm)
        matrix = np.ndim(weight) == 2
        self.layout: Array = _core.pack_matrix(weight) if matrix else _core.pack_filters(weight, algorithm)
        self.finite = bool(np.isfinite(self.layout).all())


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
    Returns dx: like x, or None without need_dx; dweight: like weight; dbias: (k,). An infinity or NaN in weight may make more
    of dx NaN than the formula does, because it is also multiplied by zeros around and between dy's elements.
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
    """The maximum of each window of kernel_size; the windows are `stride` apart (by default kernel_size).

    x: (n, c, h, w). padding: at most half a window; it never wins.
    Returns y: (n, c, p, q) with p = (h + 2*padding - r)//stride + 1; indices: int32, like y, the position of the maximum
    in its h*w plane. Ties go to the first in row order; the first NaN in the window wins.
    """
    return cast(tuple[Array, Array], _core.max_pool2d_forward(x, kernel_size, stride, padding, out))


def max_pool2d_backward(dy: Array, indices: Array, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    """Adds each dy to dx at its index. Where windows overlap, it adds in row order.

    dy: (n, c, p, q); indices: int32, like dy, in 0..h*w-1; x_shape: (n, c, h, w). Returns dx of that shape.
    """
    return _core.max_pool2d_backward(dy, indices, x_shape, out)


def avg_pool2d_forward(
    x: Array, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, out: Array | None = None
) -> Array:
    """The mean of each window of kernel_size; the windows are `stride` apart (by default kernel_size).

    x: (n, c, h, w). padding: at most half a window. It counts as zeros: every mean is the sum of its window divided by r*s,
    also at the border (PyTorch's count_include_pad=True). Each sum runs in row order. An infinity or NaN reaches the windows
    that hold it.
    Returns y: (n, c, p, q) with p = (h + 2*padding - r)//stride + 1, and q alike.
    Source: LeCun et al. 1998 (subsampling).
    """
    return _core.avg_pool2d_forward(x, kernel_size, stride, padding, out)


def avg_pool2d_backward(
    dy: Array,
    x_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of avg_pool2d_forward: the sum of dy over the windows that hold a pixel, in row order, divided by r*s.

    dy: (n, c, p, q); x_shape: (n, c, h, w); the others as given to the forward pass. Returns dx of that shape.
    """
    return _core.avg_pool2d_backward(dy, x_shape, kernel_size, stride, padding, out)


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
    """max_pool2d(relu(conv2d(x))) in one pass, with disjoint windows of kernel_size.

    x: (n, c, h, w); weight: (k, c, r, s), or its Packed; bias: (k,) or None. Rows and columns that do not fill a last window
    are left out.
    Returns y: (n, k, p, q) and winners: uint8, like y: the position of the maximum in its window, row by row, or
    255 where ReLU is dead (maximum <= 0). Ties go to the first; the first NaN in the window wins.
    algorithm: "direct" gives the same bits as the three ops one after the other. "winograd" computes 3x3 and 5x5 filters with
    2x2 windows with fewer multiply-adds where that is faster, and other shapes directly. It rounds more: on random data the
    error of y is up to 1e-5 of its largest element for 5x5 filters and 3e-6 for 3x3, instead of 1e-6; docs/performance.md has
    the bound. Values that nearly tie may have another winner, and an infinity or NaN may turn its neighbours in the same image
    into NaN.
    Source: Lavin & Gray 2016.
    """
    packed = None
    if isinstance(weight, Packed):
        weight.expect_algorithm("conv2d_relu_max_pool2d_forward", algorithm)
        packed, weight = weight.layout, weight.weight
    result = _core.conv2d_relu_max_pool2d_forward(x, weight, bias, padding, kernel_size, algorithm, packed, out)
    return cast(tuple[Array, Array], result)


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
    """The gradients of conv2d_relu_max_pool2d_forward. Only winners contribute to them.

    dy and winners: (n, k, p, q); x and weight as given to the forward pass.
    Returns dx: like x, or None without need_dx; dweight: like weight; dbias: (k,). A position that did not win is left out, not
    multiplied by zero: an infinity or NaN there does not reach the gradients.
    """
    result = _core.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, padding, kernel_size, need_dx, out)
    return cast(Gradients, result)


def linear_forward(
    x: Array, weight: Array | PackedWeight[Array], bias: Array | None = None, *, out: Array | None = None
) -> Array:
    """y = x @ weight.T + bias.

    x: (n, in); weight: (out, in), or its Packed, which is fastest for up to four images; bias: (out,) or None. Returns
    y: (n, out).
    """
    packed, skip_zeros = None, False
    if isinstance(weight, Packed):
        packed, skip_zeros, weight = weight.layout, weight.finite, weight.weight
    return _core.linear_forward(x, weight, bias, packed, skip_zeros, out)


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
    """y = max(x, 0) for an array of any shape; NaN stays NaN. May work in place (out=x)."""
    return _core.relu_forward(x, out)


def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0. dy and y have the same shape. May work in place."""
    return _core.relu_backward(dy, y, out)


def leaky_relu_forward(x: Array, slope: float = 0.01, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else slope * x, for an array of any shape; NaN stays NaN. May work in place (out=x).

    slope: at least 0, so that y tells the sign of x; it is rounded to float32, and must fit. Source: Maas et al. 2013.
    """
    return _core.leaky_relu_forward(x, slope, out)


def leaky_relu_backward(dy: Array, y: Array, slope: float = 0.01, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else slope * dy. dy and y have the same shape; slope as in the forward pass. May work in place."""
    return _core.leaky_relu_backward(dy, y, slope, out)


def sigmoid_forward(x: Array, *, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)) for an array of any shape, within 1 ulp; never overflows. May work in place."""
    return _core.sigmoid_forward(x, out)


def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """dx = dy * y * (1 - y). dy and y have the same shape. May work in place."""
    return _core.sigmoid_backward(dy, y, out)


def tanh_forward(x: Array, *, out: Array | None = None) -> Array:
    """y = tanh(x) for an array of any shape, within 1 ulp. May work in place.

    y is 1 or -1 for an infinity, and keeps -0 and NaN.
    """
    return _core.tanh_forward(x, out)


def tanh_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """dx = dy * (1 - y) * (1 + y), which is dy * (1 - y^2). dy and y have the same shape. May work in place."""
    return _core.tanh_backward(dy, y, out)


def dropout_forward(
    x: Array,
    rate: float,
    seed: int,
    counter: int,
    *,
    offset: int = 0,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """y = x * mask, where mask is 0 with probability `rate`, else 1 / (1 - rate).

    x: any shape; rate in [0, 1); seed and counter: 64-bit integers, the same pair gives the same mask. offset: the number of
    elements before x in a larger array, of whose mask x gets its part.
    Returns y and mask, like x. May work in place (y, not the mask).
    Source: Srivastava et al. 2014; random bits by Philox4x32-10, Salmon et al. 2011.
    """
    return cast(tuple[Array, Array], _core.dropout_forward(x, rate, seed, counter, offset, out))


def dropout_backward(dy: Array, mask: Array, *, out: Array | None = None) -> Array:
    """dx = dy * mask. dy and mask have the same shape. May work in place."""
    return _core.dropout_backward(dy, mask, out)


def softmax_cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean over n of weights * -sum of target * log softmax(logits), and its gradient.

    logits: (n, classes); labels: (n,) of any integer dtype, in 0..classes-1; weights: (n,), or None for ones. The target is
    1 - label_smoothing at the label plus label_smoothing / classes everywhere. The sum over n is divided by n, whatever the
    weights are; or by batch_size, if the rows are a part of a larger batch. Returns the loss (nan for n = 0 without batch_size)
    and dlogits: (n, classes).
    """
    values = as_integers("softmax_cross_entropy", "labels", labels)
    return cast(tuple[float, Array], _core.softmax_cross_entropy(logits, values, label_smoothing, weights, batch_size, out))


def softmax_squared_error(
    logits: Array,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean over n of weights * mean over the classes of (softmax(logits) - target)^2, and its gradient.

    The arguments, the target and the results are those of softmax_cross_entropy. Source: Brier 1950.
    """
    values = as_integers("softmax_squared_error", "labels", labels)
    return cast(tuple[float, Array], _core.softmax_squared_error(logits, values, label_smoothing, weights, batch_size, out))


def softmax_distillation(
    logits: Array,
    labels: npt.ArrayLike,
    teacher: Array,
    *,
    mix: float,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    weights: Array | None = None,
    batch_size: int | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean over n of weights * ((1 - mix) * c + mix * temperature^2 * t), and its gradient: distillation.

    c is the loss of softmax_cross_entropy, t is -sum of teacher * log softmax(logits / temperature). teacher: (n, classes),
    probabilities, softmax(its logits / temperature); mix: in [0, 1]; temperature: in [0.001, 1000]. The other arguments and the
    results are those of softmax_cross_entropy. Source: Hinton, Vinyals and Dean 2015.
    """
    values = as_integers("softmax_distillation", "labels", labels)
    found = _core.softmax_distillation(logits, values, teacher, mix, temperature, label_smoothing, weights, batch_size, out)
    return cast(tuple[float, Array], found)


def squared_error(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """L = sum of (prediction - target)^2 and its gradient, dprediction = 2 (prediction - target).

    prediction and target have the same shape, any. Returns L and dprediction, like prediction. May work in place.
    """
    return cast(tuple[float, Array], _core.squared_error(prediction, target, out))


def inverse_root(square: float, *, at_least: float = 0.0) -> float:
    """Returns 1 / sqrt(max(square, at_least)), or 0 if that is 0.

    It scales an array whose sum of squares is `square` to norm 1. With at_least = m^2, m times the result scales the array to a
    norm of at most m. Raises ValueError for a negative number.
    """
    for name, value in (("square", square), ("at_least", at_least)):
        if value < 0:
            raise ValueError(f"inverse_root: {name} expects a number of at least 0, got {value}")
    square = max(square, at_least)  # NaN stays
    _core.Graph.void("inverse_root cannot be captured: it takes and returns a number that no launch would renew")
    return 1 / math.sqrt(square) if square else 0.0


def gather_images(
    images: Array,
    index: npt.ArrayLike,
    *,
    mean: float | Sequence[float] | Array,
    std: float | Sequence[float] | Array,
    transform: Array | Transform | None = None,
    out: Array | None = None,
) -> Array:
    """A batch of normalised images, (images[index] / 255 - mean) / std, each pixel rounded once to float32.

    images: uint8 (N, h, w), or (N, c, h, w) of c channels; or float32 of these shapes, whose pixels are taken as they are,
    without the division by 255. index: (n,) of any integer dtype, in 0..N-1. mean, std: numbers, or of images with an axis of
    channels a tuple, list or array of c numbers; (1 + |mean|) / std must fit float32. Returns x: (n, c, h, w), c = 1 without
    that axis. The channels of an image are all moved alike.
    transform: None; or float32 (n, 2, 3): output pixel (i, j) is the bilinear sample of the raw image at
    (row, column) = transform[n] @ (i, j, 1), with zeros outside the image; or an `Augmentation(...).at(seed, epoch)`, which
    distorts each image at random. The distortion depends on the image's number, not on its position in `index`. Its views, if
    any, are float32 (N, 2, 3), a map for each of the images, and the displaced place in the preprocessed image (row, column) is
    sampled at views[number] @ (row, column, 1). With a transform, images have at most 32,000 pixels a side.
    """
    values = as_integers("gather_images", "index", index)
    if values is not index:
        _core.Graph.void("gather_images cannot be captured: index was converted, and would not change")
    if isinstance(transform, Transform):
        return _core.gather_augmented(images, values, mean, std, out=out, views=transform.views, **transform.numbers)
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
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    """One step of stochastic gradient descent, in place, by PyTorch's rule.

    g = gradients + weight_decay * parameters; velocity = momentum * velocity + g;
    parameters -= lr * (g + momentum * velocity if nesterov else velocity).
    All are flat float32 buffers of the same size. velocity starts at 0; if momentum is 0 it is not used, and may be None.
    average: None, or a buffer that becomes decay * average + (1 - decay) * parameters in the same pass, as by ema_step.
    Source: Sutskever et al. 2013.
    """
    _core.sgd_step(parameters, gradients, velocity, lr, momentum, nesterov, weight_decay, average, decay)


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
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    """One step of AdamW, in place. `step` counts from 1 and corrects the bias of the moments.

    All are flat float32 buffers of the same size. The moments start at 0; beta1 and beta2 lie in [0, 1). Weight decay is
    decoupled: first parameters *= 1 - lr * weight_decay. average, decay: as of sgd_step. Source: Loshchilov & Hutter 2019.
    """
    _core.adam_step(
        parameters, gradients, first_moment, second_moment, step, lr, beta1, beta2, eps, weight_decay, average, decay
    )


def muon_step(
    parameters: Array,
    gradients: Array,
    velocity: Array | None,
    *,
    matrices: Sequence[tuple[int, int, int]],
    lr: float,
    matrix_lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    average: Array | None = None,
    decay: float = 0.0,
) -> None:
    """One step of Muon, in place: orthogonal steps for some matrices, the step of sgd_step for all other parameters.

    matrices: (begin, rows, columns) of each, in the flat buffers; ascending, without overlap. X, the momentum of a matrix
    (g + momentum * velocity if nesterov else velocity, with g = gradients), is divided by its Frobenius norm. Five rounds of
    X = a*X + (b*G + c*G*G) X, with G = X X^T and (a, b, c) = (3.4445, -4.7750, 2.0315), bring its singular values near 1. Then
    matrix -= matrix_lr * sqrt(max(1, rows / columns)) * (X + weight_decay * matrix). A matrix of zeros stays zeros.
    The rounds are done in double precision on G of the smaller side, X X^T or X^T X, and multiply X once, in float32.
    Other arguments: as of sgd_step. Raises TypeError or ValueError for matrices that overlap or leave the buffer.
    Source: Jordan et al. 2024.
    """
    _core.muon_step(parameters, gradients, velocity, matrices, lr, matrix_lr, momentum, nesterov, weight_decay, average, decay)


def ema_step(average: Array, parameters: Array, *, decay: float) -> None:
    """average = decay * average + (1 - decay) * parameters, in place on flat float32 buffers of the same size."""
    _core.ema_step(average, parameters, decay)


if TYPE_CHECKING:
    from fastlenet import ops
    from fastlenet.backend import Backend

    _: Backend[Array] = ops
