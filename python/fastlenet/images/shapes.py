"""Connected components of a mask: which inked pixels hang together, in NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Shape", "connected_shapes"]

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Shape:
    """Inked pixels: their bounding box, rows top..bottom-1 and columns left..right-1, and the mask (height, width) in it."""

    top: int
    left: int
    mask: Mask

    @property
    def height(self) -> int:
        return int(self.mask.shape[0])

    @property
    def width(self) -> int:
        return int(self.mask.shape[1])

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def size(self) -> int:
        """The longer side of the box."""
        return max(self.height, self.width)

    @property
    def area(self) -> int:
        """Inked pixels."""
        return int(np.count_nonzero(self.mask))

    def joined(self, other: Shape) -> Shape:
        """Both as one shape."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        mask = np.zeros((max(self.bottom, other.bottom) - top, max(self.right, other.right) - left), bool)
        for part in (self, other):
            mask[part.top - top : part.bottom - top, part.left - left : part.right - left] |= part.mask
        return Shape(top, left, mask)


def connected_shapes(mask: Mask, smallest: int = 1) -> list[Shape]:
    """The components of True pixels that touch by sides or corners, of at least `smallest` pixels; the largest area first.

    Runs of a row are the nodes, overlapping runs of neighbouring rows the edges: He, Chao, Suzuki 2008 label so.
    """
    rows, starts, stops = _runs(mask)
    if len(rows) == 0:
        return []
    labels = _labels(*_edges(rows, starts, stops, mask.shape[1]), len(rows))
    areas = np.bincount(labels, stops - starts)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(labels))[:-1])
    chosen = [index for index in np.argsort(-areas, kind="stable") if areas[index] >= smallest]
    return [_shape(rows[groups[index]], starts[groups[index]], stops[groups[index]]) for index in chosen]


def _runs(mask: Mask) -> tuple[Integers, Integers, Integers]:
    """Row, first column and the column after the last of each unbroken row of True, in reading order."""
    h, w = mask.shape
    framed = np.zeros((h, w + 2), np.int8)
    framed[:, 1:-1] = mask
    change = np.diff(framed, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    return rows, starts, stops


def _edges(rows: Integers, starts: Integers, stops: Integers, width: int) -> tuple[Integers, Integers]:
    """Pairs of runs in neighbouring rows that touch, corners included."""
    step = width + 2  # so that the runs of all rows lie on one axis, in order
    first = np.searchsorted(rows * step + stops, (rows - 1) * step + starts, "left")
    last = np.searchsorted(rows * step + starts, (rows - 1) * step + stops, "right")
    counts = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(rows)), counts)
    upper = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return upper, lower


def _labels(upper: Integers, lower: Integers, count: int) -> Integers:
    """The number, 0, 1, ..., of the component that each of `count` nodes belongs to."""
    parent = np.arange(count)
    while True:
        least = np.minimum(parent[upper], parent[lower])
        before = parent.copy()
        np.minimum.at(parent, before[upper], least)
        np.minimum.at(parent, before[lower], least)
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
        if np.array_equal(parent, before):
            return np.unique(parent, return_inverse=True)[1].reshape(-1)


def _shape(rows: Integers, starts: Integers, stops: Integers) -> Shape:
    top, left = int(rows.min()), int(starts.min())
    change: npt.NDArray[np.int32] = np.zeros((int(rows.max()) + 1 - top, int(stops.max()) + 1 - left), np.int32)
    np.add.at(change, (rows - top, starts - left), 1)
    np.add.at(change, (rows - top, stops - left), -1)
    return Shape(top, left, np.cumsum(change, axis=1)[:, :-1] > 0)
