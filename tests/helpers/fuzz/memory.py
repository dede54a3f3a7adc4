"""Arrays in memory of every kind, with bytes around them that nobody may write, and what changed."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.testing.description import Array
from fastlenet.testing.values import Draw

_FILL = 0xFB  # as floats -2.6e36, as int32 negative, as a winner none

SHARED = ("broadcast", "windows")  # axes share memory, so that the values become others
ORDERS = ("plain",) * 8 + ("fortran", "permuted", "reversed", "sliced", *SHARED)


class Liar(np.ndarray[Any, Any]):
    """An array whose methods lie or fail once `armed`; what lies in its memory is as good as any other's."""

    armed = False

    def __array_finalize__(self, other: Any) -> None:
        if Liar.armed:
            raise RuntimeError("an array's __array_finalize__ was called")

    def copy(self, order: Any = "C") -> Any:
        return np.zeros(1, np.uint8) if Liar.armed else super().copy(order)

    def astype(self, *arguments: Any, **options: Any) -> Any:
        return None if Liar.armed else super().astype(*arguments, **options)

    def __array_function__(self, *arguments: Any) -> Any:
        raise RuntimeError("an array's __array_function__ was called")

    def __array_ufunc__(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("an array's __array_ufunc__ was called")


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


class Memory:
    """The memory of a case's arrays: roots of bytes, of which the arrays are views."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.roots: list[Array] = []
        self._before: list[Array] = []

    def root(self, size: int) -> Array:
        """So many bytes; now and then those of a file."""
        if size and self._draw.chance(0.02):
            with tempfile.TemporaryFile() as file:
                file.truncate(size)
                # numpy.memmap is a subclass that knows its file; mmap alone is a buffer.
                kind = np.memmap(file, np.uint8, "r+", shape=(size,)) if self._draw.chance(0.5) else None
                root = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8) if kind is None else kind
        else:
            root = np.empty(size, np.uint8)
        root.fill(_FILL)
        self.roots.append(root)
        return root

    def dense(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array with nothing or a guard around it (the address sanitizer has its own), aligned to its elements."""
        draw, item = self._draw, np.dtype(dtype).itemsize
        size = int(np.prod(shape)) * item
        front, back = (0, 0) if draw.chance(0.4) else (draw.pick((0, item, 2 * item, 3 * item, 32, 64)), 64)
        return self.view(self.root(front + size + back), front, shape, dtype)

    @staticmethod
    def view(root: Array, start: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return np.ndarray(shape, dtype, root, start)

    def array(self, values: Array, *, odd: bool = True, same: bool = False) -> Array:
        """These values in memory of some kind; or others, unless they must be the same, where axes share memory."""
        draw = self._draw
        if not odd or values.dtype.hasobject:
            result = values.copy() if values.dtype.hasobject else self.dense(values.shape, values.dtype)
            result[...] = values
            return result
        order = draw.pick(ORDERS)
        result = self._ordered(values, "plain" if same and order in SHARED else order)
        if draw.chance(0.05):
            result.flags.writeable = False
        if draw.chance(0.03):
            result = result.view(Liar)
        return result

    def _ordered(self, values: Array, order: str) -> Array:
        shape, dtype, draw = values.shape, values.dtype, self._draw
        axis = draw.below(values.ndim) if values.ndim else 0
        if not values.ndim or order == "plain":
            if draw.chance(0.1):
                start = draw.pick((1, 2, 3))
                array = self.view(self.root(start + values.nbytes), start, shape, dtype)
            else:
                array = self.dense(shape, dtype)
        elif order == "fortran":
            array = self.dense(shape[::-1], dtype).T
        elif order == "permuted":
            axes = [int(i) for i in draw.rng.permutation(values.ndim)]
            array = self.dense(tuple(shape[i] for i in axes), dtype).transpose(np.argsort(axes))
        elif order == "reversed":
            array = np.flip(self.dense(shape, dtype), axis)
        elif order == "sliced":
            step = draw.pick((2, 3, -2))
            size = max(0, (shape[axis] - 1) * abs(step) + 1) if shape[axis] else 0
            wide = self.dense((*shape[:axis], size, *shape[axis + 1 :]), dtype)
            array = wide[(slice(None),) * axis + (slice(None, None, step),)]
        elif order == "broadcast" and shape[axis]:
            one = self.dense((*shape[:axis], 1, *shape[axis + 1 :]), dtype)
            one[...] = values.take([0], axis)
            return np.broadcast_to(one, shape)
        elif values.size:  # windows: every axis steps by one element
            memory = self.dense((sum(shape) - values.ndim + 1,), dtype)
            memory[...] = values.reshape(-1)[: len(memory)] if values.size >= len(memory) else np.resize(values, memory.shape)
            return np.lib.stride_tricks.as_strided(memory, shape, (dtype.itemsize,) * values.ndim, writeable=False)
        else:
            array = self.dense(shape, dtype)
        array[...] = values
        return array

    def together(self, values: Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[Array, Array]:
        """The values and an output of that shape in one root, most often overlapping."""
        item, size = np.dtype(dtype).itemsize, int(np.prod(shape)) * np.dtype(dtype).itemsize
        most = values.nbytes // item * item
        start = self._draw.pick((0, 0, 0, item, most // 2 // item * item, max(most - item, 0), most))
        ahead = self._draw.pick((0, 0, 4, 8, 16)) // values.itemsize * values.itemsize
        if values.nbytes % item:
            most += item
        root = self.root(max(ahead + values.nbytes, start + size))
        given = self.view(root, ahead, values.shape, values.dtype)
        given[...] = values
        return given, self.view(root, start, shape, dtype)

    # --- what changed ---

    def note(self) -> None:
        """From here on nothing may change."""
        self._before = [root.copy() for root in self.roots]

    def rewind(self) -> None:
        """As it was then."""
        for root, before in zip(self.roots, self._before, strict=True):
            root[...] = before

    def only_changed(self, written: Iterable[Array]) -> bool:
        """Whether nothing changed but what lies in these arrays."""
        written = list(written)
        for root, before in zip(self.roots, self._before, strict=True):
            changed = np.asarray(root) != before
            if not changed.any():
                continue
            for array in written:
                start = address(array) - address(root)
                if 0 <= start <= root.size:
                    changed[start : start + array.nbytes] = False
            if changed.any():
                return False
        return True


def plain(value: Any) -> Any:
    """A copy, dense and of the base class, with the dtype that it has."""
    return np.array(value.view(np.ndarray), order="C") if isinstance(value, np.ndarray) else value
