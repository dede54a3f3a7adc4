"""Every op of the network on a GPU; names, signatures, shapes, ties and errors as in `fastlenet.ops`, which documents them.

Inputs are DeviceArrays, or what another library has in the same device's memory; a NumPy array is copied there in each call.
`out` and the results are DeviceArrays, the loss one float64 of them. A call returns before its work is done. Labels, indices
and winners given as NumPy arrays are checked at once; those on the device are checked there, a wrong one counts as absent,
and the next reading of a result raises the ValueError.

The same call gives the same bits, run after run: nothing is added in an order that could change.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.augment import Transform
from fastlenet.cuda.array import DeviceArray, device, empty, from_numpy, wrap
from fastlenet.cuda.scalars import Count, Rate, count_argument, rate_argument
from fastlenet.ops import Pair, _int64, _pair

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

Gradients = tuple[DeviceArray | None, DeviceArray, DeviceArray]


# --- arguments and results -------------------------------------------------------------------------------------------------


def _input(op: str, argument: str, value: Any, dtype: npt.DTypeLike = np.float32) -> DeviceArray:
    expected = f"{op}: {argument} expects a device or numpy array of {np.dtype(dtype)}, got "
    array = wrap(value)
    if array is None and not isinstance(value, np.ndarray):
        raise TypeError(expected + type(value).__name__)
    if (array if array is not None else value).dtype != np.dtype(dtype):
        raise TypeError(f"{expected}{(array if array is not None else value).dtype}")
    return from_numpy(value) if array is None else array


def _optional(op: str, argument: str, value: Any) -> DeviceArray | None:
    return None if value is None else _input(op, argument, value)


def _integers(op: str, argument: str, values: Any, limit: int) -> DeviceArray:
    """Class labels or numbers of images, as int64 on the device; from the host in any integer dtype, checked."""
    array = wrap(values)
    if array is not None:
        return _input(op, argument, array, np.int64)
    host = _int64(op, argument, values)
    wrong = np.flatnonzero((host < 0) | (host >= limit))
    if wrong.size:
        raise ValueError(
            f"{op}: {argument} expects values in 0..{limit - 1}, got {host.reshape(-1)[wrong[0]]} at position {wrong[0]}"
        )
    return from_numpy(host)


def _overlap(a: DeviceArray, b: DeviceArray) -> bool:
    return bool(a.size and b.size) and a.address < b.address + b.nbytes and b.address < a.address + a.nbytes


def _output(
    op: str,
    argument: str,
    given: DeviceArray | None,
    shape: Sequence[int],
    apart: Sequence[DeviceArray | None],
    dtype: npt.DTypeLike = np.float32,
    in_place: bool = False,
) -> DeviceArray:
    """The caller's array if it fits, else a new one; it must not share memory with those in `apart`."""
    if given is None:
        return empty(shape, dtype)
    if not isinstance(given, DeviceArray) or given.dtype != np.dtype(dtype):
        came = given.dtype if isinstance(given, DeviceArray) else type(given).__name__
        raise TypeError(f"{op}: {argument} expects a device array of {np.dtype(dtype)}, got {came}")
    device().expect_dims(op, argument, list(shape), list(given.shape))
    if not given.flags.writeable:
        raise ValueError(f"{op}: {argument} expects a writable array")
    for other in apart:
        if other is not None and _overlap(given, other) and not (in_place and given.address == other.address):
            raise ValueError(f"{op}: {argument} must not share memory with an input")
    return given


def _outputs(op: str, out: Any, count: int) -> tuple[Any, ...]:
    if out is None:
        return (None,) * count
    if not isinstance(out, tuple) or len(out) != count:
        raise TypeError(f"{op}: out expects a tuple of {count} arrays")
    return out


def _gradients(
    op: str, out: Any, dy: DeviceArray, x: DeviceArray, weight: DeviceArray, need_dx: bool
) -> tuple[DeviceArray | None, DeviceArray, DeviceArray]:
    given, inputs = _outputs(op, out, 3), (dy, x, weight)
    dx = _output(op, "out[0]", given[0], x.shape, inputs) if need_dx else None
    dweight = _output(op, "out[1]", given[1], weight.shape, inputs)
    return dx, dweight, _output(op, "out[2]", given[2], weight.shape[:1], inputs)


def _at(array: DeviceArray | None) -> int | None:
    return None if array is None else array.address


def _expect_shape(op: str, argument: str, expected: Sequence[int], array: DeviceArray | None) -> None:
    if array is not None:
        device().expect_dims(op, argument, list(expected), list(array.shape))


def _expect_algorithm(op: str, algorithm: str) -> None:
    if algorithm not in ("direct", "winograd"):
        raise ValueError(f"{op}: algorithm expects 'direct' or 'winograd', got {algorithm!r}")


# --- layers ----------------------------------------------------------------------------------------------------------------


def conv2d_forward(
    x: Any, weight: Any, bias: Any = None, *, stride: Pair = 1, padding: Pair = 0, out: DeviceArray | None = None
) -> DeviceArray:
    op = "conv2d_forward"
    x, weight, bias = _input(op, "x", x), _input(op, "weight", weight), _optional(op, "bias", bias)
    shape = device().conv_shape(op, x.shape, weight.shape, _pair(op, "stride", stride), _pair(op, "padding", padding))
    _expect_shape(op, "bias", weight.shape[:1], bias)
    y = _output(op, "out", out, shape.y, (x, weight, bias))
    device().conv2d_forward(y.address, x.address, weight.address, _at(bias), shape)
    return y


def conv2d_backward(
    dy: Any, x: Any, weight: Any, *, stride: Pair = 1, padding: Pair = 0, need_dx: bool = True, out: Any = None
) -> Gradients:
    op = "conv2d_backward"
    dy, x, weight = _input(op, "dy", dy), _input(op, "x", x), _input(op, "weight", weight)
    shape = device().conv_shape(op, x.shape, weight.shape, _pair(op, "stride", stride), _pair(op, "padding", padding))
    _expect_shape(op, "dy", shape.y, dy)
    gradients = _gradients(op, out, dy, x, weight, need_dx)
    device().conv2d_backward(*map(_at, gradients), dy.address, x.address, weight.address, shape)
    return gradients


def max_pool2d_forward(
    x: Any, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, out: Any = None
) -> tuple[DeviceArray, DeviceArray]:
    op = "max_pool2d_forward"
    x, size = _input(op, "x", x), _pair(op, "kernel_size", kernel_size)
    step = size if stride is None else _pair(op, "stride", stride)
    shape = device().pool_shape(op, x.shape, size, step, _pair(op, "padding", padding))
    given = _outputs(op, out, 2)
    y = _output(op, "out[0]", given[0], shape.y, (x,))
    indices = _output(op, "out[1]", given[1], shape.y, (x,), np.int32)
    device().max_pool2d_forward(y.address, indices.address, x.address, shape)
    return y, indices


def max_pool2d_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: DeviceArray | None = None) -> DeviceArray:
    op = "max_pool2d_backward"
    dims = [int(size) for size in x_shape]
    dy, host = _input(op, "dy", dy), indices
    indices = _input(op, "indices", indices, np.int32)
    shape = device().unpool_shape(op, dy.shape, dims)
    _expect_shape(op, "indices", dy.shape, indices)
    plane = dims[2] * dims[3]
    if isinstance(host, np.ndarray) and ((host < 0) | (host >= plane)).any():
        wrong = host[(host < 0) | (host >= plane)]
        raise ValueError(f"{op}: indices expects values in 0..{plane - 1}, got {wrong[0]}")
    dx = _output(op, "out", out, dims, (dy, indices))
    device().max_pool2d_backward(dx.address, dy.address, indices.address, shape)
    return dx


def conv2d_relu_max_pool2d_forward(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    packed: Any = None,
    out: Any = None,
) -> tuple[DeviceArray, DeviceArray]:
    """As `fastlenet.ops` has it, computed directly whatever the algorithm; `packed` is not looked at."""
    del packed
    op = "conv2d_relu_max_pool2d_forward"
    _expect_algorithm(op, algorithm)
    x, weight, bias = _input(op, "x", x), _input(op, "weight", weight), _optional(op, "bias", bias)
    pairs = _pair(op, "padding", padding), _pair(op, "kernel_size", kernel_size)
    shape = device().conv_pool_shape(op, x.shape, weight.shape, *pairs)
    _expect_shape(op, "bias", weight.shape[:1], bias)
    given, inputs = _outputs(op, out, 2), (x, weight, bias)
    y = _output(op, "out[0]", given[0], shape.y, inputs)
    winners = _output(op, "out[1]", given[1], shape.y, inputs, np.uint8)
    device().conv2d_relu_max_pool2d_forward(y.address, winners.address, x.address, weight.address, _at(bias), shape)
    return y, winners


def pack_filters(weight: Any, algorithm: str = "direct") -> DeviceArray:
    """The weight as it is: this backend has no other layout of it."""
    op = "pack_filters"
    _expect_algorithm(op, algorithm)
    return _input(op, "weight", weight)


def conv2d_relu_max_pool2d_backward(
    dy: Any,
    winners: Any,
    x: Any,
    weight: Any,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
    out: Any = None,
) -> Gradients:
    op = "conv2d_relu_max_pool2d_backward"
    dy, x, weight, host = _input(op, "dy", dy), _input(op, "x", x), _input(op, "weight", weight), winners
    winners = _input(op, "winners", winners, np.uint8)
    pairs = _pair(op, "padding", padding), _pair(op, "kernel_size", kernel_size)
    shape = device().conv_pool_shape(op, x.shape, weight.shape, *pairs)
    _expect_shape(op, "dy", shape.y, dy)
    _expect_shape(op, "winners", shape.y, winners)
    window = math.prod(pairs[1])
    if isinstance(host, np.ndarray) and ((host >= window) & (host != 255)).any():
        wrong = host[(host >= window) & (host != 255)]
        raise ValueError(f"{op}: winners expects values below {window} or 255, got {wrong[0]}")
    gradients = _gradients(op, out, dy, x, weight, need_dx)
    addresses = (*map(_at, gradients), dy.address, winners.address, x.address, weight.address)
    device().conv2d_relu_max_pool2d_backward(*addresses, shape)
    return gradients


def linear_forward(
    x: Any, weight: Any, bias: Any = None, *, skip_zeros: bool = False, out: DeviceArray | None = None
) -> DeviceArray:
    del skip_zeros  # a matter of speed
    op = "linear_forward"
    x, weight, bias = _input(op, "x", x), _input(op, "weight", weight), _optional(op, "bias", bias)
    shape = device().linear_shape(op, x.shape, weight.shape)
    _expect_shape(op, "bias", weight.shape[:1], bias)
    y = _output(op, "out", out, shape.y, (x, weight, bias))
    device().linear_forward(y.address, x.address, weight.address, _at(bias), shape)
    return y


def linear_backward(dy: Any, x: Any, weight: Any, *, need_dx: bool = True, out: Any = None) -> Gradients:
    op = "linear_backward"
    dy, x, weight = _input(op, "dy", dy), _input(op, "x", x), _input(op, "weight", weight)
    shape = device().linear_shape(op, x.shape, weight.shape)
    _expect_shape(op, "dy", shape.y, dy)
    gradients = _gradients(op, out, dy, x, weight, need_dx)
    device().linear_backward(*map(_at, gradients), dy.address, x.address, weight.address, shape)
    return gradients


# --- element by element ----------------------------------------------------------------------------------------------------


def _map(op: str, x: Any, out: DeviceArray | None) -> DeviceArray:
    x = _input(op, "x", x)
    y = _output(op, "out", out, x.shape, (x,), in_place=True)
    getattr(device(), op)(y.address, x.address, x.size)
    return y


def _map_gradient(op: str, dy: Any, name: str, other: Any, out: DeviceArray | None) -> DeviceArray:
    dy, other = _input(op, "dy", dy), _input(op, name, other)
    _expect_shape(op, "dy", other.shape, dy)
    dx = _output(op, "out", out, dy.shape, (dy, other), in_place=True)
    getattr(device(), op)(dx.address, dy.address, other.address, dy.size)
    return dx


def relu_forward(x: Any, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map("relu_forward", x, out)


def relu_backward(dy: Any, y: Any, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("relu_backward", dy, "y", y, out)


def sigmoid_forward(x: Any, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map("sigmoid_forward", x, out)


def sigmoid_backward(dy: Any, y: Any, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("sigmoid_backward", dy, "y", y, out)


def dropout_forward(
    x: Any, rate: float, seed: int, counter: int | Count, *, out: Any = None
) -> tuple[DeviceArray, DeviceArray]:
    op = "dropout_forward"
    x = _input(op, "x", x)
    if not 0 <= rate < 1:
        raise ValueError(f"{op}: rate expects a number in [0, 1), got {rate}")
    given = _outputs(op, out, 2)
    y = _output(op, "out[0]", given[0], x.shape, (x,), in_place=True)
    mask = _output(op, "out[1]", given[1], x.shape, (x, y))
    device().dropout_forward(y.address, mask.address, x.address, rate, seed % 2**64, count_argument(counter), x.size)
    return y, mask


def dropout_backward(dy: Any, mask: Any, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("dropout_backward", dy, "mask", mask, out)


# --- losses and batches ----------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Any, labels: Any, *, label_smoothing: float = 0.0, out: DeviceArray | None = None
) -> tuple[DeviceArray, DeviceArray]:
    op = "softmax_cross_entropy"
    logits = _input(op, "logits", logits)
    device().expect_rank(op, "logits", 2, "(n, classes)", logits.shape)
    rows, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{op}: logits expects at least one class, got shape {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing expects a number in [0, 1], got {label_smoothing}")
    labels = _integers(op, "labels", labels, classes)
    _expect_shape(op, "labels", (rows,), labels)
    dlogits, loss = _output(op, "out", out, logits.shape, (logits,)), empty((), np.float64)
    addresses = loss.address, dlogits.address, logits.address, labels.address
    device().softmax_cross_entropy(*addresses, rows, classes, label_smoothing)
    return loss, dlogits


def squared_error(prediction: Any, target: Any, *, out: DeviceArray | None = None) -> tuple[DeviceArray, DeviceArray]:
    op = "squared_error"
    prediction, target = _input(op, "prediction", prediction), _input(op, "target", target)
    _expect_shape(op, "target", prediction.shape, target)
    dprediction = _output(op, "out", out, prediction.shape, (prediction, target), in_place=True)
    loss = empty((), np.float64)
    device().squared_error(loss.address, dprediction.address, prediction.address, target.address, prediction.size)
    return loss, dprediction


def inverse_root(square: Any) -> Rate:
    """As `fastlenet.ops` has it, of one float64 on the device, where the result is too."""
    square = _input("inverse_root", "square", square, np.float64)
    result = empty((), np.float64)
    device().inverse_root(result.address, square.address)
    return Rate(result)


@functools.lru_cache(maxsize=8)
def _taps(sigma: float, size: int) -> DeviceArray:
    """The Gaussian of elastic distortion, from the host."""
    return from_numpy(device().gaussian_taps(sigma, size))


def prepare(transform: Transform, images: DeviceArray) -> None:
    """Brings what a transform needs to the device, before a graph is captured with it."""
    if transform.augmentation.elastic:
        _taps(transform.augmentation.elastic_sigma, max(images.shape[1:]))


def gather_images(
    images: Any, index: Any, *, mean: float, std: float, transform: Any = None, out: DeviceArray | None = None
) -> DeviceArray:
    op = "gather_images"
    images = _input(op, "images", images, np.uint8)
    index = _integers(op, "index", index, len(images))
    shape = device().gather_shape(op, images.shape, index.shape)
    if not math.isfinite(mean):
        raise ValueError(f"{op}: mean expects a finite number, got {mean}")
    if not (math.isfinite(std) and std > 0):
        raise ValueError(f"{op}: std expects a positive number, got {std}")
    drawn = transform if isinstance(transform, Transform) else None
    transform = None if drawn else _optional(op, "transform", transform)
    _expect_shape(op, "transform", (len(index), 2, 3), transform)
    if transform is not None or drawn is not None:
        device().expect_transformable(op, shape)
    x = _output(op, "out", out, shape.x, (images, index, transform))
    addresses = x.address, images.address, index.address
    if drawn is None:
        device().gather_images(*addresses, _at(transform), mean, std, shape)
        return x
    chosen = drawn.augmentation
    taps = _taps(chosen.elastic_sigma, max(images.shape[1:])) if chosen.elastic else None
    numbers = {**drawn.numbers, "epoch": count_argument(drawn.epoch)}
    radius = 0 if taps is None else taps.size // 2
    device().gather_augmented(*addresses, *numbers.values(), _at(taps), radius, mean, std, shape)
    return x


# --- optimizer steps, in place -----------------------------------------------------------------------------------------------


def _state(op: str, argument: str, value: Any, shape: Sequence[int]) -> DeviceArray:
    """A buffer that a step changes: on the device already, since a copy there would change for nobody."""
    array = wrap(value)
    if array is None:
        raise TypeError(f"{op}: {argument} expects a device array of float32, got {type(value).__name__}")
    return _output(op, argument, array, shape, ())


def _flat(op: str, parameters: Any) -> DeviceArray:
    array = _state(op, "parameters", parameters, getattr(parameters, "shape", ()))
    device().expect_rank(op, "parameters", 1, "(count,)", array.shape)
    return array


def sgd_step(
    parameters: Any,
    gradients: Any,
    velocity: Any,
    *,
    lr: float | Rate,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    op = "sgd_step"
    parameters, gradients = _flat(op, parameters), _input(op, "gradients", gradients)
    _expect_shape(op, "gradients", parameters.shape, gradients)
    if velocity is None and momentum != 0:
        raise ValueError(f"{op}: velocity expects an array when momentum is not 0, got None")
    velocity = None if velocity is None else _state(op, "velocity", velocity, parameters.shape)
    addresses = parameters.address, gradients.address, _at(velocity)
    device().sgd_step(*addresses, rate_argument(lr), parameters.size, momentum, nesterov, weight_decay)


def adam_step(
    parameters: Any,
    gradients: Any,
    first_moment: Any,
    second_moment: Any,
    *,
    step: int | Count,
    lr: float | Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    op = "adam_step"
    parameters, gradients = _flat(op, parameters), _input(op, "gradients", gradients)
    _expect_shape(op, "gradients", parameters.shape, gradients)
    first = _state(op, "first_moment", first_moment, parameters.shape)
    second = _state(op, "second_moment", second_moment, parameters.shape)
    if isinstance(step, int) and step < 1:
        raise ValueError(f"{op}: step expects a count from 1, got {step}")
    addresses = parameters.address, gradients.address, first.address, second.address
    numbers = count_argument(step), rate_argument(lr)
    device().adam_step(*addresses, parameters.size, *numbers, beta1, beta2, eps, weight_decay)


def ema_step(average: Any, parameters: Any, *, decay: float) -> None:
    op = "ema_step"
    parameters = _input(op, "parameters", parameters)
    device().expect_rank(op, "parameters", 1, "(count,)", parameters.shape)
    average = _state(op, "average", average, parameters.shape)
    device().ema_step(average.address, parameters.address, parameters.size, decay)
