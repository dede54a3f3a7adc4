"""Connected components against a flood fill, one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastlenet.images.choosing import find_figures, in_reading_order, of_one_size
from fastlenet.images.ink import Ink
from fastlenet.images.shapes import Shape, connected_shapes


def flooded(mask: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """The components as sets of pixels."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = set()
    while left:
        reached, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            reached.add((row, column))
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.add(frozenset(reached))
    return found


def pixels(shape: Shape) -> frozenset[tuple[int, int]]:
    return frozenset((row + shape.top, column + shape.left) for row, column in np.argwhere(shape.mask).tolist())


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_components(mask: np.ndarray) -> None:
    assert {pixels(shape) for shape in connected_shapes(mask)} == flooded(mask)


@pytest.mark.parametrize("density", [0.3, 0.42, 0.6])
def test_components_that_wind(rng: np.random.Generator, density: float) -> None:
    """Near 0.4 random pixels hang together in long windings, which take the most rounds."""
    mask = rng.random((90, 70)) < density
    shapes = connected_shapes(mask)
    assert {pixels(shape) for shape in shapes} == flooded(mask)
    assert [shape.area for shape in shapes] == sorted((shape.area for shape in shapes), reverse=True)


def test_a_spiral() -> None:
    mask = np.zeros((41, 41), bool)
    row, column, down, right = 0, 0, 0, 1
    for length in [40, 40, 40, 38, 38, 36, 36, 34, 34, 32, 32, 30, 30]:
        for _ in range(length):
            mask[row, column] = True
            row, column = row + down, column + right
        down, right = right, -down
    (spiral,) = connected_shapes(mask)
    assert spiral.area == mask.sum()


def test_the_smallest_are_left_out() -> None:
    mask = np.zeros((20, 20), bool)
    mask[1, 1], mask[5:8, 5:8], mask[12:16, 12:16] = True, True, True
    assert [shape.area for shape in connected_shapes(mask, smallest=9)] == [16, 9]
    assert connected_shapes(np.zeros((4, 4), bool)) == []


@given(st.data())
def test_joining_keeps_every_pixel(data: st.DataObject) -> None:
    one, other = (
        Shape(data.draw(st.integers(-5, 5)), data.draw(st.integers(-5, 5)), data.draw(hnp.arrays(bool, (3, 4))))
        for _ in range(2)
    )
    assert pixels(one.joined(other)) == pixels(one) | pixels(other)


def ink_of(mask: np.ndarray) -> Ink:
    return Ink(mask.astype(np.float32), mask.astype(np.float32), 1.0, True)


def test_broken_strokes_are_joined_and_neighbours_are_not() -> None:
    mask = np.zeros((200, 300), bool)
    mask[60:140, 50:60] = True  # a stem, and its bar above, apart from it
    mask[45:52, 40:90] = True
    mask[50:140, 120:130] = True  # another figure beside it
    mask[150:153, 200:203] = True  # a speck
    first, second = in_reading_order(find_figures(ink_of(mask)))[0]
    assert (first.top, first.left, first.bottom, first.right) == (45, 40, 140, 90)
    assert (second.top, second.left, second.bottom, second.right) == (50, 120, 140, 130)


def test_lines_that_cross_the_page_and_what_its_border_cuts_off_are_no_figures() -> None:
    mask = np.zeros((200, 300), bool)
    mask[100:104] = True
    assert find_figures(ink_of(mask)) == []
    mask[20:80, 200:210] = True
    mask[150:200, 20:60] = True  # cut off below
    (figure,) = find_figures(ink_of(mask))
    assert (figure.left, figure.top) == (200, 20)


def test_reading_order() -> None:
    mask = np.zeros((300, 300), bool)
    places = [(20, 200), (30, 40), (25, 120), (170, 150), (160, 60)]
    for top, left in places:
        mask[top : top + 60, left : left + 20] = True
    lines = in_reading_order(of_one_size(find_figures(ink_of(mask))))
    assert [[(figure.top, figure.left) for figure in line] for line in lines] == [
        [(30, 40), (25, 120), (20, 200)],
        [(160, 60), (170, 150)],
    ]
