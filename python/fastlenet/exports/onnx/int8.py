"""The layers of a network in integers of 8 bits as ONNX's operations, which give the same bits.

The weights are uint8 with a zero point of 128, not int8: on CPUs with AVX2 and without VNNI, ONNX Runtime adds the products of
uint8 and int8 in pairs in 16 bits, which saturate. The scales of inputs and outputs are 1, and the scale of the weights is the
layer's multiplier, so that the factor that a runtime computes of the three is the multiplier to the bit.
"""

from __future__ import annotations

import numpy as np

from fastlenet.backend import Array
from fastlenet.exports.onnx.float32 import window
from fastlenet.exports.onnx.graph import Graph
from fastlenet.nn.layers.base import Sizes
from fastlenet.quantization import (
    QuantizedAvgPool2d,
    QuantizedConv2d,
    QuantizedFlatten,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedMaxPool2d,
    QuantizedModel,
    QuantizedTable,
    Scores,
)

__all__ = ["add_layers"]

_MIDDLE = 128  # the byte that stands for a weight of zero


def add_layers(graph: Graph, model: QuantizedModel, x: str) -> str:
    """Add the layers. x: uint8 (n, c, h, w). Returns the last value, float32 (n, classes)."""
    for layer in model.layers:
        graph.layer = layer.name
        x = _layer(graph, layer, x)
    return x


def _layer(graph: Graph, layer: QuantizedLayer, x: str) -> str:
    if isinstance(layer, QuantizedConv2d):
        return _conv(graph, layer, x)
    if isinstance(layer, QuantizedLinear):
        sums = graph.add("MatMulInteger", x, _weight(graph, layer.weight.T), *_zero_points(graph))
        return _finished(graph, layer, sums, ())
    if isinstance(layer, QuantizedMaxPool2d):
        return graph.add("MaxPool", x, **window(layer.kernel_size, layer.stride, layer.padding))
    if isinstance(layer, QuantizedAvgPool2d):
        return _mean(graph, layer, x)
    if isinstance(layer, QuantizedTable):
        return graph.add("Gather", graph.constant("table", layer.table, np.uint8), graph.cast(x, "int32"))
    if isinstance(layer, QuantizedFlatten):
        return graph.add("Flatten", x)
    assert isinstance(layer, Scores)
    centred = graph.add("Sub", graph.cast(x, "float32"), graph.constant("zero_point", layer.zero_point, np.float32))
    return graph.add("Mul", centred, graph.constant("scale", layer.scale, np.float32))


def _conv(graph: Graph, layer: QuantizedConv2d, x: str) -> str:
    x, padding = _padded(graph, x, layer.padding, layer.padding_value)
    weight = _weight(graph, layer.weight)
    attributes = window((layer.weight.shape[2], layer.weight.shape[3]), layer.stride, padding)
    if layer.zero_point is None:
        return _finished(graph, layer, graph.add("ConvInteger", x, weight, *_zero_points(graph), **attributes), (1, 1))
    zero, middle = _zero_points(graph)
    one, multiplier = graph.constant("one", 1, np.float32), graph.constant("multiplier", layer.multiplier, np.float32)
    output = one, graph.constant("zero_point", layer.zero_point, np.uint8)
    bias = graph.constant("bias", layer.bias, np.int32)
    return graph.add("QLinearConv", x, one, zero, weight, multiplier, middle, *output, bias, **attributes)


def _mean(graph: Graph, layer: QuantizedAvgPool2d, x: str) -> str:
    """The sums come from a convolution of each channel with weights of one."""
    x, padding = _padded(graph, x, layer.padding, layer.zero_point)
    c, (r, s) = len(layer.zero_point), layer.kernel_size
    ones = graph.constant("weight", np.ones((c, 1, r, s)), np.uint8)
    sums = graph.add("ConvInteger", x, ones, group=c, **window(layer.kernel_size, layer.stride, padding))
    zeros = layer.zero_point.astype(np.int32).reshape(-1, 1, 1)
    centred = graph.add("Add", sums, graph.constant("bias", -r * s * zeros, np.int32))
    return _requantized(graph, centred, layer.multiplier, zeros)


def _finished(graph: Graph, layer: QuantizedConv2d | QuantizedLinear, sums: str, behind: tuple[int, ...]) -> str:
    """The output for sums without the bias. behind: ones for each axis behind that of the outputs."""
    shape = (-1, *behind)
    sums = graph.add("Add", sums, graph.constant("bias", layer.bias.reshape(shape), np.int32))
    multiplier = layer.multiplier.reshape(shape)
    if layer.zero_point is None:
        return graph.add("Mul", graph.cast(sums, "float32"), graph.constant("multiplier", multiplier, np.float32))
    return _requantized(graph, sums, multiplier, np.asarray(layer.zero_point))


def _requantized(graph: Graph, sums: str, multiplier: Array | np.float32, zero_point: Array) -> str:
    """clip(rint(float32(sums) * multiplier) + zero_point, 0, 255): Round takes ties to even."""
    scaled = graph.add("Mul", graph.cast(sums, "float32"), graph.constant("multiplier", multiplier, np.float32))
    moved = graph.add("Add", graph.add("Round", scaled), graph.constant("zero_point", zero_point, np.float32))
    ends = (graph.constant(name, value, np.float32) for name, value in (("least", 0), ("most", 255)))
    return graph.cast(graph.add("Clip", moved, *ends), "uint8")


def _weight(graph: Graph, weight: Array) -> str:
    return graph.constant("weight", weight.astype(np.int16) + _MIDDLE, np.uint8)


def _zero_points(graph: Graph) -> tuple[str, str]:
    """Those of a product's inputs, whose zero point is in the bias, and of its weights."""
    return graph.constant("input_zero_point", 0, np.uint8), graph.constant("weight_zero_point", _MIDDLE, np.uint8)


def _padded(graph: Graph, x: str, padding: Sizes, values: Array) -> tuple[str, Sizes]:
    """x in a frame of values[c], and the padding that is still due, which holds zeros."""
    if padding == (0, 0) or not values.any():
        return x, padding
    pads = graph.constant("pads", [0, 0, *padding, 0, 0, *padding], np.int64)
    if (values == values[0]).all():
        return graph.add("Pad", x, pads, graph.constant("padding_value", values[0], np.uint8)), (0, 0)
    planes = []
    for channel, value in enumerate(values):
        place = graph.constant("channel", [channel], np.int64)
        plane = graph.add("Gather", x, place, axis=1)
        planes.append(graph.add("Pad", plane, pads, graph.constant("padding_value", value, np.uint8)))
    return graph.add("Concat", *planes, axis=1), (0, 0)
