"""What a network of int8 must return, by fastlenet.quantization's layers in NumPy; and which it must refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastlenet.quantization import layers as quantized
from fastlenet.reference.checks import Call
from helpers.fuzz.int8_network import PARAMETERS

Shape = tuple[int, ...]

MOST_NUMBERS, LARGEST_SUM = 2**27, 2**31 - 1


def expected(arguments: dict[str, Any]) -> tuple[Any, ...]:
    """The scores. Raises ValueError or TypeError for what _core.Int8Network documents to refuse."""
    call = Call("Int8Network")
    sides = tuple(call.integer(name, arguments[name], 1, LARGEST_SUM, "an integer in 1..2^31-1") for name in ("c", "h", "w"))
    expect_small(sides)
    shape: Shape = sides
    made: list[quantized.QuantizedLayer] = []
    for kind, number in arguments["layers"]:
        expect(not (made and gives_scores(made[-1])), "a layer behind the scores")
        own = {name: arguments[f"{number}.{name}"] for name in PARAMETERS[kind]}
        for layer in _MADE[kind](Call(f"Int8Network.add_{kind}"), shape, own):
            made.append(layer)
            shape = layer.output_shape
    expect(bool(made) and gives_scores(made[-1]), "the last layer gives no scores")
    images = call.array("images", arguments["images"], np.uint8)
    call.rank("images", images, 4)
    call.shape("images", images, (len(images), *sides))
    x: Any = images
    with np.errstate(all="ignore"):
        for layer in made:
            x = layer(x)
    return (np.asarray(x),)


def expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"Int8Network: {what}")


def expect_small(shape: Shape) -> None:
    expect(math.prod(shape) <= MOST_NUMBERS and math.prod(shape[1:]) <= MOST_NUMBERS, f"{shape} is too large")


def gives_scores(layer: quantized.QuantizedLayer) -> bool:
    return isinstance(layer, quantized.Scores) or getattr(layer, "zero_point", 0) is None


Own = dict[str, Any]
Layers = list[quantized.QuantizedLayer]


def _product(call: Call, own: Own) -> Own:
    """The constants of a convolution or a linear layer."""
    weight = call.array("weight", own["weight"], np.int8)
    expect(weight.ndim >= 2, "weight has too few axes")
    bias = call.array("bias", own["bias"], np.int32)
    multiplier = call.array("multiplier", own["multiplier"], np.float32)
    call.shape("bias", bias, weight.shape[:1])
    call.shape("multiplier", multiplier, weight.shape[:1])
    expect(bool((np.isfinite(multiplier) & (multiplier >= 0)).all()), "multiplier is not finite, or below 0")
    sums = np.abs(weight.astype(np.int64)).reshape(len(weight), math.prod(weight.shape[1:])).sum(axis=1)
    expect(bool((np.abs(bias.astype(np.int64)) + 255 * sums <= LARGEST_SUM).all()), "a sum may overflow")
    zero_point = own["zero_point"]
    if zero_point is not None:
        zero_point = call.integer("zero_point", zero_point, 0, 255, "None or 0..255")
    return {"weight": weight, "bias": bias, "multiplier": multiplier, "zero_point": zero_point}


def _conv(call: Call, shape: Shape, own: Own) -> Layers:
    constants = _product(call, own)
    value = call.array("padding_value", own["padding_value"], np.uint8)
    stride, padding = call.pair("stride", own["stride"], 1), call.pair("padding", own["padding"], 0)
    expect(len(shape) == 3, "x is no image")
    call.filters(constants["weight"])
    k, c, r, s = constants["weight"].shape
    call.shape("padding_value", value, (shape[0],))
    tall, wide = (size + 2 * pad for size, pad in zip(shape[1:], padding, strict=True))
    expect(c == shape[0] and r <= tall and s <= wide, "weight does not fit x")
    p, q = (tall - r) // stride[0] + 1, (wide - s) // stride[1] + 1
    expect_small((c, tall, wide))
    expect_small((k, p, q))
    window = call.pair("window", own["window"], 1)
    expect(window[0] <= p and window[1] <= q, "window is larger than the output")
    expect(constants["zero_point"] is not None, "a convolution gives no scores")
    conv = quantized.QuantizedConv2d("", (k, p, q), **constants, stride=stride, padding=padding, padding_value=value)
    pooled = k, p // window[0], q // window[1]
    return [conv] if window == (1, 1) else [conv, quantized.QuantizedMaxPool2d("", pooled, window, window, (0, 0))]


def _linear(call: Call, shape: Shape, own: Own) -> Layers:
    constants = _product(call, own)
    expect(len(shape) == 1 and constants["weight"].ndim == 2, "x or weight has other axes")
    call.shape("weight", constants["weight"], (len(constants["weight"]), *shape))
    return [quantized.QuantizedLinear("", (len(constants["weight"]),), **constants)]


def _windows(call: Call, shape: Shape, own: Own) -> tuple[Shape, Own]:
    """The output's shape, and the windows."""
    size = call.pair("kernel_size", own["kernel_size"], 1)
    stride = size if own["stride"] is None else call.pair("stride", own["stride"], 1)
    padding = call.pair("padding", own["padding"], 0)
    expect(len(shape) == 3, "x is no image")
    pooled = [shape[0]]
    for side, window, step, pad in zip(shape[1:], size, stride, padding, strict=True):
        expect(pad <= window // 2 and window <= side + 2 * pad, "the windows do not fit x")
        pooled.append((side + 2 * pad - window) // step + 1)
    expect_small(tuple(pooled))
    return tuple(pooled), {"kernel_size": size, "stride": stride, "padding": padding}


def _max_pool(call: Call, shape: Shape, own: Own) -> Layers:
    pooled, windows = _windows(call, shape, own)
    return [quantized.QuantizedMaxPool2d("", pooled, **windows)]


def _avg_pool(call: Call, shape: Shape, own: Own) -> Layers:
    zero_point = call.array("zero_point", own["zero_point"], np.uint8)
    pooled, windows = _windows(call, shape, own)
    call.shape("zero_point", zero_point, (shape[0],))
    expect(math.prod(windows["kernel_size"]) <= LARGEST_SUM // 255, "a sum may overflow")
    multiplier = np.float32(call.not_negative("multiplier", own["multiplier"]))
    return [quantized.QuantizedAvgPool2d("", pooled, **windows, zero_point=zero_point, multiplier=multiplier)]


def _table(call: Call, shape: Shape, own: Own) -> Layers:
    table = call.array("table", own["table"], np.uint8)
    call.shape("table", table, (256,))
    return [quantized.QuantizedTable("", shape, table, "")]


def _flatten(call: Call, shape: Shape, own: Own) -> Layers:
    return [quantized.QuantizedFlatten("", (math.prod(shape),))]


def _scores(call: Call, shape: Shape, own: Own) -> Layers:
    scale = np.float32(call.not_negative("scale", own["scale"]))
    return [quantized.Scores("", shape, scale, call.integer("zero_point", own["zero_point"], 0, 255, "an integer in 0..255"))]


_MADE = {
    "conv": _conv,
    "linear": _linear,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "table": _table,
    "flatten": _flatten,
    "scores": _scores,
}
