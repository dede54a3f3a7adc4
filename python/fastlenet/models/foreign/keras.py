"""The network that a file of Keras describes.

The layouts are checked with files that Keras 3.15.1 and Keras 2.15.0 (TensorFlow 2.15.1) wrote, and with their predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import shown
from fastlenet.formats.keras import KerasFile
from fastlenet.models.foreign.building import Building, Pair
from fastlenet.models.foreign.keras_config import Config, expect_one_of, in_order, number, of_type, pair, snake_case
from fastlenet.models.recognising import Note
from fastlenet.nn import AvgPool2d, MaxPool2d

__all__ = ["ASSUMED", "built_from_keras"]

_DEEPEST = 4
_CONTAINERS = ("Sequential", "Functional", "Model")
ASSUMED = Note("does not say how its images are normalised; taken as pixels in [0, 1], by mean 0 and std 1", of_pixels=True)
_EPSILON = 1e-7  # what Keras's Normalization adds to a deviation of zero
# Layers that change nothing but in training.
_IDLE = ("SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization")


def built_from_keras(file: KerasFile) -> Building:
    """Returns the network that a file describes. Raises ValueError, which names the layer, for what fastlenet does not have."""
    assert file.config is not None
    reader = _Reader(file)
    reader.read(file.config, "", 0)
    return reader.building()


class _Reader:
    """Adds Keras's layers to a network, one after the other."""

    def __init__(self, file: KerasFile) -> None:
        self._file = file
        self._build: Building | None = None
        self._first = False  # whether images are (c, h, w); else (h, w, c)
        self._taken: dict[str, int] = {}  # of the arrays of a container

    def building(self) -> Building:
        if self._build is None or not self._build.layers:
            raise ValueError("the network has no layers")
        if not self._build.is_normalised:
            self._build.leave_unscaled()
            self._build.notes.append(ASSUMED)
        return self._build

    def read(self, described: Config, prefix: str, depth: int) -> None:
        """Read a network, or one within it. prefix: where its layers' arrays are."""
        kind = of_type(described, "class_name", str)
        if kind not in _CONTAINERS or depth > _DEEPEST:
            raise ValueError(f"a network of the class {shown(kind)}, which its file does not describe; Sequential is read")
        counts: dict[str, int] = {}
        layers = in_order(described)
        if any(of_type(config, "data_format", str, "") == "channels_first" for _, _, config in layers):
            self._first = True
        for kind, name, config in layers:
            if self._build is None:
                self._begin(config)
            word = snake_case(kind)
            count = counts[word] = counts.get(word, -1) + 1
            place = name if self._file.by_name else f"{word}_{count}" if count else word
            if kind in _CONTAINERS:
                inner = {"class_name": kind, "config": config}
                self.read(inner, prefix or place if self._file.by_name else f"{prefix}{place}/", depth + 1)
                continue
            where = prefix if self._file.by_name and prefix else f"{prefix}{place}"
            if kind != "InputLayer" and not kind.startswith("Random") and kind not in _IDLE:
                self._layer(kind, name, config, where)

    def _begin(self, config: Config) -> None:
        """The shape of the images, from the first layer that says it."""
        said = config.get("batch_shape", config.get("batch_input_shape"))
        if not isinstance(said, list) or not all(size is None or type(size) is int for size in said):
            return
        shape = tuple(said[1:])
        if None in shape or not 1 <= len(shape) <= 3:
            raise ValueError(f"images of a shape that is not known, {shape}; a size of pixels must be given in Keras")
        self._build = Building(self._ours(shape))

    def _ours(self, shape: Shape) -> Shape:
        """(c, h, w) of the shape that Keras gives."""
        if len(shape) == 2:
            return (1, *shape)
        return shape if len(shape) == 1 or self._first else (shape[2], *shape[:2])

    def _arrays(self, where: str, counts: tuple[int, ...], name: str) -> list[Array]:
        """The next arrays of a layer. counts: how many it may have."""
        arrays, start = self._file.weights.get(where, []), self._taken.get(where, 0)
        count = max(counts)
        if len(arrays) - start < count:
            raise ValueError(f"layer {shown(name)} expects {count} arrays of weights, the file has {len(arrays) - start}")
        self._taken[where] = start + count
        return arrays[start : start + count]

    # --- the layers ---

    def _layer(self, kind: str, name: str, config: Config, where: str) -> None:
        build = self._build
        if build is None:
            raise ValueError("the network does not say the shape of its images; give it an Input in Keras")
        if kind not in _LAYERS:
            raise ValueError(f"layer {shown(name)}: {shown(kind)} has no layer in fastlenet; those that are read: {_READ}")
        _LAYERS[kind](self, build, name, config, where)

    def _conv(self, build: Building, name: str, config: Config, where: str) -> None:
        expect_one_of(config, name, "dilation_rate", (1, [1, 1]))
        expect_one_of(config, name, "groups", (1,))
        self._expect_format(config, name)
        kernel, *bias = self._arrays(where, (2 if of_type(config, "use_bias", bool, True) else 1,), name)
        if kernel.ndim != 4:
            raise ValueError(f"layer {shown(name)} expects a kernel of four axes, got {kernel.shape}")
        stride = pair(config, "strides", (1, 1))
        padding = self._padding(name, config, (kernel.shape[0], kernel.shape[1]), stride)
        build.conv(name, kernel.transpose(3, 2, 0, 1), bias[0] if bias else None, stride, padding)
        self._activation(build, name, config.get("activation"))

    def _dense(self, build: Building, name: str, config: Config, where: str) -> None:
        kernel, *bias = self._arrays(where, (2 if of_type(config, "use_bias", bool, True) else 1,), name)
        if len(build.shape) != 1:
            raise ValueError(f"layer {shown(name)} expects flattened inputs, got {build.shape}")
        build.linear(name, kernel.T, bias[0] if bias else None)
        self._activation(build, name, config.get("activation"))

    def _pool(self, build: Building, name: str, config: Config, kind: type[MaxPool2d] | type[AvgPool2d]) -> None:
        self._expect_format(config, name)
        size = pair(config, "pool_size", (2, 2))
        stride = pair(config, "strides", size)
        padding = self._padding(name, config, size, stride)
        if kind is AvgPool2d and padding != (0, 0):
            raise ValueError(f"layer {shown(name)}: a mean that leaves out the padding has no layer in fastlenet")
        build.pool(name, kind, size, stride, padding)

    def _global_pool(self, build: Building, name: str, config: Config, kind: type[MaxPool2d] | type[AvgPool2d]) -> None:
        self._expect_format(config, name)
        if len(build.shape) != 3:
            raise ValueError(f"layer {shown(name)} expects images, got {build.shape}")
        size = build.shape[1], build.shape[2]
        build.pool(name, kind, size, size)
        if not of_type(config, "keepdims", bool, False):
            build.flatten(f"{name}_flatten")

    def _flatten(self, build: Building, name: str, config: Config, where: str) -> None:
        # Keras's Flatten of channels_first brings the channels to the end first, and then flattens as the other.
        turned = of_type(config, "data_format", str, "channels_last") == "channels_first"
        if turned and not self._first and len(build.shape) == 3:
            raise ValueError(f"layer {shown(name)} flattens images (h, w, c) as if they were channels_first")
        build.flatten(name, channels_last=turned or not self._first)

    def _reshape(self, build: Building, name: str, config: Config, where: str) -> None:
        """Only what leaves the numbers in their order: (28, 28) to (28, 28, 1), (784,) to it, or images to a row."""
        target = config.get("target_shape")
        if not isinstance(target, list) or not all(type(size) is int for size in target):
            raise ValueError(f"layer {shown(name)} expects a target_shape")
        whole = math.prod(build.shape)
        if target in ([-1], [whole]):
            build.flatten(name, channels_last=not self._first)
            return
        rest = math.prod(size for size in target if size != -1)
        sizes = [whole // max(rest, 1) if size == -1 else size for size in target]
        shape = self._ours(tuple(sizes))
        moved = len(build.shape) == 3 and shape[1:] != build.shape[1:]
        if moved or build.layers or len(target) not in (2, 3) or math.prod(sizes) != whole or shape[0] != 1 or min(sizes) < 1:
            raise ValueError(f"layer {shown(name)}: a Reshape to {shown(target)} has no layer in fastlenet")
        build.input_shape = build.shape = shape

    def _rescaling(self, build: Building, name: str, config: Config, where: str) -> None:
        build.rescale(name, config.get("scale", 1.0), config.get("offset", 0.0))

    def _normalization(self, build: Building, name: str, config: Config, where: str) -> None:
        expect_one_of(config, name, "invert", (False,))
        mean, variance = config.get("mean"), config.get("variance")
        if mean is None or variance is None:
            mean, variance = self._arrays(where, (2,), name)
        means, deviations = np.asarray(mean, np.float64), np.sqrt(np.asarray(variance, np.float64))
        deviations = np.maximum(deviations, _EPSILON)
        build.rescale(name, 1 / deviations, -means / deviations)

    def _activation(self, build: Building, name: str, said: object) -> None:
        """An activation by its name, or as Keras describes an object."""
        if said is None or said == "linear":
            return
        if not isinstance(said, str):
            raise ValueError(f"layer {shown(name)}: an activation of a class or a function of its own, {shown(said)[:60]}")
        build.activation(f"{name}_{said}", said, slope=0.2)  # Keras's leaky_relu; the layer LeakyReLU has 0.3

    def _relu(self, build: Building, name: str, config: Config, where: str) -> None:
        expect_one_of(config, name, "max_value", (None,))
        expect_one_of(config, name, "threshold", (0, None))
        slope = number(config, "negative_slope", 0.0)
        build.activation(name, "leaky_relu" if slope else "relu", slope)

    def _leaky_relu(self, build: Building, name: str, config: Config, where: str) -> None:
        build.activation(name, "leaky_relu", number(config, "negative_slope" if "negative_slope" in config else "alpha", 0.3))

    def _softmax(self, build: Building, name: str, config: Config, where: str) -> None:
        expect_one_of(config, name, "axis", (-1, [-1], 1))
        build.activation(name, "softmax")

    def _dropout(self, build: Building, name: str, config: Config, where: str) -> None:
        build.dropout(name, number(config, "rate", 0.0))

    def _expect_format(self, config: Config, name: str) -> None:
        if self._build is not None and len(self._build.shape) != 3:
            raise ValueError(f"layer {shown(name)} expects images, got {self._build.shape}")
        if (of_type(config, "data_format", str, "channels_last") == "channels_first") != self._first:
            raise ValueError(f"layer {shown(name)} has another data_format than the layers before it")

    def _padding(self, name: str, config: Config, size: Pair, stride: Pair) -> Pair:
        """The zeros on each side. "same" is read where Keras pads both sides alike."""
        said = of_type(config, "padding", str, "valid")
        if said == "valid":
            return 0, 0
        if said != "same" or self._build is None:
            raise ValueError(f"layer {shown(name)}: the padding {shown(said)} has no layer in fastlenet")
        whole = self._build.same_padding(name, size, stride)
        if any(zeros % 2 for zeros in whole):
            raise ValueError(f"layer {shown(name)}: 'same' pads one side more than the other, which no layer in fastlenet does")
        return whole[0] // 2, whole[1] // 2


Handler = Callable[[_Reader, Building, str, Config, str], None]

_LAYERS: Mapping[str, Handler] = {
    "Conv2D": _Reader._conv,
    "Dense": _Reader._dense,
    "MaxPooling2D": lambda self, build, name, config, where: self._pool(build, name, config, MaxPool2d),
    "AveragePooling2D": lambda self, build, name, config, where: self._pool(build, name, config, AvgPool2d),
    "GlobalMaxPooling2D": lambda self, build, name, config, where: self._global_pool(build, name, config, MaxPool2d),
    "GlobalAveragePooling2D": lambda self, build, name, config, where: self._global_pool(build, name, config, AvgPool2d),
    "Flatten": _Reader._flatten,
    "Reshape": _Reader._reshape,
    "Rescaling": _Reader._rescaling,
    "Normalization": _Reader._normalization,
    "Activation": lambda self, build, name, config, where: self._activation(build, name, config.get("activation")),
    "ReLU": _Reader._relu,
    "LeakyReLU": _Reader._leaky_relu,
    "Softmax": _Reader._softmax,
    "Dropout": _Reader._dropout,
}
_READ = ", ".join(_LAYERS)
