"""Reads Keras's descriptions of networks and layers. They are JSON that is not trusted, so each value is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from fastlenet.fields import shown
from fastlenet.models.foreign.building import Pair

__all__ = ["Config", "expect_one_of", "in_order", "number", "of_type", "pair", "snake_case"]

Config = Mapping[str, object]
Value = TypeVar("Value")

_MOST_LAYERS = 1000


def in_order(described: Config) -> list[tuple[str, str, Config]]:
    """The class, the name and the arguments of each layer of a network, in the order in which an image passes them."""
    config = described.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config  # a list in Keras before 2.3
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f"a network expects a list of at most {_MOST_LAYERS:,} layers")
    if described.get("class_name") != "Sequential":
        layers = _chain(layers)
    made: list[tuple[str, str, Config]] = []
    for layer in layers:
        inner = layer.get("config")
        if not isinstance(inner, dict):
            raise ValueError(f"layer {shown(layer.get('name'))} expects its arguments as an object")
        registered = layer.get("registered_name")
        kind = of_type(layer, "class_name", str)
        if isinstance(registered, str) and ">" in registered:
            raise ValueError(f"layer {shown(inner.get('name'))}: {shown(registered)} is a class of the writer's own")
        made.append((kind, str(inner.get("name", layer.get("name", kind)))[:200], inner))
    return made


def _chain(layers: list[dict[str, object]]) -> list[dict[str, object]]:
    """The layers of a functional network, which must be one row."""
    following: dict[str, dict[str, object]] = {}
    begin = []
    for layer in layers:
        sources = [*_sources(layer.get("inbound_nodes"), 0)]
        if not sources:
            begin.append(layer)
        elif len(sources) > 1 or sources[0] in following:
            raise ValueError(f"layer {shown(layer.get('name'))} branches; only layers in a row are read")
        else:
            following[sources[0]] = layer
    if len(begin) != 1:
        raise ValueError(f"a network of {len(begin)} inputs; only one is read")
    row = begin
    while (name := row[-1].get("name")) in following:
        row.append(following.pop(str(name)))
    if following:
        raise ValueError("a network whose layers are not one row")
    return row


def _sources(node: object, depth: int) -> Iterator[str]:
    """The names of the layers that a layer gets its inputs from: ["name", 0, 0, ...] of Keras 2, or a keras_history."""
    if depth > 12:
        return
    if isinstance(node, dict):
        for value in node.values():
            yield from _sources(value, depth + 1)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and type(node[1]) is int and type(node[2]) is int:
            yield node[0]
            return
        for value in node:
            yield from _sources(value, depth + 1)


def of_type(config: Config, name: str, kind: type[Value], default: Value | None = None) -> Value:
    value = config.get(name, default)
    if not isinstance(value, kind):
        raise ValueError(f"{name} expects a {kind.__name__}, got {shown(value)}")
    return value


def number(config: Config, name: str, default: float) -> float:
    value = config.get(name, default)
    if isinstance(value, dict):  # a constant as Keras 2.15 writes it: {"class_name": "__numpy__", ...}
        value = value["config"]["value"] if isinstance(value.get("config"), dict) and "value" in value["config"] else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} expects a number, got {shown(value)}")
    return float(value)


def pair(config: Config, name: str, default: Pair) -> Pair:
    value = config.get(name)
    value = list(default) if value is None else [value, value] if type(value) is int else value
    if not isinstance(value, list) or len(value) != 2 or not all(type(size) is int for size in value):
        raise ValueError(f"{name} expects two integers, got {shown(value)}")
    return value[0], value[1]


def expect_one_of(config: Config, layer: str, name: str, allowed: tuple[object, ...]) -> None:
    value = config.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"layer {shown(layer)}: {name} {shown(value)} has no layer in fastlenet")


def snake_case(name: str) -> str:
    """MaxPooling2D as max_pooling2d: how Keras names the arrays of a class."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
