"""The layers of a network as ONNX's operations on float32."""

from __future__ import annotations

import numpy as np

from fastlenet.exports.onnx.graph import Attribute, Graph
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
from fastlenet.nn.layers.base import Sizes

__all__ = ["add_layers", "add_normalisation", "window"]

_FUNCTIONS: dict[type[Layer], str] = {Flatten: "Flatten", ReLU: "Relu", Sigmoid: "Sigmoid", Tanh: "Tanh"}


def add_normalisation(graph: Graph, model: Sequential, images: str) -> str:
    """Add (images / 255 - mean) / std for uint8 (n, c, h, w). The model knows mean and std. Returns the last value."""
    graph.layer = "normalisation"
    mean, std = (np.reshape(np.asarray(number, np.float64), (-1, 1, 1)) for number in (model.mean, model.std))
    scaled = graph.add("Mul", graph.cast(images, "float32"), graph.constant("scale", 1 / (255 * std), np.float32))
    return graph.add("Add", scaled, graph.constant("shift", -mean / std, np.float32))


def add_layers(graph: Graph, model: Sequential, x: str) -> str:
    """Add the layers, which are of the library. x: (n, *model.input_shape). Returns the last value."""
    for name, layer in zip(model.names, model.layers, strict=True):
        graph.layer = name
        if isinstance(layer, (Conv2d, Linear)):
            x = _product(graph, model, layer, x)
        elif isinstance(layer, MaxPool2d):
            x = graph.add("MaxPool", x, **window(layer.kernel_size, layer.stride, layer.padding))
        elif isinstance(layer, AvgPool2d):
            x = graph.add("AveragePool", x, **window(layer.kernel_size, layer.stride, layer.padding), count_include_pad=1)
        elif isinstance(layer, LeakyReLU):
            x = graph.add("LeakyRelu", x, alpha=layer.slope)
        elif not isinstance(layer, Dropout):
            x = graph.add(_FUNCTIONS[type(layer)], x)
    return x


def window(kernel_size: Sizes, stride: Sizes, padding: Sizes) -> dict[str, Attribute]:
    """The attributes of a window that slides over images."""
    return {"kernel_shape": kernel_size, "strides": stride, "pads": (*padding, *padding)}


def _product(graph: Graph, model: Sequential, layer: Conv2d | Linear, x: str) -> str:
    keys = ("weight", "bias") if layer.bias else ("weight",)
    parameters = model.parameters()
    constants = [graph.constant(key, np.asarray(parameters[f"{graph.layer}.{key}"]), np.float32) for key in keys]
    if isinstance(layer, Linear):
        return graph.add("Gemm", x, *constants, transB=1)
    return graph.add("Conv", x, *constants, **window(layer.kernel_size, layer.stride, layer.padding))
