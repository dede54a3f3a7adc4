"""What the reference's ops are called with: checked as `fastlenet.ops` checks it, by the same names and in the same words."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import byte_bounds

__all__ = ["Call"]

Array = npt.NDArray[Any]
_PAIR = "an int or a pair of ints, below 2^31"
_MASKED = "a masked array, whose mask would be ignored"
_LARGEST = float(np.finfo(np.float32).max)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"an object of {type(value).__name__}"


class Call:
    """The arguments of one call of an op.

    Of the arrays, no two may share memory if the op writes one of them, whatever their roles; only an output that may work in
    place can be an input, all of it.
    """

    def __init__(self, op: str, out: Any = None) -> None:
        self.op, self._out = op, out
        self._arrays: list[tuple[str, Array, bool, bool]] = []  # name, array, whether it is written, and may be in place

    def _wanted(self, name: str, expected: str, got: Any) -> str:
        return f"{self.op}: {name} expects {expected}, got {got}"

    # --- arrays that are read ---

    def array(self, name: str, value: Any, *dtypes: npt.DTypeLike) -> Array:
        """An array of one of the dtypes, as its base class has it."""
        array = self._of_dtype(name, value, *dtypes)
        self._add(name, array, False)
        return array

    def floats(self, **values: Any) -> tuple[Any, ...]:
        """Each as an array of float32 or float64, None as None."""
        return tuple(
            None if value is None and name == "bias" else self.array(name, value, np.float32, np.float64)
            for name, value in values.items()
        )

    def integers(self, name: str, values: Any, limit: int) -> Array:
        """Numbers in 0..limit-1, of any integer dtype."""
        if isinstance(values, np.ma.MaskedArray):
            raise TypeError(self._wanted(name, "an array of integers", _MASKED))
        try:
            array = np.asarray(values)
        except ValueError:
            raise ValueError(self._wanted(name, "an array of integers", "rows of different lengths")) from None
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(self._wanted(name, "an array of integers", array.dtype))
        self._add(name, array, False)
        return self.below(name, array, limit)

    def below(self, name: str, array: Array, limit: int) -> Array:
        """As int64, if all are in 0..limit-1."""
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise ValueError(self._wanted(name, f"values in 0..{limit - 1}", f"{array.min()}..{array.max()}"))
        return array.astype(np.int64)

    def _of_dtype(self, name: str, value: Any, *dtypes: npt.DTypeLike) -> Array:
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

    def weight(self, value: Array) -> Array:
        """A matrix, or filters."""
        (weight,) = self.floats(weight=value)
        if weight.ndim != 2:
            self.filters(weight)
        return cast(Array, weight)

    def filters(self, weight: Array) -> None:
        self.rank("weight", weight, 4)
        if min(weight.shape[2:]) < 1:
            raise ValueError(self._wanted("weight", "filters of at least 1 x 1", f"shape {weight.shape}"))

    # --- arrays that are written ---

    def returns(self, *results: Array | None, in_place: bool = False) -> Any:
        """The results, or the caller's arrays, into which they are copied; in_place: the first may be an input."""
        results = tuple(None if result is None else np.asarray(result, order="C") for result in results)
        count = len(results)
        outs = (self._out,) if count == 1 else (None,) * count if self._out is None else self._out
        if not isinstance(outs, tuple) or len(outs) != count:
            got = len(outs) if isinstance(outs, tuple) else type(outs).__name__
            raise TypeError(self._wanted("out", f"a tuple of {count} arrays", got))
        given = [None if result is None else out for out, result in zip(outs, results, strict=True)]
        for i, (out, result) in enumerate(zip(given, results, strict=True)):
            if out is not None and result is not None:
                self._writable("out" if count == 1 else f"out[{i}]", out, result, in_place and i == 0)
        for out, result in zip(given, results, strict=True):
            if out is not None:
                np.asarray(out)[...] = result
        filled = tuple(result if out is None else out for out, result in zip(given, results, strict=True))
        return filled if count > 1 else filled[0]

    def state(self, **values: Any) -> tuple[Any, ...]:
        """Flat arrays of one size that the op changes; velocity may be None."""
        first, *_ = values
        like = self._of_dtype(first, values[first], np.float32, np.float64)
        self.rank(first, like, 1)
        return tuple(
            None if value is None and name == "velocity" else self._writable(name, value, like, False)
            for name, value in values.items()
        )

    def _writable(self, name: str, value: Any, like: Array, in_place: bool) -> Array:
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

    def number(self, name: str, value: Any) -> float:
        try:
            if isinstance(value, (str, bytes)):  # which float() would read
                raise TypeError
            return float(value)
        except TypeError:
            raise TypeError(self._wanted(name, "a number", _shown(value))) from None
        except OverflowError:
            raise ValueError(self._wanted(name, "a number within a float's range", _shown(value))) from None

    def numbers(self, **values: Any) -> tuple[float, ...]:
        return tuple(self.number(name, value) for name, value in values.items())

    def fraction(self, name: str, value: Any) -> float:
        number = self.number(name, value)
        if not 0 <= number < 1:
            raise ValueError(self._wanted(name, "a number in [0, 1)", _shown(value)))
        return number

    def not_negative(self, name: str, value: Any) -> float:
        """Rounded to float32."""
        number = self.number(name, value)
        if not 0 <= number <= _LARGEST:
            raise ValueError(self._wanted(name, "a number of at least 0 that fits float32", _shown(value)))
        return float(np.float32(number))

    def normalisation(self, mean: Any, std: Any) -> tuple[float, float]:
        """(pixel / 255 - mean) / std must be numbers in float32, whatever the pixel."""
        centre, scale = self.numbers(mean=mean, std=std)
        if not math.isfinite(centre):
            raise ValueError(self._wanted("mean", "a finite number", mean))
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(self._wanted("std", "a positive number", std))
        if 1 + abs(centre) > scale * _LARGEST:
            raise ValueError(self._wanted("std", "a number so large that (1 + |mean|) / std fits float32", std))
        return centre, scale

    def integer(self, name: str, value: Any, least: int, most: int, expected: str) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(self._wanted(name, expected, _shown(value))) from None
        if not least <= number <= most:
            raise ValueError(self._wanted(name, expected, _shown(value)))
        return number

    def word(self, name: str, value: Any) -> int:
        """64 bits: a seed, a counter."""
        return self.integer(name, value, 0, 2**64 - 1, "an integer in 0..2^64-1")

    def pair(self, name: str, value: Any, least: int) -> tuple[int, int]:
        both = value if isinstance(value, (tuple, list)) else (value, value)
        if len(both) != 2:
            raise TypeError(self._wanted(name, _PAIR, _shown(value)))
        first, second = (self.integer(name, side, 1 - 2**31, 2**31 - 1, _PAIR) for side in both)
        if first < least or second < least:
            raise ValueError(self._wanted(name, f"integers of at least {least}", (first, second)))
        return first, second

    def sizes(self, name: str, value: Any) -> tuple[int, ...]:
        expected = "a sequence of non-negative ints"
        try:
            return tuple(self.integer(name, size, 0, 2**63 - 1, expected) for size in value)
        except TypeError:
            raise TypeError(self._wanted(name, expected, _shown(value))) from None
