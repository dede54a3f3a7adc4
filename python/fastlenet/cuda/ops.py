"""The network's ops on a GPU. `fastlenet.ops` documents their names, signatures, shapes, ties and errors.

Inputs are DeviceArrays, or arrays of another library in the same device's memory; a NumPy array is copied to the device in each
call. `out` and the results are DeviceArrays; a loss is a float64 of no dimensions. A call returns before its work is done.
Labels, indices and winners in NumPy arrays are checked at once. Those on the device are checked there: a wrong one is left out,
and the next reading of a result raises ValueError. One image, and all weights, must have fewer than 2^31 elements.

The same call gives the same bits on every run, since all sums have a fixed order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastlenet.augment import Transform
from fastlenet.backend import Packed as PackedWeight
from fastlenet.backend import Pair, expect_algorithm
from fastlenet.cuda.array import DeviceArray, Input, device, empty, from_numpy
from fastlenet.cuda.call import Call
from fastlenet.cuda.graph import Graph
from fastlenet.cuda.scalars import Count, Rate

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

Gradients = tuple[DeviceArray | None, DeviceArray, DeviceArray]
_PIXELS = np.uint8, np.float32  # of images

name = "cuda"  # of this backend


def level() -> str:
    """Returns "cuda"."""
    return "cuda"


def _at(array: DeviceArray | None) -> int | None:
    return None if array is None else array.address


class Packed(PackedWeight[DeviceArray]):
    """Keeps the weight unchanged, on the device, since this backend has no other layout."""

    def __init__(self, weight: Input, algorithm: str = "direct") -> None:
        call = Call("Packed")
        array = call.input("weight", weight)
        if array.ndim != 2:
            device().expect_filters(call.op, array.shape)
        super().__init__(array, algorithm)


# --- layers ----------------------------------------------------------------------------------------------------------------


def conv2d_forward(
    x: Input, weight: Input, bias: Input | None = None, *, stride: Pair = 1, padding: Pair = 0, out: DeviceArray | None = None
) -> DeviceArray:
    call = Call("conv2d_forward", out)
    x, weight, bias = call.input("x", x), call.input("weight", weight), call.optional("bias", bias)
    shape = device().conv_shape(call.op, x.shape, weight.shape, stride, padding)
    call.expect_shape("bias", weight.shape[:1], bias)
    y = call.output(0, shape.y)
    device().conv2d_forward(y.address, x.address, weight.address, _at(bias), shape)
    return y


def conv2d_backward(
    dy: Input,
    x: Input,
    weight: Input,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    need_dx: bool = True,
    out: tuple[DeviceArray | None, DeviceArray | None, DeviceArray | None] | None = None,
) -> Gradients:
    call = Call("conv2d_backward", out, 3)
    dy, x, weight = call.input("dy", dy), call.input("x", x), call.input("weight", weight)
    shape = device().conv_shape(call.op, x.shape, weight.shape, stride, padding)
    call.expect_shape("dy", shape.y, dy)
    gradients = call.gradients(x, weight, need_dx)
    device().conv2d_backward(*map(_at, gradients), dy.address, x.address, weight.address, shape)
    return gradients


def max_pool2d_forward(
    x: Input,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: tuple[DeviceArray | None, DeviceArray | None] | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    call = Call("max_pool2d_forward", out, 2)
    x = call.input("x", x)
    shape = device().pool_shape(call.op, x.shape, kernel_size, stride, padding)
    y, indices = call.output(0, shape.y), call.output(1, shape.y, np.int32)
    device().max_pool2d_forward(y.address, indices.address, x.address, shape)
    return y, indices


def max_pool2d_backward(dy: Input, indices: Input, x_shape: Sequence[int], *, out: DeviceArray | None = None) -> DeviceArray:
    call, host = Call("max_pool2d_backward", out), indices
    dy, indices = call.input("dy", dy), call.input("indices", indices, np.int32)
    shape = device().unpool_shape(call.op, dy.shape, x_shape)
    call.expect_shape("indices", dy.shape, indices)
    if isinstance(host, np.ndarray):
        plane = math.prod(shape.x[2:])
        call.expect_none(host, lambda index: (index < 0) | (index >= plane), "indices", f"in 0..{plane - 1}")
    dx = call.output(0, shape.x)
    device().max_pool2d_backward(dx.address, dy.address, indices.address, shape)
    return dx


def avg_pool2d_forward(
    x: Input, kernel_size: Pair, *, stride: Pair | None = None, padding: Pair = 0, out: DeviceArray | None = None
) -> DeviceArray:
    call = Call("avg_pool2d_forward", out)
    x = call.input("x", x)
    shape = device().pool_shape(call.op, x.shape, kernel_size, stride, padding)
    y = call.output(0, shape.y)
    device().avg_pool2d_forward(y.address, x.address, shape)
    return y


def avg_pool2d_backward(
    dy: Input,
    x_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    out: DeviceArray | None = None,
) -> DeviceArray:
    call = Call("avg_pool2d_backward", out)
    dy = call.input("dy", dy)
    shape = device().pool_shape_of(call.op, x_shape, kernel_size, stride, padding)
    call.expect_shape("dy", shape.y, dy)
    dx = call.output(0, shape.x)
    device().avg_pool2d_backward(dx.address, dy.address, shape)
    return dx


def conv2d_relu_max_pool2d_forward(
    x: Input,
    weight: Input | PackedWeight[DeviceArray],
    bias: Input | None = None,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    algorithm: str = "direct",
    out: tuple[DeviceArray | None, DeviceArray | None] | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    """As in `fastlenet.ops`. It is computed directly for any algorithm, and `packed` is ignored."""
    call = Call("conv2d_relu_max_pool2d_forward", out, 2)
    expect_algorithm(call.op, algorithm)
    if isinstance(weight, Packed):
        weight.expect_algorithm(call.op, algorithm)
        weight = weight.weight
    x, weight, bias = call.input("x", x), call.input("weight", weight), call.optional("bias", bias)
    shape = device().conv_pool_shape(call.op, x.shape, weight.shape, padding, kernel_size)
    call.expect_shape("bias", weight.shape[:1], bias)
    y, winners = call.output(0, shape.y), call.output(1, shape.y, np.uint8)
    device().conv2d_relu_max_pool2d_forward(y.address, winners.address, x.address, weight.address, _at(bias), shape)
    return y, winners


def conv2d_relu_max_pool2d_backward(
    dy: Input,
    winners: Input,
    x: Input,
    weight: Input,
    *,
    padding: Pair = 0,
    kernel_size: Pair = 2,
    need_dx: bool = True,
    out: tuple[DeviceArray | None, DeviceArray | None, DeviceArray | None] | None = None,
) -> Gradients:
    call, host = Call("conv2d_relu_max_pool2d_backward", out, 3), winners
    dy, x, weight = call.input("dy", dy), call.input("x", x), call.input("weight", weight)
    winners = call.input("winners", winners, np.uint8)
    shape = device().conv_pool_shape(call.op, x.shape, weight.shape, padding, kernel_size)
    call.expect_shape("dy", shape.y, dy)
    call.expect_shape("winners", shape.y, winners)
    if isinstance(host, np.ndarray):
        window = shape.window
        call.expect_none(host, lambda winner: (winner >= window) & (winner != 255), "winners", f"below {window} or 255")
    gradients = call.gradients(x, weight, need_dx)
    addresses = (*map(_at, gradients), dy.address, winners.address, x.address, weight.address)
    device().conv2d_relu_max_pool2d_backward(*addresses, shape)
    return gradients


def linear_forward(
    x: Input, weight: Input | PackedWeight[DeviceArray], bias: Input | None = None, *, out: DeviceArray | None = None
) -> DeviceArray:
    call = Call("linear_forward", out)
    if isinstance(weight, Packed):
        weight = weight.weight
    x, weight, bias = call.input("x", x), call.input("weight", weight), call.optional("bias", bias)
    shape = device().linear_shape(call.op, x.shape, weight.shape)
    call.expect_shape("bias", weight.shape[:1], bias)
    y = call.output(0, shape.y)
    device().linear_forward(y.address, x.address, weight.address, _at(bias), shape)
    return y


def linear_backward(
    dy: Input,
    x: Input,
    weight: Input,
    *,
    need_dx: bool = True,
    out: tuple[DeviceArray | None, DeviceArray | None, DeviceArray | None] | None = None,
) -> Gradients:
    call = Call("linear_backward", out, 3)
    dy, x, weight = call.input("dy", dy), call.input("x", x), call.input("weight", weight)
    shape = device().linear_shape(call.op, x.shape, weight.shape)
    call.expect_shape("dy", shape.y, dy)
    gradients = call.gradients(x, weight, need_dx)
    device().linear_backward(*map(_at, gradients), dy.address, x.address, weight.address, shape)
    return gradients


# --- element-wise ------------------------------------------------------------------------------------------------------------


def _map(op: str, x: Input, out: DeviceArray | None, *parameters: float) -> DeviceArray:
    call = Call(op, out)
    x = call.input("x", x)
    y = call.output(0, x.shape, in_place=True)
    getattr(device(), op)(y.address, x.address, x.size, *parameters)
    return y


def _map_gradient(op: str, dy: Input, name: str, other: Input, out: DeviceArray | None, *parameters: float) -> DeviceArray:
    call = Call(op, out)
    dy, other = call.input("dy", dy), call.input(name, other)
    call.expect_shape("dy", other.shape, dy)
    dx = call.output(0, dy.shape, in_place=True)
    getattr(device(), op)(dx.address, dy.address, other.address, dy.size, *parameters)
    return dx


def relu_forward(x: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map("relu_forward", x, out)


def relu_backward(dy: Input, y: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("relu_backward", dy, "y", y, out)


def leaky_relu_forward(x: Input, slope: float = 0.01, *, out: DeviceArray | None = None) -> DeviceArray:
    op = "leaky_relu_forward"
    return _map(op, x, out, device().not_negative(op, "slope", slope))


def leaky_relu_backward(dy: Input, y: Input, slope: float = 0.01, *, out: DeviceArray | None = None) -> DeviceArray:
    op = "leaky_relu_backward"
    return _map_gradient(op, dy, "y", y, out, device().not_negative(op, "slope", slope))


def sigmoid_forward(x: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map("sigmoid_forward", x, out)


def sigmoid_backward(dy: Input, y: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("sigmoid_backward", dy, "y", y, out)


def tanh_forward(x: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map("tanh_forward", x, out)


def tanh_backward(dy: Input, y: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("tanh_backward", dy, "y", y, out)


def dropout_forward(
    x: Input,
    rate: float,
    seed: int,
    counter: int | Count,
    *,
    offset: int = 0,
    out: tuple[DeviceArray | None, DeviceArray | None] | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    call = Call("dropout_forward", out, 2)
    x, rate = call.input("x", x), device().fraction(call.op, "rate", rate)
    numbers = rate, device().word(call.op, "seed", seed), call.count("counter", counter)
    before = device().word(call.op, "offset", offset)
    y, mask = call.output(0, x.shape, in_place=True), call.output(1, x.shape)
    device().dropout_forward(y.address, mask.address, x.address, *numbers, before, x.size)
    return y, mask


def dropout_backward(dy: Input, mask: Input, *, out: DeviceArray | None = None) -> DeviceArray:
    return _map_gradient("dropout_backward", dy, "mask", mask, out)


# --- losses and batches ----------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Input,
    labels: Input | npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Input | None = None,
    batch_size: int | None = None,
    out: DeviceArray | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    return _loss_of_rows("softmax_cross_entropy", logits, labels, label_smoothing, weights, batch_size, out)


def softmax_squared_error(
    logits: Input,
    labels: Input | npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    weights: Input | None = None,
    batch_size: int | None = None,
    out: DeviceArray | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    return _loss_of_rows("softmax_squared_error", logits, labels, label_smoothing, weights, batch_size, out)


def softmax_distillation(
    logits: Input,
    labels: Input | npt.ArrayLike,
    teacher: Input,
    *,
    mix: float,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    weights: Input | None = None,
    batch_size: int | None = None,
    out: DeviceArray | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    return _loss_of_rows(
        "softmax_distillation", logits, labels, label_smoothing, weights, batch_size, out, (teacher, temperature, mix)
    )


def _loss_of_rows(
    op: str,
    logits: Input,
    labels: Input | npt.ArrayLike,
    label_smoothing: float,
    weights: Input | None,
    batch_size: int | None,
    out: DeviceArray | None,
    teaching: tuple[Input, float, float] | None = None,
) -> tuple[DeviceArray, DeviceArray]:
    """teaching: the teacher's probabilities, the temperature, and the teacher's share."""
    call = Call(op, out)
    logits = call.input("logits", logits)
    weights = None if weights is None else call.input("weights", weights)
    teacher = None if teaching is None else call.input("teacher", teaching[0])
    device().expect_rank(call.op, "logits", 2, "(n, classes)", logits.shape)
    rows, classes = logits.shape
    if classes < 1:
        raise ValueError(f"{call.op}: logits expects at least one class, got shape {logits.shape}")
    smoothing = call.number("label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"{call.op}: label_smoothing expects a number in [0, 1], got {smoothing}")
    numbers = [smoothing]
    if teaching is not None:
        temperature, mix = call.number("temperature", teaching[1]), call.number("mix", teaching[2])
        if not 0.001 <= temperature <= 1000:
            raise ValueError(f"{call.op}: temperature expects a number in [0.001, 1000], got {temperature}")
        if not 0 <= mix <= 1:
            raise ValueError(f"{call.op}: mix expects a number in [0, 1], got {mix}")
        numbers += [temperature, mix]
    divisor = rows if batch_size is None else device().positive(call.op, "batch_size", batch_size)
    labels = call.integers("labels", labels, classes)
    call.expect_shape("labels", (rows,), labels)
    if teacher is not None:
        call.expect_shape("teacher", logits.shape, teacher)
    if weights is not None:
        call.expect_shape("weights", (rows,), weights)
    dlogits, loss = call.output(0, logits.shape), empty((), np.float64)
    taught = () if teacher is None else (teacher.address,)
    addresses = loss.address, dlogits.address, logits.address, labels.address, *taught, _at(weights)
    getattr(device(), op)(*addresses, rows, classes, *numbers, divisor)
    return loss, dlogits


def squared_error(prediction: Input, target: Input, *, out: DeviceArray | None = None) -> tuple[DeviceArray, DeviceArray]:
    call = Call("squared_error", out)
    prediction, target = call.input("prediction", prediction), call.input("target", target)
    call.expect_shape("target", prediction.shape, target)
    dprediction = call.output(0, prediction.shape, in_place=True)
    loss = empty((), np.float64)
    device().squared_error(loss.address, dprediction.address, prediction.address, target.address, prediction.size)
    return loss, dprediction


def inverse_root(square: Input, *, at_least: float = 0.0) -> Rate:
    """As in `fastlenet.ops`, for a float64 on the device. The result is on the device too."""
    square = Call("inverse_root").input("square", square, np.float64)
    if at_least < 0:
        raise ValueError(f"inverse_root: at_least expects a number of at least 0, got {at_least}")
    result = empty((), np.float64)
    device().inverse_root(result.address, square.address, at_least)
    return Rate(result)


@functools.lru_cache(maxsize=8)
def _taps(sigma: float, size: int) -> DeviceArray:
    """The Gaussian of elastic distortion, copied from the host."""
    return from_numpy(device().gaussian_taps(sigma, size))


def prepare(transform: Transform, images: DeviceArray) -> None:
    """Copy a transform's data to the device. Call it before a graph is captured with the transform."""
    if transform.augmentation.elastic:
        _taps(transform.augmentation.elastic_sigma, max(images.shape[-2:]))


def gather_images(
    images: Input,
    index: Input | npt.ArrayLike,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    transform: Input | Transform | None = None,
    out: DeviceArray | None = None,
) -> DeviceArray:
    call = Call("gather_images", out)
    images = call.input("images", images, *_PIXELS)
    if len(images.shape) != 4:
        device().expect_rank(call.op, "images", 3, "(N, h, w), or 4 (N, c, h, w)", images.shape)
    index = call.integers("index", index, len(images))
    shape = device().gather_shape(call.op, images.shape, index.shape)
    normal = device().normalisation(call.op, mean, std, images.shape[1] if len(images.shape) == 4 else 0)
    drawn = transform if isinstance(transform, Transform) else None
    transform = None if drawn else call.optional("transform", transform)
    call.expect_shape("transform", (len(index), 2, 3), transform)
    if transform is not None or drawn is not None:
        device().expect_transformable(call.op, shape)
    x = call.output(0, shape.x)
    addresses = x.address, images.address, images.dtype == np.float32, index.address
    if drawn is None:
        device().gather_images(*addresses, _at(transform), *normal, shape)
        return x
    chosen = drawn.augmentation
    taps = _taps(chosen.elastic_sigma, max(images.shape[-2:])) if chosen.elastic else None
    numbers = {**drawn.numbers, "epoch": call.count("epoch", drawn.epoch)}
    views = call.optional("views", drawn.views)
    call.expect_shape("views", (len(images), 2, 3), views)
    radius = 0 if taps is None else taps.size // 2
    device().gather_augmented(*addresses, *numbers.values(), _at(views), _at(taps), radius, *normal, shape)
    return x


# --- optimizer steps, in place -----------------------------------------------------------------------------------------------


def sgd_step(
    parameters: Input,
    gradients: Input,
    velocity: DeviceArray | None,
    *,
    lr: float | Rate,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    average: DeviceArray | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("sgd_step")
    shape, gradients = call.flat("parameters", parameters), call.input("gradients", gradients)
    call.expect_shape("gradients", shape, gradients)
    parameters = call.state("parameters", parameters, shape)
    if velocity is None and momentum != 0:
        raise ValueError(f"{call.op}: velocity expects an array when momentum is not 0, got None")
    velocity = None if velocity is None else call.state("velocity", velocity, shape)
    average = None if average is None else call.state("average", average, shape)
    addresses = parameters.address, gradients.address, _at(velocity), _at(average)
    rule = call.number("momentum", momentum), bool(nesterov), call.number("weight_decay", weight_decay)
    device().sgd_step(*addresses, call.rate("lr", lr), parameters.size, *rule, call.number("decay", decay))


def adam_step(
    parameters: Input,
    gradients: Input,
    first_moment: Input,
    second_moment: Input,
    *,
    step: int | Count,
    lr: float | Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    average: DeviceArray | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("adam_step")
    shape, gradients = call.flat("parameters", parameters), call.input("gradients", gradients)
    call.expect_shape("gradients", shape, gradients)
    parameters = call.state("parameters", parameters, shape)
    first, second = call.state("first_moment", first_moment, shape), call.state("second_moment", second_moment, shape)
    average = None if average is None else call.state("average", average, shape)
    addresses = parameters.address, gradients.address, first.address, second.address, _at(average)
    betas = [device().fraction(call.op, name, value) for name, value in (("beta1", beta1), ("beta2", beta2))]
    rule = *betas, call.number("eps", eps), call.number("weight_decay", weight_decay), call.number("decay", decay)
    device().adam_step(*addresses, parameters.size, call.count("step", step, 1), call.rate("lr", lr), *rule)


def muon_step(
    parameters: Input,
    gradients: Input,
    velocity: DeviceArray | None,
    *,
    matrices: Sequence[tuple[int, int, int]],
    lr: float | Rate,
    matrix_lr: float | Rate,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    average: DeviceArray | None = None,
    decay: float = 0.0,
) -> None:
    call = Call("muon_step")
    shape, gradients = call.flat("parameters", parameters), call.input("gradients", gradients)
    call.expect_shape("gradients", shape, gradients)
    parameters = call.state("parameters", parameters, shape)
    if velocity is None and momentum != 0:
        raise ValueError(f"{call.op}: velocity expects an array when momentum is not 0, got None")
    velocity = None if velocity is None else call.state("velocity", velocity, shape)
    average = None if average is None else call.state("average", average, shape)
    addresses = parameters.address, gradients.address, _at(velocity), _at(average)
    rates = call.rate("lr", lr), call.rate("matrix_lr", matrix_lr)
    rule = call.number("momentum", momentum), bool(nesterov), call.number("weight_decay", weight_decay)
    device().muon_step(*addresses, parameters.size, matrices, *rates, *rule, call.number("decay", decay))


def ema_step(average: Input, parameters: Input, *, decay: float) -> None:
    call = Call("ema_step")
    shape, parameters = call.flat("parameters", parameters), call.input("parameters", parameters)
    average = call.state("average", average, shape)
    device().ema_step(average.address, parameters.address, parameters.size, call.number("decay", decay))


if TYPE_CHECKING:
    from fastlenet.backend import Backend
    from fastlenet.cuda import ops

    _: Backend[DeviceArray] = ops
