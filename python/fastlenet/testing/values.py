"""Random numbers for the descriptions and random choices for the fuzzer. The same seed repeats them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array

__all__ = [
    "BATCHES",
    "CHANNELS",
    "EXACT",
    "FEATURES",
    "FILTERS",
    "MOST_ELEMENTS",
    "SIDES",
    "Draw",
    "Numbers",
    "integers",
    "normals",
    "places",
]

T = TypeVar("T")

# Zeros and ones, and what lies around the vectors' 4, 8 and 16 lanes.
BATCHES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 19, 31, 33, 37)
CHANNELS = (0, 1, 1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17)
SIDES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17)
FILTERS = (0, 1, 1, 2, 2, 3, 3, 3, 4, 5, 5, 7)
FEATURES = (0, 1, 2, 3, 4, 5, 7, 8, 11, 15, 16, 17, 31, 32, 33, 67, 129, 256, 260)
MOST_ELEMENTS = 40_000

KINDS = ("integers",) * 9 + ("normals",) * 4 + ("sparse",) * 2 + ("ties", "zeros", "odd", "odd", "denormals", "huge")
EXACT = ("integers", "sparse", "ties", "zeros")  # whose sums of products are exact in float32
ODD = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 1.0], np.float32)


def integers(rng: np.random.Generator, shape: tuple[int, ...], largest: int = 3) -> Array:
    """Float32 integers in -largest..largest, one in four of them 0: every partial sum of their products is exact."""
    values = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.75)
    return np.asarray(values, np.float32)


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Float32 numbers with mean 0 and deviation 1."""
    return np.asarray(rng.standard_normal(shape, dtype=np.float32))


def places(rng: np.random.Generator, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
    """Integers in 0..limit-1, as far as the dtype goes; zeros where there are none."""
    most = min(limit, np.iinfo(np.dtype(dtype)).max + 1)
    return rng.integers(0, most, shape).astype(dtype) if most > 0 else np.zeros(shape, dtype)


class Numbers:
    """Small integers or normals, by a seed of whatever can be written."""

    def __init__(self, kind: str, *seed: object) -> None:
        self.kind = kind
        self.rng = np.random.default_rng(list(repr((kind, *map(str, seed))).encode()))

    def __call__(self, *shape: int) -> Array:
        return integers(self.rng, shape) if self.kind == "integers" else normals(self.rng, shape)

    def places(self, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
        return places(self.rng, shape, limit, dtype)


class Draw:
    """The fuzzer's choices."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self.rng.random() * len(values))]

    def below(self, limit: int) -> int:
        return int(self.rng.random() * limit)

    def dims(self, *choices: Sequence[int]) -> tuple[int, ...]:
        """One size of each; the first shrinks until the product is moderate."""
        sizes = [self.pick(choice) for choice in choices]
        while np.prod(sizes) > MOST_ELEMENTS:
            sizes[0] = sizes[0] // 2 if sizes[0] > 1 else 1
            if sizes[0] == 1:
                sizes[-1] = sizes[-1] // 2 + 1
        return tuple(sizes)

    def any_shape(self) -> tuple[int, ...]:
        """For the ops that take arrays of any shape; now and then of several pieces' length, for more than one thread."""
        if self.chance(0.03):
            return (self.pick((4095, 4096, 4097, 9001, 20_011)),)
        return self.dims(*([FEATURES, SIDES, FILTERS, CHANNELS][: self.below(5)]))

    def pair(self, values: Sequence[int]) -> Any:
        """An integer or a pair of them, now and then as NumPy's integers or a bool."""
        first = self.pick(values)
        if self.chance(0.6):
            if first in (0, 1) and self.chance(0.05):
                return bool(first)
            return self.pick((np.int8, np.int64, np.uint16))(first) if self.chance(0.1) else first
        both = (first, self.pick(values))
        return list(both) if self.chance(0.1) else both

    # --- arrays ---

    def kind(self) -> str:
        return self.pick(KINDS)

    def values(self, shape: tuple[int, ...], kind: str) -> Array:
        """Float32 numbers of that kind."""
        rng = self.rng
        if kind == "zeros":
            return np.zeros(shape, np.float32)
        if kind in ("integers", "sparse", "ties"):
            most, share = {"integers": (3, 0.8), "sparse": (3, 0.15), "ties": (1, 0.6)}[kind]
            return np.asarray(rng.integers(-most, most + 1, shape) * (rng.random(shape) < share), np.float32)
        numbers = rng.standard_normal(shape, np.float32)
        if kind == "odd":
            spots = rng.random(shape) < self.pick((0.02, 0.2))
            return np.where(spots, rng.choice(ODD, shape), numbers)
        with np.errstate(over="ignore"):
            return np.asarray(numbers * np.float32({"normals": 1.0, "denormals": 1e-41, "huge": 1e38}[kind]))

    def places(self, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
        """Indices below the limit, or zeros where there are none."""
        return places(self.rng, shape, limit, dtype)
