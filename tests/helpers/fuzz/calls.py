"""A random call of each op, mostly one that it should take; and what to make of it that it should not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.augment import Augmentation
from helpers.fuzz.draw import BATCHES, CHANNELS, EXACT, FEATURES, FILTERS, SIDES, Draw

MOST_PRODUCTS = 1_500_000

# How many arrays `out` has; of these, the first may be one of the inputs named below.
OUTPUTS = {
    "conv2d_forward": 1,
    "conv2d_backward": 3,
    "max_pool2d_forward": 2,
    "max_pool2d_backward": 1,
    "conv2d_relu_max_pool2d_forward": 2,
    "conv2d_relu_max_pool2d_backward": 3,
    "linear_forward": 1,
    "linear_backward": 3,
    "relu_forward": 1,
    "relu_backward": 1,
    "sigmoid_forward": 1,
    "sigmoid_backward": 1,
    "dropout_forward": 2,
    "dropout_backward": 1,
    "softmax_cross_entropy": 1,
    "squared_error": 1,
    "gather_images": 1,
}
IN_PLACE = {
    "relu_forward": ("x",),
    "relu_backward": ("dy", "y"),
    "sigmoid_forward": ("x",),
    "sigmoid_backward": ("dy", "y"),
    "dropout_forward": ("x",),
    "dropout_backward": ("dy", "mask"),
    "squared_error": ("prediction", "target"),
}
WRITTEN = {
    "sgd_step": ("parameters", "velocity"),
    "adam_step": ("parameters", "first_moment", "second_moment"),
    "ema_step": ("average",),
}


_DTYPES = {("max_pool2d_forward", 1): np.int32, ("conv2d_relu_max_pool2d_forward", 1): np.uint8}


def out_dtype(op: str, i: int) -> npt.DTypeLike:
    return _DTYPES.get((op, i), np.float32)


@dataclass
class Call:
    """An op and its arguments by name, without `out`."""

    op: str
    arguments: dict[str, Any]
    exact: bool  # whether its sums of products are exact in float32
    twists: tuple[str, ...] = ()  # the arguments that were made wrong


class _Values:
    """Arrays of one kind of numbers, now and then each of its own."""

    def __init__(self, draw: Draw) -> None:
        self._draw, self._kind, self._mixed = draw, draw.kind(), draw.chance(0.15)
        self.exact = True

    def __call__(self, *shape: int) -> Any:
        kind = self._draw.kind() if self._mixed else self._kind
        self.exact = self.exact and kind in EXACT
        return self._draw.values(shape, kind)


def _window(draw: Draw, sides: tuple[int, ...], pads: tuple[int, int]) -> tuple[int, int]:
    """A filter or window, mostly one that fits into the padded sides."""
    if draw.chance(0.03):
        return draw.pick(FILTERS), draw.pick(FILTERS)
    r, s = (max(1, min(draw.pick(FILTERS), side + 2 * pad)) for side, pad in zip(sides, pads, strict=True))
    return r, s


def _pads(padding: Any) -> tuple[int, int]:
    first, second = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    return int(first), int(second)


def _out_size(size: int, window: int, stride: int, pad: int) -> int:
    return max(0, (size + 2 * pad - window) // stride + 1) if window else 0


def _conv(draw: Draw, values: _Values, strided: bool) -> tuple[dict[str, Any], tuple[int, ...]]:
    """x, weight, stride and padding, and the output's shape."""
    n, c, h, w = draw.dims(BATCHES, CHANNELS, SIDES, SIDES)
    k, padding = draw.pick(CHANNELS), draw.pair((0, 0, 0, 1, 1, 2, 3))
    stride = draw.pair((1, 1, 2, 3)) if strided else 1
    pads, steps = _pads(padding), _pads(stride)
    if not h + pads[0] or not w + pads[1]:
        h, w = (1, 1) if draw.chance(0.9) else (h, w)
    r, s = _window(draw, (h, w), pads)
    p, q = (_out_size(*sizes) for sizes in zip((h, w), (r, s), steps, pads, strict=True))
    while n * k * c * r * s * p * q > MOST_PRODUCTS:
        n, k = max(1, n // 2), max(1, k // 2)
        if n == k == 1:
            c = max(1, c // 2)
    arguments = {"x": values(n, c, h, w), "weight": values(k, c, r, s), "padding": padding}
    return arguments | ({"stride": stride} if strided else {}), (n, k, p, q)


def conv2d_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    arguments, (_, k, *_) = _conv(draw, values, strided=True)
    return arguments | {"bias": values(k) if draw.chance(0.7) else None}


def conv2d_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    arguments, shape = _conv(draw, values, strided=True)
    return arguments | {"dy": values(*shape), "need_dx": draw.chance(0.7)}


def max_pool2d_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    n, c, h, w = draw.dims(BATCHES, CHANNELS, SIDES, SIDES)
    r, s = _window(draw, (h, w), (0, 0))
    most = (r // 2, s // 2)
    padding: Any = 0 if draw.chance(0.5) else (draw.below(most[0] + 1), draw.below(most[1] + 1))
    stride = None if draw.chance(0.4) else draw.pair((1, 1, 2, 3, 4))
    size: Any = r if r == s and draw.chance(0.5) else (r, s)
    return {"x": values(n, c, h, w), "kernel_size": size, "stride": stride, "padding": padding}


def max_pool2d_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    n, c, h, w = draw.dims(BATCHES, CHANNELS, SIDES, SIDES)
    dy = values(n, c, draw.pick(SIDES) if h * w else 0, draw.pick((0, 1, 2, 3, 5, 8)))
    shape = draw.pick((tuple, list, np.array))((n, c, h, w))
    return {"dy": dy, "indices": draw.places(dy.shape, h * w, np.int32), "x_shape": shape}


def _fused(draw: Draw, values: _Values) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """x, weight, padding and kernel_size, the output's shape, and how many elements a window has."""
    arguments, (n, k, p, q) = _conv(draw, values, strided=False)
    if draw.chance(0.6):
        size: Any = 2
    else:
        size = draw.pair((1, 1, 2, 3, 4))
    r, s = _pads(size)
    if draw.chance(0.9):
        r, s = min(r, p or 1), min(s, q or 1)
        size = r if r == s else (r, s)
    return arguments | {"kernel_size": size}, (n, k, p // r, q // s), r * s


def conv2d_relu_max_pool2d_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    arguments, (_, k, *_), _ = _fused(draw, values)
    arguments |= {"bias": values(k) if draw.chance(0.7) else None, "algorithm": draw.pick(("direct", "winograd"))}
    if draw.chance(0.3):
        # What pack_filters makes of the weight is for the runner to say: it belongs to the level. Or nonsense.
        arguments["packed"] = "pack" if draw.chance(0.8) else draw.values((draw.pick((0, 1, 16, 80, 96, 416)),), "normals")
    return arguments


def pack_filters(draw: Draw, values: _Values) -> dict[str, Any]:
    arguments, *_ = _fused(draw, values)
    return {"weight": arguments["weight"], "algorithm": draw.pick(("direct", "winograd"))}


def conv2d_relu_max_pool2d_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    arguments, shape, window = _fused(draw, values)
    winners = draw.places(shape, window, np.uint8)
    winners[draw.rng.random(shape) < draw.pick((0.0, 0.4, 0.9))] = 255
    return arguments | {"dy": values(*shape), "winners": winners, "need_dx": draw.chance(0.7)}


def _linear(draw: Draw) -> tuple[int, int, int]:
    n, inputs, outputs = draw.pick(BATCHES), draw.pick(FEATURES), draw.pick(FEATURES)
    if draw.chance(0.03):  # wide and without anything in it
        n, inputs, outputs = 0, draw.pick((2**20, 2**31, 2**40)), draw.pick((0, 0, 1))
        inputs = inputs if not outputs else 2**10
    return n, inputs, outputs


def linear_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    n, inputs, outputs = _linear(draw)
    bias = values(outputs) if draw.chance(0.7) else None
    return {"x": values(n, inputs), "weight": values(outputs, inputs), "bias": bias, "skip_zeros": draw.chance(0.4)}


def linear_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    n, inputs, outputs = _linear(draw)
    need_dx = draw.chance(0.7)
    return {"dy": values(n, outputs), "x": values(n, inputs), "weight": values(outputs, inputs), "need_dx": need_dx}


def _one(draw: Draw, values: _Values, *names: str) -> dict[str, Any]:
    shape = draw.any_shape()
    return {name: values(*shape) for name in names}


def relu_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    return _one(draw, values, "x")


def relu_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    return _one(draw, values, "dy", "y")


def sigmoid_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    x = _one(draw, values, "x")["x"]
    with np.errstate(over="ignore"):
        return {"x": x * np.float32(draw.pick((1, 20, 100)))}


def sigmoid_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    return _one(draw, values, "dy", "y")


def dropout_forward(draw: Draw, values: _Values) -> dict[str, Any]:
    rate = draw.pick((0, 0.0, 0.25, 0.5, 0.9, 1 - 2**-40, 2.0**-32, np.float32(0.1), 1e-300))
    whole = (0, 1, 3, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
    return _one(draw, values, "x") | {"rate": rate, "seed": draw.pick(whole), "counter": draw.pick(whole)}


def dropout_backward(draw: Draw, values: _Values) -> dict[str, Any]:
    return _one(draw, values, "dy", "mask")


def softmax_cross_entropy(draw: Draw, values: _Values) -> dict[str, Any]:
    n, classes = draw.pick(BATCHES), draw.pick((0, 1, 2, 3, 7, 10, 10, 16, 17, 33))
    dtype = draw.pick(("i1", "i2", "i4", "i8", "i8", "i8", "u1", "u8", ">i8"))
    labels: Any = draw.places((n if classes or draw.chance(0.5) else 0,), classes, dtype)
    smoothing = draw.pick((0.0, 0.0, 0.1, 1.0, 0, 1, np.float32(0.25)))
    return {"logits": values(n, classes), "labels": labels, "label_smoothing": smoothing}


def squared_error(draw: Draw, values: _Values) -> dict[str, Any]:
    return _one(draw, values, "prediction", "target")


def inverse_root(draw: Draw, values: _Values) -> dict[str, Any]:
    return {"square": draw.pick((0, 0.0, 1, 4.0, 5e-324, 1e300, float("inf"), float("nan"), -0.0, -1.0, draw.rng.random()))}


def empty(draw: Draw, values: _Values) -> dict[str, Any]:
    shape: Any = draw.dims(*[SIDES] * draw.below(5))
    if draw.chance(0.3):
        shape = draw.pick((0, 1, 17, 1000, np.int64(3), -1, (2, -1), 1.5, None, "2", (1.5,)))
    elif draw.chance(0.5):
        shape = list(shape)
    return {"shape": shape, "dtype": draw.pick((np.float32, np.float64, "i4", np.uint8, "?", "c16", np.dtype("f2")))}


def _augmentation(draw: Draw) -> Augmentation:
    return Augmentation(
        shift=draw.pick((0, 0, 1, 2, 40)),
        rotation=draw.pick((0, 0, 10, 180)),
        scale=draw.pick((0, 0, 0.1, 0.9)),
        shear=draw.pick((0, 0, 0.3, 1)),
        elastic=draw.pick((0, 0, 34, 2000)),
        elastic_sigma=draw.pick((0.01, 1.0, 4.0, 900.0)),
        cutout=draw.pick((0, 0, 1, 4, 9)),
    )


def gather_images(draw: Draw, values: _Values) -> dict[str, Any]:
    h, w = draw.pick(SIDES), draw.pick((*SIDES, 28))
    count, n = draw.pick((0, 1, 2, 7, 300)), draw.pick(BATCHES)
    images = draw.rng.integers(0, 256, (count, h, w), np.uint8)
    index: Any = draw.places((n if count else 0,), count, draw.pick(("i1", "i4", "i8", "i8", "i8", "u1", "u8", ">i2")))
    if draw.chance(0.2):
        index = index.tolist()
    mean, std, transform = draw.pick((0.1307, 0.1307, 0, -3.5, 1e10)), draw.pick((0.3081, 0.3081, 1, 1e-3, 1e30)), None
    if draw.chance(0.25):
        transform = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (len(index), 1, 1)) + values(len(index), 2, 3)
    elif draw.chance(0.35):
        transform, index = _augmentation(draw).at(draw.pick((0, 1, 2**64 - 1)), draw.pick((0, 7, 2**32 - 1))), index[:5]
        mean, std = 0.1307, 0.3081
    return {"images": images, "index": index, "mean": mean, "std": std, "transform": transform}


def _count(draw: Draw) -> int:
    return draw.pick((0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 1000)) if draw.chance(0.97) else 9001


def sgd_step(draw: Draw, values: _Values) -> dict[str, Any]:
    count, momentum = _count(draw), draw.pick((0, 0.0, 0.9, 0.5))
    velocity = None if momentum == 0 and draw.chance(0.5) else values(count)
    numbers = {"lr": draw.pick((0.1, 1, 0.0, 1e-5, np.float32(0.5))), "momentum": momentum, "nesterov": draw.chance(0.5)}
    arrays = {"parameters": values(count), "gradients": values(count), "velocity": velocity}
    return arrays | numbers | {"weight_decay": draw.pick((0.0, 0, 5e-4, 0.5))}


def adam_step(draw: Draw, values: _Values) -> dict[str, Any]:
    count = _count(draw)
    arrays = {name: values(count) for name in ("parameters", "gradients", "first_moment")}
    numbers = {"step": draw.pick((1, 2, 10, 1000, 2**40)), "lr": draw.pick((1e-3, 1, 0.0)), "eps": draw.pick((1e-8, 1e-3))}
    rates = {"beta1": draw.pick((0.9, 0.5, 0.0)), "beta2": draw.pick((0.999, 0.5)), "weight_decay": draw.pick((0.0, 0.01, 0.5))}
    return arrays | {"second_moment": np.abs(values(count))} | numbers | rates


def ema_step(draw: Draw, values: _Values) -> dict[str, Any]:
    count = _count(draw)
    return {"average": values(count), "parameters": values(count), "decay": draw.pick((0.0, 0.5, 0.999, 1, np.float32(0.75)))}


GENERATORS: dict[str, Callable[[Draw, _Values], dict[str, Any]]] = {
    function.__name__: function
    for function in (
        conv2d_forward,
        conv2d_backward,
        max_pool2d_forward,
        max_pool2d_backward,
        conv2d_relu_max_pool2d_forward,
        pack_filters,
        conv2d_relu_max_pool2d_backward,
        linear_forward,
        linear_backward,
        relu_forward,
        relu_backward,
        sigmoid_forward,
        sigmoid_backward,
        dropout_forward,
        dropout_backward,
        softmax_cross_entropy,
        squared_error,
        inverse_root,
        gather_images,
        empty,
        sgd_step,
        adam_step,
        ema_step,
    )
}
# The simple ones need fewer cases.
_ONCE = ("empty", "inverse_root", "pack_filters", "relu_forward", "sigmoid_forward", "squared_error", "dropout_backward")
OPS = [op for op in GENERATORS for _ in range(1 if op in _ONCE else 3)]


def draw_call(draw: Draw, op: str) -> Call:
    values = _Values(draw)
    return Call(op, GENERATORS[op](draw, values), values.exact)
