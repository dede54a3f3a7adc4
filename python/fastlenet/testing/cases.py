"""The sizes that every op is tested on. One list per kind of op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fastlenet.backend import Pair, Shape

__all__ = [
    "CONV",
    "CONV1",
    "CONV2",
    "FC1",
    "FC2",
    "FUSED",
    "LINEAR",
    "POOL",
    "SHAPES",
    "SPARSE",
    "WINOGRAD",
    "Conv",
    "Elements",
    "Fused",
    "Linear",
    "Pair",
    "Pool",
    "both",
]


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def both(pair: Pair) -> tuple[int, int]:
    """A pair, of a pair or of an integer that stands for both."""
    first, second = pair if isinstance(pair, (tuple, list)) else (pair, pair)
    return int(first), int(second)


def _positions(sizes: tuple[int, int], window: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """How many windows there are along each axis; 0 where none fits."""
    p, q = (
        max(0, (size + 2 * pad - extent) // step + 1) if extent else 0
        for size, extent, step, pad in zip(sizes, both(window), both(stride), both(padding), strict=True)
    )
    return p, q


_C = TypeVar("_C", bound="_Images")


@dataclass(frozen=True)
class _Images:
    """Images x: (n, c, h, w)."""

    n: int
    c: int
    h: int
    w: int

    @property
    def x_shape(self) -> Shape:
        return self.n, self.c, self.h, self.w

    def with_batch(self: _C, n: int) -> _C:
        return replace(self, n=n)


@dataclass(frozen=True)
class _Filtered(_Images):
    """Images, and k filters of these rows and columns."""

    k: int
    filter: tuple[int, int]

    @property
    def weight_shape(self) -> Shape:
        return self.k, self.c, *self.filter

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.h}x{self.w}-{self.k}of{_text(self.filter)}"


@dataclass(frozen=True)
class Conv(_Filtered):
    stride: Pair = 1
    padding: Pair = 0

    def __str__(self) -> str:
        return f"{super().__str__()}-stride{_text(self.stride)}-pad{_text(self.padding)}"

    @property
    def y_shape(self) -> Shape:
        return self.n, self.k, *_positions((self.h, self.w), self.filter, self.stride, self.padding)

    @property
    def options(self) -> dict[str, Pair]:
        return {"stride": self.stride, "padding": self.padding}


@dataclass(frozen=True)
class Fused(_Filtered):
    padding: Pair = 0
    kernel_size: Pair = 2

    def __str__(self) -> str:
        return f"{super().__str__()}-pad{_text(self.padding)}-pool{_text(self.kernel_size)}"

    @property
    def y_shape(self) -> Shape:
        p, q = _positions((self.h, self.w), self.filter, 1, self.padding)
        r, s = both(self.kernel_size)
        return self.n, self.k, p // r if r else 0, q // s if s else 0

    @property
    def window(self) -> int:
        """How many positions of the convolution make one output."""
        r, s = both(self.kernel_size)
        return r * s

    @property
    def options(self) -> dict[str, Pair]:
        return {"padding": self.padding, "kernel_size": self.kernel_size}


@dataclass(frozen=True)
class Pool(_Images):
    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0

    def __str__(self) -> str:
        base = f"{self.n}x{self.c}x{self.h}x{self.w}-window{_text(self.kernel_size)}"
        return base + f"-stride{_text(self.stride)}-pad{_text(self.padding)}"

    @property
    def y_shape(self) -> Shape:
        stride = self.kernel_size if self.stride is None else self.stride
        return self.n, self.c, *_positions((self.h, self.w), self.kernel_size, stride, self.padding)

    @property
    def options(self) -> dict[str, Pair | None]:
        return {"stride": self.stride, "padding": self.padding}


@dataclass(frozen=True)
class Linear:
    n: int
    inputs: int
    outputs: int

    def __str__(self) -> str:
        return f"{self.n}x{self.inputs}-{self.outputs}"

    def with_batch(self, n: int) -> Linear:
        return replace(self, n=n)


@dataclass(frozen=True, eq=False)
class Elements:
    """An array of any shape, and the options of an op that works element by element, row by row, or in place."""

    shape: Shape
    options: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "".join(f"-{name}{value}" for name, value in self.options.items())
        return ("x".join(map(str, self.shape)) or "scalar") + options

    def with_batch(self, n: int) -> Elements:
        return replace(self, shape=(n, *self.shape[1:]))


# The four layers of LeNet.
CONV1, CONV2 = Fused(17, 1, 28, 28, 20, (5, 5)), Fused(17, 20, 12, 12, 50, (5, 5))
FC1, FC2 = Linear(17, 800, 500), Linear(17, 500, 10)

FUSED = [
    CONV1,
    CONV2,
    Fused(3, 3, 32, 32, 32, (5, 5)),
    Fused(3, 32, 16, 16, 64, (3, 3), padding=1),
    Fused(3, 1, 29, 31, 7, (3, 3)),
    Fused(0, 2, 6, 6, 3, (3, 3)),
    Fused(1, 1, 2, 2, 1, (1, 1)),
    Fused(35, 1, 6, 7, 2, (2, 3)),
    Fused(18, 2, 12, 14, 4, (7, 6), padding=1),
    Fused(2, 5, 9, 9, 4, (3, 3), padding=(2, 1), kernel_size=3),
    Fused(5, 3, 8, 9, 6, (3, 2), kernel_size=(1, 4)),
    Fused(4, 2, 7, 6, 11, (2, 2), padding=3, kernel_size=(3, 2)),
    Fused(2, 7, 6, 5, 3, (6, 5), padding=2, kernel_size=1),
    Fused(2, 70, 5, 5, 3, (5, 3), padding=1),
    Fused(700, 1, 6, 6, 3, (3, 3)),
]

# Where Winograd's algorithm is used when it is asked for: whole tiles, ragged ones, an odd row and column that drop.
WINOGRAD = [
    CONV2,
    Fused(3, 3, 32, 32, 32, (5, 5)),
    Fused(3, 32, 16, 16, 64, (3, 3), padding=1),
    Fused(18, 6, 13, 17, 8, (5, 5), padding=2),
    Fused(35, 5, 20, 15, 6, (3, 3), padding=(0, 2)),
    Fused(2, 9, 7, 8, 11, (5, 5), padding=(1, 0)),
]

CONV = [Conv(f.n, f.c, f.h, f.w, f.k, f.filter, padding=f.padding) for f in FUSED] + [
    Conv(3, 2, 11, 9, 5, (3, 3), stride=2),
    Conv(2, 3, 12, 13, 4, (3, 2), stride=(2, 3), padding=(1, 2)),
    Conv(2, 1, 7, 7, 2, (2, 2), stride=3, padding=1),
    Conv(18, 2, 5, 6, 3, (5, 6)),
    Conv(2, 2, 3, 3, 6, (2, 2), stride=2, padding=4),
    Conv(3, 4, 6, 6, 6, (1, 1), stride=2),
]

POOL = [
    Pool(2, 20, 24, 24, 2),
    Pool(3, 5, 8, 8, 2),
    Pool(2, 3, 9, 11, 3, stride=2, padding=1),
    Pool(2, 2, 7, 7, 3, stride=1),
    Pool(1, 3, 8, 9, (2, 3), stride=(1, 2), padding=(1, 1)),
    Pool(2, 1, 10, 10, 2, stride=4),
    Pool(2, 3, 5, 5, 5),
    Pool(1, 1, 1, 1, 1),
    Pool(0, 2, 4, 4, 2),
    Pool(7, 1, 6, 6, 4, stride=1, padding=2),
    Pool(1, 2, 20, 19, 2, stride=1),
]

LINEAR = [
    FC1,
    FC2,
    Linear(0, 3, 4),
    Linear(1, 1, 1),
    Linear(70, 33, 7),
    Linear(5, 130, 64),
    Linear(129, 16, 11),
]

# Wide enough for the linear layer to skip the zeros of dy, and, with enough images and outputs, those of x.
SPARSE = [FC1, Linear(1, 256, 10), Linear(129, 272, 33), Linear(300, 512, 140), Linear(37, 301, 263)]

# For the ops that take any shape: no axis, no element, a few, and enough for several threads.
SHAPES = [Elements(shape) for shape in ((), (0,), (5,), (3, 4, 5), (70001,))]
