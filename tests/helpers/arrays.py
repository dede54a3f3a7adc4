"""Inputs and guarded outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def integers(rng: np.random.Generator, shape: tuple[int, ...], largest: int = 3) -> Array:
    """Float32 integers in -largest..largest, one in four of them 0: every partial sum of their products is exact."""
    values = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.75)
    return np.asarray(values, np.float32)


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


class Guarded:
    """Output arrays, filled with NaN (or the largest integer) and with guard bytes on both sides, to check afterwards."""

    def __init__(self) -> None:
        self._memory: list[Array] = []

    def output(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 128, 0xA5, np.uint8)
        self._memory.append(memory)
        array = memory[64 : 64 + size].view(dtype).reshape(shape)
        array.fill(np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max)
        return array

    def check(self) -> None:
        for memory in self._memory:
            assert (memory[:64] == 0xA5).all() and (memory[-64:] == 0xA5).all(), "wrote outside the output"


STYLES = ("plain", "reversed", "strided", "fortran", "misaligned", "read-only")


def styled(array: Array, style: str) -> Array:
    """The same numbers in memory of another kind."""
    if style == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if style == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if style == "fortran":
        return np.asfortranarray(array)
    if style == "misaligned":
        memory = np.empty(array.nbytes + 1, np.uint8)
        view = memory[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if style == "read-only":
        copy = array.copy()
        copy.flags.writeable = False
        return copy
    return array
