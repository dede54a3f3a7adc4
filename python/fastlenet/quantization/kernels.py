"""Layers of integers on the compiled kernels: one object that computes all of them, image by image, with the same bits."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastlenet import _core
from fastlenet.backend import Shape
from fastlenet.quantization.layers import (
    Bytes,
    QuantizedAvgPool2d,
    QuantizedConv2d,
    QuantizedFlatten,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedMaxPool2d,
    QuantizedTable,
    Scores,
)

__all__ = ["Kernels", "built"]


class Kernels:
    """The layers, packed at the first call for the unit in use, and again when that changes (see docs/levels.md).

    You may call it from several threads at once. input_shape: (c, h, w) of the images.
    """

    def __init__(self, layers: Sequence[QuantizedLayer], input_shape: Shape) -> None:
        self._layers, self._shape = tuple(layers), input_shape
        self._network: _core.Int8Network | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Bytes) -> npt.NDArray[np.float32]:
        """Returns the scores, float32 (n, classes), of images, uint8 (n, c, h, w)."""
        network = self._network
        if network is None or network.unit != _core.int8_unit():
            with self._lock:
                network = self._network = built(self._layers, self._shape)
        return network.scores(images, None)

    def __reduce__(self) -> tuple[object, ...]:
        return Kernels, (self._layers, self._shape)


def built(layers: Sequence[QuantizedLayer], input_shape: Shape) -> _core.Int8Network:
    """Returns the layers on the kernels. Raises ValueError or TypeError if they do not fit, or if a sum may overflow."""
    network = _core.Int8Network(*input_shape)
    at = 0
    while at < len(layers):
        layer = layers[at]
        at += 1
        if isinstance(layer, QuantizedConv2d):
            window = _window(layers[at : at + 1])
            at += window is not None
            sizes = layer.stride, layer.padding, layer.padding_value, window or 1
            network.add_conv(layer.weight, layer.bias, layer.multiplier, layer.zero_point, *sizes)
        else:
            _add(network, layer)
    return network


def _window(behind: Sequence[QuantizedLayer]) -> tuple[int, int] | None:
    """The windows of a maximum that the convolution before it can take, since they are disjoint."""
    if behind and isinstance(behind[0], QuantizedMaxPool2d):
        pool = behind[0]
        if pool.stride == pool.kernel_size and pool.padding == (0, 0):
            return pool.kernel_size
    return None


def _add(network: _core.Int8Network, layer: QuantizedLayer) -> None:
    if isinstance(layer, QuantizedLinear):
        network.add_linear(layer.weight, layer.bias, layer.multiplier, layer.zero_point)
    elif isinstance(layer, QuantizedMaxPool2d):
        network.add_max_pool(layer.kernel_size, layer.stride, layer.padding)
    elif isinstance(layer, QuantizedAvgPool2d):
        network.add_avg_pool(layer.kernel_size, layer.stride, layer.padding, layer.zero_point, layer.multiplier)
    elif isinstance(layer, QuantizedTable):
        network.add_table(layer.table)
    elif isinstance(layer, QuantizedFlatten):
        network.add_flatten()
    elif isinstance(layer, Scores):
        network.add_scores(layer.scale, layer.zero_point)
    else:
        raise TypeError(f"quantization: no kernel for a {type(layer).__name__}")
