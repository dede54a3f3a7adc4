"""The table of a model's layers, as text and for notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastlenet.fields import shown
from fastlenet.nn.layers.base import Layer

__all__ = ["LayerCost", "as_html", "costs", "summarise"]

_HEADER = ("layer", "type", "output", "parameters", "multiply-adds", "bytes")


class LayerCost(NamedTuple):
    """What a layer costs for one example.

    kind: the name of its class. shape: of its output. bytes: float32, of its parameters and its output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int

    @property
    def bytes(self) -> int:
        return 4 * (self.parameters + math.prod(self.shape))


def summarise(layers: Sequence[Layer], names: Sequence[str], shape: tuple[int, ...]) -> str:
    """Returns a table: a layer's name, type, output shape, parameters, multiply-adds, and bytes.

    shape: of one example. bytes: float32, of the layer's parameters and its output for one example. Raises ValueError, which
    names the layer, for a shape that a layer cannot take.
    """
    rows = _rows(layers, names, shape)
    widths = [max(len(row[i]) for row in [_HEADER, *rows]) for i in range(len(_HEADER))]

    def line(row: Sequence[str]) -> str:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        return "  ".join(left + right)

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(_HEADER), rule, *map(line, rows[:-1]), rule, line(rows[-1])])


def as_html(title: str, layers: Sequence[Layer], names: Sequence[str], shape: tuple[int, ...] | None) -> str:
    """Returns the same table in HTML; without a shape, or with one that the layers cannot take, the layers alone."""
    from html import escape  # which takes a hundredth of the time of importing NumPy

    header: tuple[str, ...] = _HEADER
    rows: list[tuple[str, ...]] = []
    try:
        rows = _rows(layers, names, shape) if shape is not None else []
    except ValueError:
        shape = None
    if shape is None:
        header, rows = ("layer", "type"), [(name, repr(layer)) for name, layer in zip(names, layers, strict=True)]
    else:
        title += f" for {'x'.join(map(str, shape))}"
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div>{escape(title)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def costs(layers: Sequence[Layer], names: Sequence[str], shape: tuple[int, ...]) -> list[LayerCost]:
    """Returns what each layer costs for one example of this shape. Raises ValueError, which names the layer."""
    found = []
    for name, layer in zip(names, layers, strict=True):
        parameters = sum(math.prod(size) for size in layer.shapes().values())
        try:
            multiply_adds, shape = layer.multiply_adds(shape), layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"summary: layer {shown(name)}: {error}") from None
        found.append(LayerCost(name, type(layer).__name__, shape, parameters, multiply_adds))
    return found


def _rows(layers: Sequence[Layer], names: Sequence[str], shape: tuple[int, ...]) -> list[tuple[str, ...]]:
    """A row for each layer, and the totals."""
    found = costs(layers, names, shape)
    numbers = [(cost.parameters, cost.multiply_adds, cost.bytes) for cost in found]
    rows: list[tuple[str, ...]] = [
        (cost.name, cost.kind, "x".join(map(str, cost.shape)), *(f"{number:,}" for number in three))
        for cost, three in zip(found, numbers, strict=True)
    ]
    totals = [sum(three[place] for three in numbers) for place in range(3)]
    return [*rows, ("total", "", "", *(f"{total:,}" for total in totals))]
