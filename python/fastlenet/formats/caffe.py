"""Caffe's `.caffemodel`: layers in a row, with their weights, in both of its forms.

Source of the fields' numbers: src/caffe/proto/caffe.proto of github.com/BVLC/caffe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastlenet.backend import Array
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, quoted, size_of
from fastlenet.formats.protobuf import Budget, Message

__all__ = ["CaffeFile", "CaffeLayer", "read_caffe"]

_MOST_LAYERS = 1000
_TEST = 1  # the phase

# The numbers of a layer's fields in the form LayerParameter, and in V1LayerParameter before it.
_NEW = {"name": 1, "type": 2, "bottom": 3, "top": 4, "blobs": 7, "include": 8, "transform": 100, "conv": 106, "dropout": 108}
_NEW |= {"linear": 117, "input": 143, "pool": 121, "relu": 123}
_OLD = {"name": 4, "type": 5, "bottom": 2, "top": 3, "blobs": 6, "include": 32, "transform": 36, "conv": 10, "dropout": 12}
_OLD |= {"linear": 17, "input": 0, "pool": 19, "relu": 30}
# The types of V1LayerParameter by their numbers, by the names of LayerParameter.
_OLD_TYPES: Mapping[int, str] = {
    **{1: "Accuracy", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 9: "HDF5Data", 12: "ImageData"},
    **{14: "InnerProduct", 17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 23: "TanH"},
    **{29: "MemoryData", 22: "Split"},
}


@dataclass(frozen=True)
class CaffeLayer:
    """kind: its type, such as "Convolution". settings: the message with its parameters."""

    kind: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[Array, ...]
    settings: Mapping[str, Message]


@dataclass(frozen=True)
class CaffeFile:
    """input_shape: (n, c, h, w) of the images, if the file says it."""

    layers: tuple[CaffeLayer, ...]
    input_shape: tuple[int, ...]


def read_caffe(path: Path) -> CaffeFile:
    """Returns the layers of a `.caffemodel`, without those that are for testing alone.

    Nothing is executed, and no other file is opened. Memory: at most three times the file, and 100 MB for its layers. Raises
    CheckpointError.
    """
    with opened(path, "a file of Caffe") as stream:
        expect(size_of(stream) <= MAX_BYTES, f"{size_of(stream):,} bytes, where at most {MAX_BYTES:,} are expected")
        net = Message(memoryview(stream.read()), Budget())
        new, old = net.messages(100), net.messages(2)
        expect(bool(new) != bool(old) and len(new) + len(old) <= _MOST_LAYERS, "no layers, or layers of two forms, or too many")
        layers = [_layer(layer, _NEW if new else _OLD, old=bool(old)) for layer in new or old]
        shape = net.integers(4) or [size for blob in net.messages(8) for size in blob.integers(1)]
        for layer in layers:
            if layer is not None and layer.kind == "Input":
                shape = layer.settings["input"].message(1).integers(1)
        expect(all(0 < size < 2**31 for size in shape), "images of no size")
        return CaffeFile(tuple(layer for layer in layers if layer is not None), tuple(shape))


def _layer(layer: Message, fields: Mapping[str, int], *, old: bool) -> CaffeLayer | None:
    """A layer; None for one that only tests have."""
    rules = layer.messages(fields["include"])
    if rules and all(1 in rule and rule.integer(1) == _TEST for rule in rules):
        return None
    kind = _OLD_TYPES.get(layer.integer(5), f"V1 type {layer.integer(5)}") if old else layer.text(2)
    name = layer.text(fields["name"])
    settings = {key: layer.message(fields[key]) for key in ("transform", "conv", "dropout", "linear", "pool", "relu", "input")}
    blobs = tuple(_blob(name, blob) for blob in layer.messages(fields["blobs"]))
    return CaffeLayer(kind, name, tuple(layer.texts(fields["bottom"])), tuple(layer.texts(fields["top"])), blobs, settings)


def _blob(name: str, blob: Message) -> Array:
    numbers = blob.floats(8, "f8") if 8 in blob else blob.floats(5)
    shape = blob.message(7).integers(1) if 7 in blob else [blob.integer(number) for number in (1, 2, 3, 4)]
    expect(all(size >= 0 for size in shape) and len(shape) <= 32, f"weights of {quoted(name)} of a damaged shape")
    if math.prod(shape) != numbers.size:
        raise RefusedError(f"{numbers.size:,} weights of {quoted(name)}, its shape says {math.prod(shape):,}")
    return numbers.reshape(shape)
