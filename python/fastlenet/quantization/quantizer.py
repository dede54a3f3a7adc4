"""From a trained network to one of integers: ranges measured on images, scales, weights, biases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastlenet import reference
from fastlenet.backend import Shape
from fastlenet.data.dataset import Dataset
from fastlenet.fields import shown
from fastlenet.inference.forward import expect_finite
from fastlenet.inference.raw import RawImages
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
from fastlenet.nn.described import plain_kind
from fastlenet.nn.description import expect_library_layers
from fastlenet.quantization.layers import (
    QuantizedAvgPool2d,
    QuantizedConv2d,
    QuantizedFlatten,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedMaxPool2d,
    QuantizedTable,
    Scores,
)
from fastlenet.quantization.model import QuantizedModel

__all__ = ["CALIBRATION", "quantize"]

CALIBRATION = 500  # images whose activations give the ranges

_PIECE = 100  # calibration images at a time
_INT32 = 2**31 - 1
_ACTIVATIONS: dict[type[Layer], Callable[[Layer, npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    ReLU: lambda layer, x: reference.relu_forward(x),
    LeakyReLU: lambda layer, x: reference.leaky_relu_forward(x, layer.slope),  # type: ignore[attr-defined]  # it has one
    Sigmoid: lambda layer, x: reference.sigmoid_forward(x),
    Tanh: lambda layer, x: reference.tanh_forward(x),
}
Floats = npt.NDArray[np.float64]


def quantize(model: Sequential, images: object) -> QuantizedModel:
    """Returns the network in integers of 8 bits; the model does not change.

    images: a Dataset, or raw images as model.predict takes them. At most 500 of the training images, evenly spaced, are used:
    their activations give the range of each layer. Labels are not needed.
    Raises TypeError or ValueError, in one line, for a model whose images or normalisation are not known, with a layer of your
    own, with parameters that are not finite, or that does not end in one score for each class.

        >>> import fastlenet
        >>> from fastlenet.data import load_mnist
        >>> data = load_mnist()
        >>> small = fastlenet.LeNet.pretrained().quantize(data)
        >>> small.predict(data.test_images[:3]), small.nbytes
        (array([7, 2, 1]), 435161)
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"quantize: model expects a Sequential such as LeNet, got {type(model).__name__}")
    plain_kind(type(model), "quantize")
    expect_library_layers("quantize", model.names, model.layers)
    expect_finite(model)
    if model.preprocessing:
        cure = "quantize a network whose recipe has width 0 and no deskew"
        raise ValueError(
            f"quantize: the model preprocesses its images ({model.preprocessing}), which int8 has no op for; {cure}"
        )
    raw = model._raw("quantize", _calibration_images(images))
    model._normalisation("quantize")
    return QuantizedModel(_Quantizer(model, _ranges(model, raw)).layers(), model.facts, type(model).__name__)


def _calibration_images(images: object) -> object:
    """At most CALIBRATION images, evenly spaced."""
    if isinstance(images, Dataset):
        images = images.train_images
    count = len(images) if hasattr(images, "__len__") else 0
    if count <= CALIBRATION:
        return images
    return np.asarray(images)[np.arange(CALIBRATION) * count // CALIBRATION]


def _ranges(model: Sequential, raw: RawImages) -> dict[str, tuple[float, float]]:
    """The least and the largest output of each layer, by its name."""
    pieces = [model.activations(piece) for piece in raw.batches(_PIECE)]
    ranges = {
        name: (min(float(p[name].min()) for p in pieces), max(float(p[name].max()) for p in pieces)) for name in model.names
    }
    odd = next((name for name, ends in ranges.items() if not all(map(math.isfinite, ends))), None)
    if odd is not None:
        raise ValueError(f"quantize: layer {shown(odd)} gives NaN or infinity for these images")
    return ranges


@dataclass(frozen=True)
class _Tensor:
    """The bytes between two layers: q stands for scale * (q - zero). shape: of one example.

    scale, zero: float64, of each channel, or feature after Flatten, or one for all. padding: uint8 (channels,), the bytes that
    are nearest to 0.
    """

    shape: Shape
    scale: Floats
    zero: Floats

    @property
    def padding(self) -> npt.NDArray[np.uint8]:
        channels: npt.NDArray[np.uint8] = np.clip(np.rint(self.zero), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(channels, self.shape[0]))

    @property
    def uniform(self) -> bool:
        """Whether all channels have one scale and one zero."""
        return bool((self.scale == self.scale[0]).all() and (self.zero == self.zero[0]).all())


class _Quantizer:
    """Quantizes the layers in order, and keeps the scale and the zero of the current bytes."""

    def __init__(self, model: Sequential, ranges: dict[str, tuple[float, float]]) -> None:
        self._model, self._ranges = model, ranges
        shape = model.facts.input_shape or ()
        mean, std = (np.broadcast_to(np.asarray(value, np.float64), shape[0]) for value in (model.facts.mean, model.facts.std))
        self._tensor = _Tensor(shape, 1 / (255 * std), 255 * mean)  # (byte / 255 - mean) / std
        self._is_image = True  # not yet changed by a layer with a scale of its own
        self._made: list[QuantizedLayer] = []

    def layers(self) -> list[QuantizedLayer]:
        todo = [(name, layer) for name, layer in zip(self._model.names, self._model.layers, strict=True)]
        todo = [(name, layer) for name, layer in todo if not isinstance(layer, Dropout)]  # which changes nothing here
        for at, (name, layer) in enumerate(todo):
            self._add(name, layer, todo[at + 1 :])
        if self._made and isinstance(self._made[-1], (QuantizedConv2d, QuantizedLinear)) and self._made[-1].zero_point is None:
            return self._made
        self._expect_uniform("the scores")
        scale, zero = np.float32(self._tensor.scale[0]), int(np.rint(self._tensor.zero[0]))
        return [*self._made, Scores("scores", self._tensor.shape, scale, zero)]

    def _add(self, name: str, layer: Layer, rest: Sequence[tuple[str, Layer]]) -> None:
        before = self._tensor
        shape = layer.output_shape(before.shape)
        if isinstance(layer, (Conv2d, AvgPool2d)) and any(layer.padding):
            self._expect_a_zero(name)
        if isinstance(layer, (Conv2d, Linear)):
            self._add_product(name, layer, shape, rest)
        elif isinstance(layer, MaxPool2d):
            self._made.append(QuantizedMaxPool2d(name, shape, layer.kernel_size, layer.stride, layer.padding))
            self._tensor = replace(before, shape=shape)
        elif isinstance(layer, AvgPool2d):
            factor = np.float32(1 / math.prod(layer.kernel_size))
            sizes = layer.kernel_size, layer.stride, layer.padding
            self._made.append(QuantizedAvgPool2d(name, shape, *sizes, before.padding, factor))
            self._tensor = replace(before, shape=shape)
        elif isinstance(layer, Flatten):
            if len(before.shape) == 1:
                return
            pixels = math.prod(before.shape) // len(before.scale)
            self._made.append(QuantizedFlatten(name, shape))
            self._tensor = _Tensor(shape, np.repeat(before.scale, pixels), np.repeat(before.zero, pixels))
        elif not (isinstance(layer, ReLU) and not self._is_image and (before.zero == 0).all()):  # else it changes nothing
            self._add_table(name, layer, shape)

    # --- products ---

    def _add_product(self, name: str, layer: Conv2d | Linear, shape: Shape, rest: Sequence[tuple[str, Layer]]) -> None:
        before = self._tensor
        state = self._model.state_dict()
        weight = np.asarray(state[f"{name}.weight"], np.float64)
        bias = np.asarray(state[f"{name}.bias"], np.float64) if layer.bias else np.zeros(len(weight))
        per_input = (slice(None), slice(None), None, None) if weight.ndim == 4 else (slice(None), slice(None))
        scale, zero = (np.broadcast_to(value, weight.shape[1])[None][per_input] for value in (before.scale, before.zero))
        integers, biases, unit = _integers(weight * scale, bias, zero)
        last = all(isinstance(other, Flatten) for _, other in rest) and len(shape) == 1
        if last:
            multiplier, zero_point = unit, None
        else:
            after = self._range_behind(name, rest)
            self._tensor = _tensor(shape, *after)
            multiplier, zero_point = unit / self._tensor.scale[0], int(self._tensor.zero[0])
        factors = multiplier.astype(np.float32)
        if not np.isfinite(factors).all():
            raise ValueError(f"quantize: layer {shown(name)}: its weights are too large for a multiplier in float32")
        self._is_image = False
        if isinstance(layer, Linear):
            self._made.append(QuantizedLinear(name, shape, integers, biases, factors, zero_point))
            return
        window = layer.stride, layer.padding, before.padding
        self._made.append(QuantizedConv2d(name, shape, integers, biases, factors, zero_point, *window))

    def _range_behind(self, name: str, rest: Sequence[tuple[str, Layer]]) -> tuple[float, float]:
        """The range of a product's bytes. A ReLU behind it, at once or after a maximum, cuts off what is negative."""
        low, high = self._ranges[name]
        for _, layer in rest:
            if isinstance(layer, ReLU):
                return 0.0, high
            if not isinstance(layer, (MaxPool2d, Flatten)):
                break
        return low, high

    # --- functions of a byte ---

    def _add_table(self, name: str, layer: Layer, shape: Shape) -> None:
        self._expect_uniform(f"layer {shown(name)}")
        before = self._tensor
        x = before.scale[0] * (np.arange(256) - before.zero[0])
        y = _ACTIVATIONS[type(layer)](layer, x)
        self._tensor = after = _tensor(shape, *self._ranges[name])
        self._is_image = False
        table = np.clip(np.rint(y / after.scale[0]) + after.zero[0], 0, 255).astype(np.uint8)
        self._made.append(QuantizedTable(name, shape, table, type(layer).__name__))

    def _expect_a_zero(self, name: str) -> None:
        """Raise ValueError unless a byte stands for 0, with which the layer pads. In the image this is the byte of the mean."""
        if ((self._tensor.zero < 0) | (self._tensor.zero > 255)).any():
            what = "pads the image by zeros, for which there is no byte"
            raise ValueError(
                f"quantize: layer {shown(name)}: {what}; its mean expects numbers in [0, 1], got {self._model.mean}"
            )

    def _expect_uniform(self, where: str) -> None:
        if not self._tensor.uniform:
            what = "which needs one mean and one standard deviation for all channels, or a convolution before it"
            raise ValueError(f"quantize: {where}: is computed from the image itself, {what}")


def _tensor(shape: Shape, low: float, high: float) -> _Tensor:
    """Bytes for numbers from low to high, and for 0. Where all are 0, the scale is 1."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return _Tensor(shape, np.full(1, scale), np.full(1, float(round(-low / scale))))


def _integers(weight: Floats, bias: Floats, zero: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], Floats]:
    """Weights and biases as integers, and the unit of each output's sums.

    weight: (outputs, ...), for bytes. zero: the byte that stands for 0, which broadcasts to weight. The largest weight of an
    output becomes 127, or less, where its sums of bytes up to 255 would not fit int32.
    """
    flat, zeros = weight.reshape(len(weight), -1), np.broadcast_to(zero, weight.shape).reshape(len(weight), -1)
    unit = np.abs(flat).max(axis=1, initial=0.0) / 127
    unit = np.maximum(unit, 2 * np.abs(bias) / _INT32)
    unit[unit == 0] = 1.0
    while True:
        integers = np.rint(flat / unit[:, None])
        offset = np.rint(bias / unit - (integers * zeros).sum(axis=1))
        reach = 255 * np.abs(integers).sum(axis=1) + np.abs(offset)
        if (reach <= _INT32).all():
            return integers.reshape(weight.shape).astype(np.int8), offset.astype(np.int32), unit
        unit = unit * np.maximum(1, 1.01 * reach / _INT32)
