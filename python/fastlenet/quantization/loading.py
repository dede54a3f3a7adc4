"""Reads a quantized network from a safetensors file, which may come from anywhere: everything is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from fastlenet.backend import Array, Shape
from fastlenet.fields import FieldTypeError, FieldValueError, Values, shown
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.inference.facts import ModelFacts, from_json
from fastlenet.nn.layers.base import Sizes
from fastlenet.quantization.kernels import built
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
from fastlenet.quantization.saving import KEY, TENSORS, WORDS

__all__ = ["described"]

_MADE: Mapping[str, Callable[..., QuantizedLayer]] = {
    kind.kind: kind
    for kind in (
        QuantizedAvgPool2d,
        QuantizedConv2d,
        QuantizedFlatten,
        QuantizedLinear,
        QuantizedMaxPool2d,
        QuantizedTable,
        Scores,
    )
}
_MOST_LAYERS, _MOST_LETTERS = 10_000, 200
_SIZE, _BYTE = Values(int, "integers in 0..2^31-1", 0, 2**31 - 1), Values(int, "None or 0..255", 0, 255)


def described(file: TensorFile) -> QuantizedModel:
    """Returns the model of a file whose metadata has the word `KEY`.

    Raises ValueError or TypeError: before a tensor is read for wrong words, before a kernel runs for layers that do not fit.
    """
    facts = ModelFacts.of_metadata(file.metadata)
    if facts.input_shape is None or len(facts.input_shape) != 3:
        raise FieldValueError("input_shape", facts.input_shape, "the shape (c, h, w) of an image")
    said = from_json(KEY, file.metadata[KEY])
    if not isinstance(said, dict) or said.keys() != {"network", "layers"} or not isinstance(said["layers"], list):
        raise ValueError(f"{KEY} expects an object of network and layers")
    network, entries = Values(str).convert("network", said["network"]), said["layers"]
    if not 1 <= len(entries) <= _MOST_LAYERS:
        raise FieldValueError("layers", len(entries), f"1 to {_MOST_LAYERS:,} layers")
    read = [_settings(place, entry) for place, entry in enumerate(entries)]
    expected = {f"{words['name']}.{key}": kind for words in read for key, kind in TENSORS[str(words["layer"])].items()}
    _expect_tensors(expected.keys(), file.entries.keys())
    if len({words["name"] for words in read}) < len(read):
        raise ValueError("two layers have the same name")
    arrays = file.read()
    for name, kind in expected.items():
        if arrays[name].dtype != kind:
            raise FieldTypeError(name, arrays[name], f"{np.dtype(kind)}", got=f"{arrays[name].dtype}")
    layers: list[QuantizedLayer] = []
    shape: Shape = facts.input_shape
    for words in read:
        layers.append(_layer(words, arrays, shape))
        shape = layers[-1].output_shape
    if len(shape) != 1 or not np.issubdtype(_dtype_of(layers[-1]), np.floating):
        raise ValueError(f"layer {layers[-1].name!r}: the last layer expects to give one score for each class")
    if facts.class_names and shape != (len(facts.class_names),):
        raise FieldValueError("class_names", facts.class_names, f"a name for each of {shape[0]} scores")
    built(layers, facts.input_shape)  # which checks that they fit, and that no sum overflows
    return QuantizedModel(layers, facts, network)


def _expect_tensors(expected: Collection[str], got: Collection[str]) -> None:
    for name in expected:
        if name not in got:
            raise ValueError(f"the layers expect a tensor {shown(name)}, which is missing")
    for name in got:
        if name not in expected:
            raise ValueError(f"tensor {shown(name)} belongs to no layer")


def _settings(place: int, entry: object) -> dict[str, object]:
    """A layer's words, checked one by one."""
    if not isinstance(entry, dict):
        raise FieldTypeError(f"layers[{place}]", entry, "an object of a name, a layer and its arguments")
    name, kind = entry.get("name"), entry.get("layer")
    if not isinstance(name, str) or len(name) > _MOST_LETTERS:
        raise FieldValueError(f"layers[{place}].name", name, f"a word of at most {_MOST_LETTERS} letters")
    if not isinstance(kind, str) or kind not in _MADE:
        raise FieldValueError(f"layers[{place}].layer", kind, f"one of {', '.join(_MADE)}")
    if entry.keys() != {"name", "layer", *WORDS[kind]}:
        raise ValueError(f"layer {shown(name)}: {kind} expects {', '.join(WORDS[kind]) or 'no arguments'}")
    return {word: _word(f"layer {shown(name)}: {word}", word, value) for word, value in entry.items()}


def _word(where: str, word: str, value: object) -> object:
    if word in ("kernel_size", "stride", "padding"):
        if not isinstance(value, list) or len(value) != 2:
            raise FieldTypeError(word, value, "two integers", where.removesuffix(word))
        pair = tuple(_SIZE.convert(where, size) for size in value)
        if word != "padding" and 0 in pair:
            raise FieldValueError(word, value, "integers of at least 1", where.removesuffix(word))
        return pair
    if word == "zero_point":
        return None if value is None else _BYTE.convert(where, value)
    return Values(str).convert(where, value)


def _layer(words: Mapping[str, object], arrays: Mapping[str, Array], shape: Shape) -> QuantizedLayer:
    """The layer on examples of that shape."""
    name, kind = str(words["name"]), str(words["layer"])
    own: dict[str, object] = {key: arrays[f"{name}.{key}"] for key in TENSORS[kind]}
    own |= {word: words[word] for word in WORDS[kind]}
    for key in ("multiplier", "scale"):
        if kind in ("AvgPool2d", "Scores") and key in own:
            own[key] = np.float32(_only(name, key, arrays[f"{name}.{key}"]))
    if kind == "Scores" and words["zero_point"] is None:
        raise FieldValueError("zero_point", None, "an integer in 0..255", f"layer {shown(name)}: ")
    return _MADE[kind](name, _output_shape(name, kind, own, shape), **own)


def _only(name: str, key: str, array: Array) -> float:
    if array.shape != ():
        raise FieldValueError(f"{name}.{key}", array, "one number", got=f"shape {array.shape}")
    return float(array)


def _output_shape(name: str, kind: str, own: Mapping[str, object], shape: Shape) -> Shape:
    """Of one example; whether the layer takes such examples, its kernel checks."""
    if kind == "Flatten":
        return (math.prod(shape),)
    if kind in ("Table", "Scores"):
        return shape
    found = own.get("weight")
    weight = found.shape if isinstance(found, np.ndarray) else ()
    if kind == "Linear":
        return weight[:1]
    if len(shape) != 3 or len(weight) not in (0, 4):
        raise ValueError(f"layer {shown(name)}: {kind} expects examples (c, h, w) and a weight (k, c, r, s)")
    size = weight[2:] or _pair(own["kernel_size"])
    stride, padding = _pair(own["stride"]), _pair(own["padding"])
    p, q = ((shape[1 + i] + 2 * padding[i] - size[i]) // stride[i] + 1 for i in (0, 1))
    return (weight[0] if weight else shape[0], p, q)


def _pair(value: object) -> Sizes:
    assert isinstance(value, tuple)  # by _word
    return value[0], value[1]


def _dtype_of(layer: QuantizedLayer) -> type[np.generic]:
    scores = isinstance(layer, Scores) or (isinstance(layer, QuantizedLinear) and layer.zero_point is None)
    return np.float32 if scores else np.uint8
