"""Nodes and constants of an ONNX graph, collected before the package onnx makes a file of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Attribute", "Graph", "Node"]

Attribute = int | float | tuple[int, ...]

_TYPES = {"float32": 1, "uint8": 2, "int32": 6}  # as onnx.TensorProto numbers them


@dataclass(frozen=True)
class Node:
    """An operation of ONNX on values by name, with one output."""

    operation: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]


class Graph:
    """A graph that grows by one node at a time. Every value has a name of its own.

    layer: the name of the layer that the next nodes compute; their names begin with it.
    """

    def __init__(self, *inputs: str) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}
        self.layer = ""
        self._used = set(inputs)

    def add(self, operation: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node. Returns the name of its output."""
        name = self._fresh(f"{self.layer}/{operation}")
        self.nodes.append(Node(operation, name, inputs, name, attributes))
        return name

    def cast(self, x: str, kind: str) -> str:
        """Add a conversion of x to float32, uint8 or int32. Returns the name of its output."""
        return self.add("Cast", x, to=_TYPES[kind])

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant of the layer, such as its weight. Returns its name, as in a state_dict."""
        name = self._fresh(f"{self.layer}.{name}")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def end(self, value: str, name: str) -> None:
        """Give the graph's output, a value so far, its name."""
        if not self.nodes or self.nodes[-1].output != value:
            self.add("Identity", value)
        self.nodes[-1] = replace(self.nodes[-1], output=name)

    def _fresh(self, name: str) -> str:
        """The name, in letters that UTF-8 can hold, and longer if another value has it."""
        name = name.encode("utf-8", "backslashreplace").decode()
        while name in self._used:
            name += "_"
        self._used.add(name)
        return name
