"""What the reference's ops are called with: checked as `fastlenet.ops` checks it, by the same names and in the same words."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import SupportsFloat, SupportsIndex, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import byte_bounds

from fastlenet.backend import Array, Gradients, as_integers

__all__ = ["Call"]

_PAIR = "an int or a pair of ints, below 2^31"
_MASKED = "a masked array, whose mask would be ignored"
_LARGEST = float(np.finfo(np.float32).max)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"an object of {type(value).__name__}"


class Call:
    """The arguments of one call of an op.

    Of the arrays, no two may share memory if the op writes one of them, whatever their roles; only an output that may work in
    place can be an input, all of it.
    """

    def __init__(self, op: str, out: object = None) -> None:
        self.op, self._out = op, out
        self._arrays: list[tuple[str, Array, bool, bool]] = []  # name, array, whether it is written, and may be in place

    def _wanted(self, name: str, expected: str, got: object) -> str:
        return f"{self.op}: {name} expects {expected}, got {got}"

    # --- arrays that are read ---

    def array(self, name: str, value: object, *dtypes: npt.DTypeLike) -> Array:
        """An array of one of the dtypes, as its base class has it."""
        array = self._of_dtype(name, value, *dtypes)
        self._add(name, array, False)
        return array

    def floats(self, name: str, value: object) -> Array:
        """An array of float32 or float64."""
        return self.array(name, value, np.float32, np.float64)

    def optional(self, name: str, value: object) -> Array | None:
        """The same, or None."""
        return None if value is None else self.floats(name, value)

    def integers(self, name: str, values: object, limit: int) -> Array:
        """Numbers in 0..limit-1, of any integer dtype."""
        array = as_integers(self.op, name, values)
        self._add(name, array, False)
        return self.below(name, array, limit)

    def below(self, name: str, array: Array, limit: int) -> Array:
        """As int64, if all are in 0..limit-1."""
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise ValueError(self._wanted(name, f"values in 0..{limit - 1}", f"{array.min()}..{array.max()}"))
        return array.astype(np.int64)

    def _of_dtype(self, name: str, value: object, *dtypes: npt.DTypeLike) -> Array:
        expected = "a numpy array of " + " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
        if not isinstance(value, np.ndarray):
            raise TypeError(self._wanted(name, expected, type(value).__name__))
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(self._wanted(name, expected, _MASKED))
        array = np.asarray(value)
        if array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
            raise TypeError(self._wanted(name, expected, array.dtype))
        return array

    # --- shapes ---

    def rank(self, name: str, array: Array, rank: int) -> None:
        if array.ndim != rank:
            raise ValueError(self._wanted(name, f"{rank} dimensions", f"shape {array.shape}"))

    def shape(self, name: str, array: Array, expected: tuple[int, ...]) -> None:
        if array.shape != expected:
            raise ValueError(self._wanted(name, f"shape {expected}", array.shape))

    def pixels(self, name: str, shape: Sequence[int]) -> None:
        if min(shape[2:]) < 1:
            raise ValueError(self._wanted(name, "planes of at least one pixel", f"shape {tuple(shape)}"))

    def weight(self, value: object) -> Array:
        """A matrix, or filters."""
        weight = self.floats("weight", value)
        if weight.ndim != 2:
            self.filters(weight)
        return weight

    def filters(self, weight: Array) -> None:
        self.rank("weight", weight, 4)
        if min(weight.shape[2:]) < 1:
            raise ValueError(self._wanted("weight", "filters of at least 1 x 1", f"shape {weight.shape}"))

    # --- arrays that are written ---

    def returns(self, result: Array, *, in_place: bool = False) -> Array:
        """The result, or the caller's array, into which it is copied; in_place: that may be an input."""
        return cast(Array, self._fill(["out"], [self._out], [result], in_place)[0])

    def returns_two(self, first: Array, second: Array, *, in_place: bool = False) -> tuple[Array, Array]:
        """Two results, or the caller's arrays; in_place: the first may be an input."""
        return cast("tuple[Array, Array]", self._fill(["out[0]", "out[1]"], self._outs(2), [first, second], in_place))

    def returns_gradients(self, dx: Array | None, dweight: Array, dbias: Array) -> Gradients[Array]:
        """Three results, or the caller's arrays."""
        names = ["out[0]", "out[1]", "out[2]"]
        return cast("Gradients[Array]", self._fill(names, self._outs(3), [dx, dweight, dbias], False))

    def _outs(self, count: int) -> Sequence[object]:
        """The caller's arrays, each None if there is none."""
        outs = (None,) * count if self._out is None else self._out
        if not isinstance(outs, tuple) or len(outs) != count:
            got = len(outs) if isinstance(outs, tuple) else type(outs).__name__
            raise TypeError(self._wanted("out", f"a tuple of {count} arrays", got))
        return outs

    def _fill(
        self, names: list[str], outs: Sequence[object], results: list[Array | None], in_place: bool
    ) -> tuple[Array | None, ...]:
        filled: list[tuple[Array | None, Array | None]] = []
        for i, (name, out, result) in enumerate(zip(names, outs, results, strict=True)):
            dense = None if result is None else np.asarray(result, order="C")
            if out is not None and dense is not None:
                self._writable(name, out, dense, in_place and i == 0)
            filled.append((cast("Array | None", out) if dense is not None else None, dense))
        for out, dense in filled:
            if out is not None and dense is not None:
                np.asarray(out)[...] = dense
        return tuple(dense if out is None else out for out, dense in filled)

    def state(self, name: str, value: object, like: Array | None = None) -> Array:
        """A flat array that the op changes, of the size of another one."""
        if like is None:
            like = self._of_dtype(name, value, np.float32, np.float64)
            self.rank(name, like, 1)
        return self._writable(name, value, like, False)

    def _writable(self, name: str, value: object, like: Array, in_place: bool) -> Array:
        dtypes = (np.float32, np.float64) if like.dtype.kind == "f" else (like.dtype,)
        array = self._of_dtype(name, value, *dtypes)
        self.shape(name, array, like.shape)
        if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise ValueError(f"{self.op}: {name} expects a C-contiguous, aligned and writable array")
        self._add(name, array, True, in_place)
        return array

    def _add(self, name: str, array: Array, written: bool, in_place: bool = False) -> None:
        for other, second, also_written, may in self._arrays:
            if not (written or also_written) or not np.may_share_memory(array, second):
                continue
            if written != also_written and (in_place or may) and byte_bounds(array) == byte_bounds(second):
                continue
            output, shared = (name, other) if written else (other, name)
            raise ValueError(f"{self.op}: {output} must not share memory with {shared}")
        self._arrays.append((name, array, written, in_place))

    # --- numbers and words ---

    def number(self, name: str, value: object) -> float:
        try:
            if isinstance(value, (str, bytes)):  # which float() would read
                raise TypeError
            return float(cast(SupportsFloat, value))
        except TypeError:
            raise TypeError(self._wanted(name, "a number", _shown(value))) from None
        except OverflowError:
            raise ValueError(self._wanted(name, "a number within a float's range", _shown(value))) from None

    def numbers(self, **values: object) -> tuple[float, ...]:
        return tuple(self.number(name, value) for name, value in values.items())

    def fraction(self, name: str, value: object) -> float:
        number = self.number(name, value)
        if not 0 <= number < 1:
            raise ValueError(self._wanted(name, "a number in [0, 1)", _shown(value)))
        return number

    def not_negative(self, name: str, value: object) -> float:
        """Rounded to float32."""
        number = self.number(name, value)
        if not 0 <= number <= _LARGEST:
            raise ValueError(self._wanted(name, "a number of at least 0 that fits float32", _shown(value)))
        return float(np.float32(number))

    def normalisation(self, mean: object, std: object, channels: int) -> tuple[Array, Array]:
        """Of each channel, (c, 1, 1): (pixel - mean) / std must be numbers in float32, whatever the pixel in [0, 1].

        channels: 0 of images without an axis of channels, for which there is one number.
        """
        centres, scales = self._per_channel("mean", mean, channels), self._per_channel("std", std, channels)
        for centre, scale in zip(centres, scales, strict=True):
            if not math.isfinite(centre):
                raise ValueError(self._wanted("mean", "a finite number", mean))
            if not (math.isfinite(scale) and scale > 0):
                raise ValueError(self._wanted("std", "a positive number", std))
            if 1 + abs(centre) > scale * _LARGEST:
                raise ValueError(self._wanted("std", "a number so large that (1 + |mean|) / std fits float32", std))
        return np.reshape(centres, (-1, 1, 1)), np.reshape(scales, (-1, 1, 1))

    def _per_channel(self, name: str, value: object, channels: int) -> list[float]:
        values = tuple(value) if isinstance(value, np.ndarray) and value.ndim == 1 else value
        if not channels or not isinstance(values, (tuple, list)):
            return [self.number(name, value)] * max(channels, 1)
        if len(values) != channels:
            raise ValueError(self._wanted(name, f"a number, or one for each of {channels} channels", _shown(value)))
        return [self.number(name, number) for number in values]

    def integer(self, name: str, value: object, least: int, most: int, expected: str) -> int:
        try:
            number = operator.index(cast(SupportsIndex, value))
        except TypeError:
            raise TypeError(self._wanted(name, expected, _shown(value))) from None
        if not least <= number <= most:
            raise ValueError(self._wanted(name, expected, _shown(value)))
        return number

    def word(self, name: str, value: object) -> int:
        """64 bits: a seed, a counter."""
        return self.integer(name, value, 0, 2**64 - 1, "an integer in 0..2^64-1")

    def pair(self, name: str, value: object, least: int) -> tuple[int, int]:
        both = value if isinstance(value, (tuple, list)) else (value, value)
        if len(both) != 2:
            raise TypeError(self._wanted(name, _PAIR, _shown(value)))
        first, second = (self.integer(name, side, 1 - 2**31, 2**31 - 1, _PAIR) for side in both)
        if first < least or second < least:
            raise ValueError(self._wanted(name, f"integers of at least {least}", (first, second)))
        return first, second

    def sizes(self, name: str, value: object) -> tuple[int, ...]:
        expected = "a sequence of non-negative ints"
        try:
            return tuple(self.integer(name, size, 0, 2**63 - 1, expected) for size in cast("Iterable[object]", value))
        except TypeError:
            raise TypeError(self._wanted(name, expected, _shown(value))) from None

    def matrices(self, name: str, value: object, count: int) -> list[tuple[int, int, int]]:
        """(begin, rows, columns) of matrices in a flat buffer of `count` numbers."""
        expected = "a sequence of (begin, rows, columns), of non-negative ints"
        if not isinstance(value, (tuple, list)):
            raise TypeError(self._wanted(name, expected, _shown(value)))
        parts: list[tuple[int, int, int]] = []
        end = 0
        for item in value:
            if not isinstance(item, (tuple, list)) or len(item) != 3:
                raise TypeError(self._wanted(name, expected, _shown(value)))
            begin, rows, columns = (self.integer(name, size, 0, 2**63 - 1, expected) for size in item)
            if begin < end or begin > count or begin + rows * columns > count:
                within = f"matrices one after the other within {count} parameters"
                raise ValueError(self._wanted(name, within, _shown(value)))
            parts.append((begin, rows, columns))
            end = begin + rows * columns
        return parts
