"""The layers of a model in C, in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Shape
from fastlenet.exports.c.stages import Constant, Part, define_window, sized
from fastlenet.exports.c.text import real
from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)

__all__ = ["parts"]

_ACTIVATIONS = {ReLU: "relu", LeakyReLU: "leaky_relu", Sigmoid: "sigmoid", Tanh: "tanh"}
_POOLINGS = {MaxPool2d: "max_pool2d", AvgPool2d: "avg_pool2d"}


def parts(model: Sequential, identifiers: Sequence[str]) -> list[Part]:
    """Returns the layers of a model that knows its images, after the normalisation of the pixels."""
    assert model.input_shape is not None
    shape = model.input_shape
    made = [_normalisation(model, shape)]
    for layer, name, identifier in zip(model.layers, model.names, identifiers, strict=True):
        made.append(_part(model, layer, name, f"fastlenet_{identifier}", shape))
        shape = made[-1].shape
    return made


def _normalisation(model: Sequential, shape: Shape) -> Part:
    """(pixel / 255 - mean) / std as pixel * scale - shift."""
    assert model.mean is not None and model.std is not None
    mean, std = (np.broadcast_to(np.asarray(numbers, np.float64), shape[0]) for numbers in (model.mean, model.std))
    constants = [
        Constant("float", "fastlenet_scale", 1 / (255 * std), "1 / (255 * std) of each channel"),
        Constant("float", "fastlenet_shift", mean / std, "mean / std of each channel"),
    ]
    return Part("input", "", "input", shape, f"fastlenet_normalise({{x}}, {math.prod(shape[1:])}, {{y}})", constants)


def _part(model: Sequential, layer: Layer, name: str, identifier: str, shape: Shape) -> Part:
    kind, out = type(layer).__name__, layer.output_shape(shape)
    if isinstance(layer, (Flatten, Dropout)):
        return Part(name, kind, "nothing", out, "")
    struct = f"{identifier}_window"
    if isinstance(layer, (MaxPool2d, AvgPool2d)):
        call = f"fastlenet_{_POOLINGS[type(layer)]}(&{struct}, {{x}}, {{y}})"
        return Part(name, kind, "pool", out, call, (), _window(struct, layer, shape, out))
    if not isinstance(layer, (Conv2d, Linear)):
        slope = f", {real(np.float32(layer.slope))}" if isinstance(layer, LeakyReLU) else ""
        return Part(name, kind, "pointwise", out, f"fastlenet_{_ACTIVATIONS[type(layer)]}({{y}}, {{n}}{slope})")
    weight = np.asarray(model.parameters()[f"{name}.weight"])
    bias = np.asarray(model.parameters()[f"{name}.bias"]) if layer.bias else np.zeros(len(weight), np.float32)
    w, b = f"{identifier}_weight", f"{identifier}_bias"
    biases = Constant("float", b, bias, "")
    if isinstance(layer, Conv2d):
        weights = Constant("float", w, weight, f"{sized(weight.shape)}: outputs, inputs, rows, columns")
        call = f"fastlenet_conv2d(&{struct}, {{x}}, {w} + k * {weight[0].size}, {b}[k], {{y}})"
        return Part(name, kind, "conv", out, call, [weights, biases], _window(struct, layer, shape, out))
    weights = Constant("float", w, np.ascontiguousarray(weight.T), f"{sized(weight.T.shape)}: inputs, outputs")
    call = f"fastlenet_linear({{x}}, {weight.shape[1]}, {w}, {b}, {{y}}, {len(weight)})"
    return Part(name, kind, "linear", out, call, [weights, biases])


def _window(name: str, layer: Conv2d | MaxPool2d | AvgPool2d, shape: Shape, out: Shape) -> str:
    return define_window(name, layer.kernel_size, layer.stride, layer.padding, shape, out)
