"""The network that a `.caffemodel` describes. Caffe keeps kernels, matrices and images in the order that fastlenet has.

Source of what a layer computes: github.com/BVLC/caffe, src/caffe/layers. Caffe's LeNet, lenet_train_test.prototxt in its
examples/mnist, has one ReLU, behind ip1, and multiplies pixels of 0..255 by 0.00390625.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import shown
from fastlenet.formats.caffe import CaffeFile, CaffeLayer
from fastlenet.formats.protobuf import Message
from fastlenet.models.foreign.building import Building, Pair
from fastlenet.models.recognising import Note, UndecidedError
from fastlenet.nn import AvgPool2d, Conv2d, MaxPool2d, ReLU

__all__ = ["built_from_caffe"]

_SOURCES = ("Data", "HDF5Data", "ImageData", "MemoryData", "Input")
_LARGEST_SIDE = 512  # of images, where their size is sought
_MNIST_SCALE = 0.00390625
_ASSUMED = Note(f"does not say how its images are scaled; taken as Caffe's LeNet takes them, 0..255 times {_MNIST_SCALE}", True)


def built_from_caffe(file: CaffeFile, image_size: Pair | None) -> Building:
    """Returns the network of a file. image_size: of its images, if the file does not say it.

    Raises UndecidedError, or ValueError, which names the layer, for what fastlenet does not have.
    """
    layers = _row(file)
    first = next((layer for layer in layers if layer.kind == "Convolution"), None)
    if first is None or not first.blobs or first.blobs[0].ndim != 4:
        raise ValueError("a network without a convolution, of images whose shape is not known")
    channels = first.blobs[0].shape[1]
    if image_size is None and len(file.input_shape) == 4:
        image_size = file.input_shape[2], file.input_shape[3]
    side = _side(layers, channels) if image_size is None else image_size
    build = Building((channels, *side))
    _scale(build, file)
    _add(build, layers)
    if sum(isinstance(layer, ReLU) for layer in build.layers) == 1:
        place = next(place for place, layer in enumerate(build.layers) if isinstance(layer, ReLU))
        if any(isinstance(layer, Conv2d) for layer in build.layers[:place]):
            behind = build.names[place - 1]
            build.notes.append(Note(f"has one ReLU only, behind {behind}, as Caffe's LeNet has; taken as a Sequential"))
    return build


def _row(file: CaffeFile) -> list[CaffeLayer]:
    """The layers that compute, in order. Raises ValueError unless they are one row."""
    row = []
    top: str | None = None
    for layer in file.layers:
        if layer.kind in _SOURCES:
            top = top or (layer.tops or ("data",))[0]
        elif layer.kind not in ("Accuracy", "SoftmaxWithLoss"):
            if not layer.bottoms or (top is not None and layer.bottoms != (top,)) or len(layer.tops) > 1:
                raise ValueError(
                    f"layer {shown(layer.name)} does not follow the layer before it; only layers in a row are read"
                )
            row.append(layer)
            top = layer.tops[0] if layer.tops else layer.bottoms[0]
    return row


def _side(layers: list[CaffeLayer], channels: int) -> Pair:
    """The size of square images for which every pooling fits exactly and the first matrix has its number of inputs."""
    fitting = []
    for side in range(1, _LARGEST_SIDE + 1):
        try:
            _add(Building((channels, side, side)), layers, to_the_matrix=True)
        except ValueError:
            continue
        fitting.append((side, side))
    if len(fitting) != 1:
        raise UndecidedError("it does not say the size of its images", "image_size", "such as 28")
    return fitting[0]


def _add(build: Building, layers: list[CaffeLayer], *, to_the_matrix: bool = False) -> None:
    """Add the layers. to_the_matrix: up to the first matrix, whose inputs must be the outputs of the layer before it."""
    for layer in layers:
        if layer.kind not in _LAYERS:
            raise ValueError(f"layer {shown(layer.name)}: {shown(layer.kind)} has no layer in fastlenet")
        if to_the_matrix and layer.kind == "InnerProduct" and layer.blobs:
            axis = -2 if layer.settings["linear"].integer(6) else -1
            if layer.blobs[0].ndim < 2 or math.prod(build.shape) != layer.blobs[0].shape[axis]:
                raise ValueError("images of another size")
            return
        _LAYERS[layer.kind](build, layer)


def _scale(build: Building, file: CaffeFile) -> None:
    """Caffe subtracts the mean from pixels of 0..255, and then multiplies them."""
    build.white = 255.0
    sources = [layer for layer in file.layers if layer.kind in _SOURCES and layer.kind != "Input"]
    if not sources:
        build.rescale("", _MNIST_SCALE)
        build.notes.append(_ASSUMED)
        return
    transform = sources[0].settings["transform"]
    if 4 in transform:
        raise ValueError("the mean of its images is in another file, which is not read")
    scale, mean = transform.float(1, 1.0), transform.floats(5).astype(np.float64)
    build.rescale("", scale, -scale * mean if mean.size else 0.0)


# --- the layers ----------------------------------------------------------------------------------------------------------


def _conv(build: Building, layer: CaffeLayer) -> None:
    said = layer.settings["conv"]
    if said.integer(5, 1) != 1 or any(number != 1 for number in said.integers(18)):
        raise ValueError(f"layer {shown(layer.name)}: groups and dilation have no layer in fastlenet")
    weight, bias = _weights(layer, said)
    stride, padding = _pair(said, 6, 13, 14, 1), _pair(said, 3, 9, 10, 0)
    if weight.ndim == 4 and _pair(said, 4, 11, 12, 0) not in ((0, 0), weight.shape[2:]):
        raise ValueError(f"layer {shown(layer.name)} has kernels of another size than its weights")
    build.conv(layer.name, weight, bias, stride, padding)


def _linear(build: Building, layer: CaffeLayer) -> None:
    said = layer.settings["linear"]
    if said.integer(5, 1) != 1:
        raise ValueError(f"layer {shown(layer.name)}: a product along another axis has no layer in fastlenet")
    weight, bias = _weights(layer, said)
    if weight.ndim == 4 and weight.shape[:2] == (1, 1):  # the older form of a blob
        weight = weight.reshape(weight.shape[2:])
    if len(build.shape) > 1:
        build.flatten(f"{layer.name}_flatten")
    build.linear(layer.name, weight.T if said.integer(6) else weight, bias)


def _weights(layer: CaffeLayer, said: Message) -> tuple[Array, Array | None]:
    count = 2 if said.integer(2, 1) else 1
    if len(layer.blobs) != count:
        raise ValueError(f"layer {shown(layer.name)} expects {count} arrays of weights, the file has {len(layer.blobs)}")
    return layer.blobs[0], layer.blobs[1].reshape(-1) if count == 2 else None


def _pool(build: Building, layer: CaffeLayer) -> None:
    said = layer.settings["pool"]
    if said.integer(1) not in (0, 1) or len(build.shape) != 3:
        raise ValueError(f"layer {shown(layer.name)}: this pooling has no layer in fastlenet")
    rows, columns = build.shape[1:]
    size = (rows, columns) if said.integer(12) else _pair(said, 2, 5, 6, 0)
    stride, padding = _pair(said, 3, 7, 8, 1), _pair(said, 4, 9, 10, 0)
    for length, window, step, zeros in zip((rows, columns), size, stride, padding, strict=True):
        if (length + 2 * zeros - window) % max(step, 1):
            rest = f"Caffe pools the rest of {length} pixels too, by {window} in steps of {step}"
            raise ValueError(f"layer {shown(layer.name)}: {rest}, which no layer in fastlenet does")
    kind: type[MaxPool2d] | type[AvgPool2d] = AvgPool2d if said.integer(1) else MaxPool2d
    if kind is AvgPool2d and padding != (0, 0):
        raise ValueError(f"layer {shown(layer.name)}: the mean of padded windows has no layer in fastlenet")
    build.pool(layer.name, kind, size, stride, padding)


def _relu(build: Building, layer: CaffeLayer) -> None:
    slope = layer.settings["relu"].float(1)
    build.activation(layer.name, "leaky_relu" if slope else "relu", slope)


def _dropout(build: Building, layer: CaffeLayer) -> None:
    build.dropout(layer.name, round(layer.settings["dropout"].float(1, 0.5), 7))


def _pair(said: Message, both: int, rows: int, columns: int, default: int) -> Pair:
    """Two sizes: of one field, which may have one or two numbers, or of a field each."""
    if rows in said or columns in said:
        return said.integer(rows, default), said.integer(columns, default)
    numbers = said.integers(both) or [default]
    if len(numbers) > 2:
        raise ValueError(f"two sizes are expected, got {len(numbers)}")
    return numbers[0], numbers[-1]


_LAYERS: Mapping[str, Callable[[Building, CaffeLayer], None]] = {
    "Convolution": _conv,
    "InnerProduct": _linear,
    "Pooling": _pool,
    "ReLU": _relu,
    "Sigmoid": lambda build, layer: build.activation(layer.name, "sigmoid"),
    "TanH": lambda build, layer: build.activation(layer.name, "tanh"),
    "Softmax": lambda build, layer: build.activation(layer.name, "softmax"),
    "Dropout": _dropout,
    "Flatten": lambda build, layer: build.flatten(layer.name),
}
