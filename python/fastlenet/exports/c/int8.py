"""The layers of a quantized model in C."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Shape
from fastlenet.exports.c.stages import Constant, Part, define_window, sized
from fastlenet.exports.c.text import real
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

__all__ = ["parts"]

_AXES = "outputs, inputs, rows, columns"


def parts(model: QuantizedModel, identifiers: Sequence[str]) -> list[Part]:
    """Returns the layers of a quantized model, the first of which reads the pixels."""
    assert model.facts.input_shape is not None
    made, shape = [], model.facts.input_shape
    for layer, identifier in zip(model.layers, identifiers, strict=True):
        made.append(_part(layer, f"fastlenet_{identifier}", shape))
        shape = layer.output_shape
    return made


def _part(layer: QuantizedLayer, identifier: str, shape: Shape) -> Part:
    name, kind, out = layer.name, layer.kind, layer.output_shape
    if isinstance(layer, QuantizedConv2d):
        return _conv(layer, identifier, shape)
    if isinstance(layer, QuantizedLinear):
        return _linear(layer, identifier)
    if isinstance(layer, (QuantizedMaxPool2d, QuantizedAvgPool2d)):
        return _pool(layer, identifier, shape)
    if isinstance(layer, QuantizedTable):
        table = Constant("uint8_t", f"{identifier}_table", layer.table, f"{layer.activation} of each byte")
        return Part(name, layer.activation, "pointwise", out, f"fastlenet_look_up({{x}}, {{n}}, {table.name}, {{y}})", [table])
    if isinstance(layer, QuantizedFlatten):
        return Part(name, kind, "nothing", out, "")
    assert isinstance(layer, Scores)
    size = math.prod(shape)
    call = f"fastlenet_scores({{x}}, {size}, {layer.zero_point}, {real(layer.scale)}, {{y}})"
    return Part(name, kind, "linear", out, call)


def _pool(layer: QuantizedMaxPool2d | QuantizedAvgPool2d, identifier: str, shape: Shape) -> Part:
    struct, out = f"{identifier}_window", layer.output_shape
    defined = define_window(struct, layer.kernel_size, layer.stride, layer.padding, shape, out)
    if isinstance(layer, QuantizedMaxPool2d):
        return Part(layer.name, layer.kind, "pool", out, f"fastlenet_max_pool2d(&{struct}, {{x}}, {{y}})", (), defined)
    zeros = Constant("uint8_t", f"{identifier}_zero_point", layer.zero_point, "of each channel")
    call = f"fastlenet_avg_pool2d(&{struct}, {{x}}, {real(layer.multiplier)}, {zeros.name}[k], {{y}})"
    return Part(layer.name, layer.kind, "pool", out, call, [zeros], defined)


def _conv(layer: QuantizedConv2d, identifier: str, shape: Shape) -> Part:
    """A convolution, whose bias in C has the products of the padding everywhere. C adds the difference inside the image."""
    struct, out, (_, inputs, rows, columns) = f"{identifier}_window", layer.output_shape, layer.weight.shape
    around = layer.padding_value if any(layer.padding) else np.zeros(inputs, np.uint8)
    bias = layer.bias + (layer.weight.astype(np.int64) * around[:, None, None]).sum(axis=(1, 2, 3))
    constants = [
        Constant("int8_t", f"{identifier}_weight", layer.weight, f"{sized(layer.weight.shape)}: {_AXES}"),
        Constant("int32_t", f"{identifier}_bias", bias, ""),
        Constant("float", f"{identifier}_multiplier", layer.multiplier, ""),
        Constant("uint8_t", f"{identifier}_around", around, "what the padding of each input channel holds"),
    ]
    arrays = f"{identifier}_around, {identifier}_weight + k * {inputs * rows * columns}"
    numbers = f"{identifier}_bias[k], {identifier}_multiplier[k], {layer.zero_point}"
    call = f"fastlenet_conv2d(&{struct}, {{x}}, {arrays}, {numbers}, sums, {{y}})"
    defined = define_window(struct, (rows, columns), layer.stride, layer.padding, shape, out)
    return Part(layer.name, layer.kind, "conv", out, call, constants, defined, sums=out[2])


def _linear(layer: QuantizedLinear, identifier: str) -> Part:
    outputs, inputs = layer.weight.shape
    constants = [
        Constant("int8_t", f"{identifier}_weight", layer.weight, f"{outputs}x{inputs}: outputs, inputs"),
        Constant("int32_t", f"{identifier}_bias", layer.bias, ""),
        Constant("float", f"{identifier}_multiplier", layer.multiplier, ""),
    ]
    arrays = ", ".join(constant.name for constant in constants)
    if layer.zero_point is None:
        call = f"fastlenet_last_linear({{x}}, {inputs}, {arrays}, {{y}}, {outputs})"
    else:
        call = f"fastlenet_linear({{x}}, {inputs}, {arrays}, {layer.zero_point}, {{y}}, {outputs})"
    return Part(layer.name, layer.kind, "linear", layer.output_shape, call, constants)
