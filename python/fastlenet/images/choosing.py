"""Which shapes on a page may be digits: without specks and lines, with broken strokes joined, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlenet.backend import Array
from fastlenet.images.ink import Ink
from fastlenet.images.shapes import Shape, connected_shapes

__all__ = ["cut_off", "find_figures", "in_reading_order", "of_one_size"]

_SMALLEST = 8  # pixels high or wide: what is smaller is a speck
_SPECK = 0.12  # of the largest figure's size: what is smaller is a speck
_FIGURE = 0.4  # of the largest figure's size: what is larger counts as a figure of its own
_NEAR = 0.15  # of a figure's size: where a stroke above, below, or a small one, still belongs to it
_TOUCHING = 0.06  # of a figure's size: where anything beside still belongs to it
_SAMPLE = 600  # pixels of an outline, at most, between which distances are measured
_MOST = 200  # shapes; on a page with more, the smallest are left out
_TIGHT = 0.9  # of the picture, in height and in width: what is larger was cropped so
_LINE = 0.2  # of the page: what crosses it from edge to edge and is not higher than that is a ruled line


def find_figures(ink: Ink) -> list[Shape]:
    """What on the page might be a digit or another figure of about that size, largest first."""
    page = ink.smooth.shape
    shapes = connected_shapes(ink.smooth > 0.5, smallest=_SMALLEST)
    shapes = [shape for shape in shapes if shape.size >= _SMALLEST and not _is_line(shape, page)]
    shapes = _without_edges(shapes, page)
    if not shapes:
        return []
    largest = max(shape.size for shape in shapes)
    return _joined([shape for shape in shapes if shape.size >= _SPECK * largest][:_MOST])


def of_one_size(figures: Sequence[Shape]) -> list[Shape]:
    """Those that are not much smaller than the largest."""
    return [figure for figure in figures if figure.size >= _FIGURE * figures[0].size]


def cut_off(figure: Shape, page: tuple[int, ...]) -> bool:
    """Whether the picture's border cuts it off, or it is a shadow's edge. What fills the picture is cropped tightly."""
    fills = figure.height > _TIGHT * page[0] and figure.width > _TIGHT * page[1]
    return any(_touched(figure, page)) and not fills


def in_reading_order(figures: Sequence[Shape]) -> list[list[Shape]]:
    """Lines from top to bottom, figures from left to right. A figure belongs to the line that its middle lies in."""
    lines: list[list[Shape]] = []
    for figure in sorted(figures, key=lambda figure: figure.top + figure.bottom):
        middle = (figure.top + figure.bottom) / 2
        line = next((line for line in lines if any(one.top <= middle < one.bottom for one in line)), None)
        if line is None:
            lines.append([figure])
        else:
            line.append(figure)
    return [sorted(line, key=lambda figure: figure.left + figure.right) for line in lines]


def _is_line(shape: Shape, page: tuple[int, ...]) -> bool:
    """Whether it goes from edge to edge, as on ruled paper or at the sheet's border."""
    high, wide = shape.height / page[0], shape.width / page[1]
    return (wide > 0.98 and high < _LINE) or (high > 0.98 and wide < _LINE)


def _touched(shape: Shape, page: tuple[int, ...]) -> tuple[bool, bool, bool, bool]:
    """Which sides of the picture it touches: top, left, bottom, right."""
    return shape.top == 0, shape.left == 0, shape.bottom == page[0], shape.right == page[1]


def _without_edges(shapes: list[Shape], page: tuple[int, ...]) -> list[Shape]:
    """Without what the picture's border cuts off, unless nothing large lies within it."""
    inside = [shape for shape in shapes if not any(_touched(shape, page))]
    largest = max((shape.size for shape in shapes), default=0)
    return inside if any(shape.size >= 0.25 * largest for shape in inside) else shapes


def _joined(shapes: Sequence[Shape]) -> list[Shape]:
    """Strokes that belong to one figure as one shape, the largest first."""
    figures: list[Shape] = []
    for shape in sorted(shapes, key=lambda shape: -shape.size):
        kin = [figure for figure in figures if _belong_together(shape, figure)]
        figures = [figure for figure in figures if figure not in kin]
        for figure in kin:
            shape = shape.joined(figure)
        figures.append(shape)
    return sorted(figures, key=lambda figure: -figure.size)


def _belong_together(one: Shape, other: Shape) -> bool:
    """Whether two shapes are strokes of one digit: near each other, one above the other, or one of them small."""
    part, figure = sorted((one, other), key=lambda shape: shape.area)
    shared = min(part.right, figure.right) - max(part.left, figure.left)
    if max(-shared, part.top - figure.bottom, figure.top - part.bottom) > _NEAR * figure.size:
        return False
    near = _NEAR if shared >= min(part.width, figure.width) / 2 or part.area <= figure.area / 4 else _TOUCHING
    return _gap(part, figure) <= near * figure.size


def _gap(one: Shape, other: Shape) -> float:
    """The pixels between their outlines, at least, to within one or two where they are long."""
    first, second = (_outline(shape) for shape in (one, other))
    return float(np.sqrt(((first[:, None] - second) ** 2).sum(-1).min())) - 1


def _outline(shape: Shape) -> Array:
    """Rows and columns of the inked pixels beside others, or of some hundred of them."""
    framed = np.pad(shape.mask, 1)
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    places = np.argwhere(shape.mask & ~inner)
    return np.asarray(places[:: 1 + len(places) // _SAMPLE] + np.array((shape.top, shape.left), float))
