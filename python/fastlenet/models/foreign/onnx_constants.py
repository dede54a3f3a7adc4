"""Ops of ONNX on weights and on shapes, which writers leave in a file: their values are known when it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import shown
from fastlenet.formats.onnx import OnnxNode

__all__ = ["ON_CONSTANTS", "Values", "constant"]

Values = Mapping[str, Array]


def constant(values: Values, node: OnnxNode, place: int) -> Array | None:
    """Returns an input with a known value; None if it is left out. values: by name."""
    name = node.inputs[place] if place < len(node.inputs) else ""
    if not name:
        return None
    if name not in values:
        raise ValueError(f"op {shown(node.op)} expects weights as its input {place + 1}")
    return values[name]


def _value(values: Values, node: OnnxNode) -> Array:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.attributes.get(name)
        if value is not None and not isinstance(value, str):
            return np.asarray(value)
    raise ValueError("op Constant expects a value of numbers")


def _same(values: Values, node: OnnxNode) -> Array:
    value = constant(values, node, 0)
    if value is None:
        raise ValueError(f"op {node.op} expects an input")
    return value


def _transposed(values: Values, node: OnnxNode) -> Array:
    value = _same(values, node)
    order = node.attributes.get("perm", [*range(value.ndim)][::-1])
    if not isinstance(order, list) or sorted(order) != [*range(value.ndim)]:
        raise ValueError(f"op Transpose: perm expects an order of {value.ndim} axes, got {shown(order)}")
    turned: Array = value.transpose([int(axis) for axis in order])
    return turned


def _gathered(values: Values, node: OnnxNode) -> Array:
    """One number of a shape."""
    value, place = _same(values, node), constant(values, node, 1)
    if value.ndim != 1 or place is None or place.size != 1 or not -value.size <= int(place.reshape(-1)[0]) < value.size:
        raise ValueError("op Gather: only a number of a shape is read")
    return np.asarray(value[int(place.reshape(-1)[0])]).reshape(place.shape)


def _joined(values: Values, node: OnnxNode) -> Array:
    """Numbers of a shape in a row."""
    parts = [constant(values, node, place) for place in range(len(node.inputs))]
    if len(parts) > 8 or not all(part is not None and part.ndim == 1 and part.size <= 8 for part in parts):
        raise ValueError("op Concat: only numbers of a shape are read")
    return np.concatenate([part for part in parts if part is not None])


ON_CONSTANTS: Mapping[str, Callable[[Values, OnnxNode], Array]] = {
    "Constant": _value,
    "Identity": _same,
    "Cast": _same,
    "Transpose": _transposed,
    "Gather": _gathered,
    "Unsqueeze": lambda values, node: _same(values, node).reshape(-1),
    "Concat": _joined,
}
