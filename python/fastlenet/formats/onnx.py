"""ONNX files: the nodes of a network and its weights. Source of the fields' numbers: onnx.proto of github.com/onnx/onnx."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastlenet.backend import Array
from fastlenet.formats.numbers import BFLOAT16, elements
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, quoted, size_of
from fastlenet.formats.protobuf import Budget, Message

__all__ = ["Attribute", "OnnxFile", "OnnxNode", "read_onnx"]

_MOST_NODES = 10_000
# TensorProto.DataType, NumPy's types, and the field in which numbers stand that are not in raw_data.
_TYPES: Mapping[int, tuple[str, int]] = {
    1: ("f4", 4),
    2: ("u1", 5),
    3: ("i1", 5),
    4: ("u2", 5),
    5: ("i2", 5),
    6: ("i4", 5),
    7: ("i8", 7),
    9: ("?", 5),
    10: ("f2", 5),
    11: ("f8", 10),
    12: ("u4", 11),
    13: ("u8", 11),
    16: (BFLOAT16, 5),
}

Attribute = int | float | str | list[int] | list[float] | Array


@dataclass(frozen=True)
class OnnxNode:
    """An op with the names of its inputs and outputs. An input that is left out has an empty name."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class OnnxFile:
    """inputs: the name and the shape of each input that has no value, None for a size that is not fixed; its type as NumPy's.
    metadata: words that the writer added.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_onnx(path: Path) -> OnnxFile:
    """Returns the nodes and the weights of an ONNX file. bfloat16 becomes float32.

    Nothing is executed, and no other file is opened: weights outside the file are refused. Memory: at most three times the
    file, and 100 MB for its nodes. Raises CheckpointError.
    """
    with opened(path, "an ONNX file") as stream:
        expect(size_of(stream) <= MAX_BYTES, f"{size_of(stream):,} bytes, where at most {MAX_BYTES:,} are expected")
        model = Message(memoryview(stream.read()), Budget())
        expect(7 in model, "no graph")
        graph = model.message(7)
        if 15 in graph:
            raise RefusedError("holds sparse weights, which are not read")
        nodes = graph.messages(1)
        expect(len(nodes) <= _MOST_NODES, f"{len(nodes):,} nodes, more than {_MOST_NODES:,}")
        constants = {tensor.text(8): _tensor(tensor) for tensor in graph.messages(5)}
        inputs = {entry.text(1): _shape(entry) for entry in graph.messages(11)}
        return OnnxFile(
            tuple(_node(node) for node in nodes),
            constants,
            {name: shape for name, shape in inputs.items() if name not in constants},
            tuple(entry.text(1) for entry in graph.messages(12)),
            {entry.text(1): entry.text(2) for entry in model.messages(14)},
        )


def _node(node: Message) -> OnnxNode:
    domain = node.text(7)
    op = node.text(4) if domain in ("", "ai.onnx") else f"{domain}.{node.text(4)}"
    attributes = {entry.text(1): value for entry in node.messages(5) if (value := _attribute(entry)) is not None}
    return OnnxNode(op, node.text(3), tuple(node.texts(1)), tuple(node.texts(2)), attributes)


def _attribute(entry: Message) -> Attribute | None:
    """The value of an attribute; None for a graph or another type that no op of the table has."""
    kind = entry.integer(20)
    if kind == 1:
        return entry.float(2)
    if kind == 2:
        return entry.integer(3)
    if kind == 3:
        return entry.text(4)
    if kind == 4:
        return _tensor(entry.message(5))
    if kind == 6:
        numbers: list[float] = entry.floats(7).tolist()
        return numbers
    return entry.integers(8) if kind == 7 else None


def _shape(entry: Message) -> tuple[str, tuple[int | None, ...]]:
    """The type and the shape of an input."""
    tensor = entry.message(2).message(1)
    sizes = tuple(size.integer(1) if 1 in size else None for size in tensor.message(2).messages(1))
    return _TYPES.get(tensor.integer(1), ("", 0))[0], sizes


def _tensor(tensor: Message) -> Array:
    name, kind, shape = tensor.text(8), tensor.integer(2), tensor.integers(1)
    if tensor.integer(14) or 13 in tensor:
        raise RefusedError(f"the weights {quoted(name)} are in another file, which is not opened; save them in one file")
    if kind not in _TYPES:
        raise RefusedError(f"{quoted(name)} is of a type that is not read, number {kind}")
    dtype, place = _TYPES[kind]
    expect(all(size >= 0 for size in shape) and len(shape) <= 32, f"{quoted(name)} has a damaged shape")
    if 9 in tensor:
        numbers = elements(tensor.content(9), dtype)
    elif place in (4, 10):
        numbers = tensor.floats(place, dtype)
    else:
        numbers = _from_integers(tensor.integers(place), dtype)
    expect(
        numbers.size == math.prod(shape), f"{quoted(name)} holds {numbers.size:,} numbers, its shape says {math.prod(shape):,}"
    )
    return numbers.reshape(shape)


def _from_integers(numbers: list[int], dtype: str) -> Array:
    """Small numbers stand one by one as integers; floats of two bytes by their bits."""
    if dtype in (BFLOAT16, "f2"):
        expect(all(0 <= number < 65536 for number in numbers), "a number of more than two bytes")
        return elements(np.array(numbers, "<u2").tobytes(), dtype)
    return np.array([number & (2**64 - 1) for number in numbers] if dtype == "u8" else numbers, dtype)
