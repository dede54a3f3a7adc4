"""The arrays of one call of an op: copied to the device if necessary, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array, as_integers
from fastlenet.cuda.array import DeviceArray, device, empty, from_numpy, wrap
from fastlenet.cuda.scalars import Count, Rate

__all__ = ["Call"]


class Call:
    """The arrays that an op reads and writes, by name.

    An array that the op writes must not share memory with another one. Only an output that may work in place may be exactly an
    input.
    """

    made: ClassVar[int] = 0  # the number of calls so far, of all ops

    def __init__(self, op: str, out: object = None, outputs: int = 1) -> None:
        Call.made += 1
        self.op = op
        if outputs == 1:
            self._given: tuple[object, ...] = (out,)
        elif out is None:
            self._given = (None,) * outputs
        elif isinstance(out, tuple) and len(out) == outputs:
            self._given = out
        else:
            got = len(out) if isinstance(out, tuple) else type(out).__name__
            raise TypeError(f"{op}: out expects a tuple of {outputs} arrays, got {got}")
        self._arrays: list[tuple[str, DeviceArray, bool, bool]] = []  # name, array, whether written, whether maybe in place

    # --- what it reads ---

    def input(self, argument: str, value: object, dtype: npt.DTypeLike = np.float32, *others: npt.DTypeLike) -> DeviceArray:
        """Returns the array on the device; an array in the host's memory is copied. others: more dtypes that are accepted."""
        dtypes = [np.dtype(one) for one in (dtype, *others)]
        names = " or ".join(map(str, dtypes))
        expected = f"{self.op}: {argument} expects a device or numpy array of {names}, got "
        array = wrap(value)
        if array is None and not isinstance(value, np.ndarray):
            raise TypeError(expected + type(value).__name__)
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(expected + "a masked array, whose mask would be ignored; fill it with .filled(value)")
        found = np.asarray(value) if array is None else array  # of the base class, so that no method of a subclass is called
        if found.dtype not in dtypes:
            raise TypeError(f"{expected}{found.dtype}")
        if array is None:
            return from_numpy(found)
        self._add(argument, array, written=False)
        return array

    def optional(self, argument: str, value: object) -> DeviceArray | None:
        return None if value is None else self.input(argument, value)

    def integers(self, argument: str, values: object, limit: int) -> DeviceArray:
        """Returns class labels or image numbers as int64 on the device. Those from the host may have any integer dtype."""
        array = wrap(values)
        if array is not None:
            return self.input(argument, array, np.int64)
        host = as_integers(self.op, argument, values)
        wrong = np.flatnonzero((host < 0) | (host >= limit))
        if wrong.size:
            got = f"{host.reshape(-1)[wrong[0]]} at position {wrong[0]}"
            raise ValueError(f"{self.op}: {argument} expects values in 0..{limit - 1}, got {got}")
        return from_numpy(host)

    # --- what it writes ---

    def output(self, i: int, shape: Sequence[int], dtype: npt.DTypeLike = np.float32, *, in_place: bool = False) -> DeviceArray:
        """Returns the i-th output: the caller's array, which is checked, or a new one."""
        if self._given[i] is None:
            return empty(shape, dtype)
        return self._changed("out" if len(self._given) == 1 else f"out[{i}]", self._given[i], shape, dtype, in_place)

    def gradients(
        self, x: DeviceArray, weight: DeviceArray, need_dx: bool
    ) -> tuple[DeviceArray | None, DeviceArray, DeviceArray]:
        """Returns the outputs dx (None without need_dx), dweight and dbias."""
        dx = self.output(0, x.shape) if need_dx else None
        return dx, self.output(1, weight.shape), self.output(2, weight.shape[:1])

    def state(self, argument: str, value: object, shape: Sequence[int]) -> DeviceArray:
        """Returns a buffer that a step changes. It must be on the device, since changing a copy would have no effect."""
        array = wrap(value)
        if array is None:
            raise TypeError(f"{self.op}: {argument} expects a device array of float32, got {type(value).__name__}")
        return self._changed(argument, array, shape, np.float32, False)

    def flat(self, argument: str, value: object) -> tuple[int, ...]:
        """Returns the shape of a flat buffer; the others must have it too."""
        array = value if isinstance(value, np.ndarray) else wrap(value)
        if array is None:
            raise TypeError(f"{self.op}: {argument} expects a device or numpy array of float32, got {type(value).__name__}")
        shape = tuple(array.shape)
        device().expect_rank(self.op, argument, 1, "(count,)", shape)
        return shape

    def _changed(self, argument: str, given: object, shape: Sequence[int], dtype: npt.DTypeLike, in_place: bool) -> DeviceArray:
        if not isinstance(given, DeviceArray) or given.dtype != np.dtype(dtype):
            came = given.dtype if isinstance(given, DeviceArray) else type(given).__name__
            raise TypeError(f"{self.op}: {argument} expects a device array of {np.dtype(dtype)}, got {came}")
        self.expect_shape(argument, shape, given)
        if not given.flags.writeable:
            raise ValueError(f"{self.op}: {argument} expects a writable array")
        self._add(argument, given, written=True, in_place=in_place)
        return given

    # --- checks ---

    def expect_shape(self, argument: str, expected: Sequence[int], array: DeviceArray | None) -> None:
        if array is not None:
            device().expect_dims(self.op, argument, list(expected), list(array.shape))

    def expect_none(self, host: Array, wrong: Callable[[Array], Array], argument: str, expected: str) -> None:
        """Raise ValueError if an array from the host contains a wrong value."""
        found = wrong(np.asarray(host))
        if found.any():
            raise ValueError(f"{self.op}: {argument} expects values {expected}, got {np.asarray(host)[found][0]}")

    def _add(self, argument: str, array: DeviceArray, written: bool, in_place: bool = False) -> None:
        for other, second, also_written, may in self._arrays:
            if not (written or also_written) or not _overlap(array, second):
                continue
            if written != also_written and (in_place or may) and _same(array, second):
                continue
            output, shared = (argument, other) if written else (other, argument)
            raise ValueError(f"{self.op}: {output} must not share memory with {shared}")
        self._arrays.append((argument, array, written, in_place))

    # --- numbers ---

    def number(self, argument: str, value: object) -> float:
        result: float = device().number(self.op, argument, value)
        return result

    def rate(self, argument: str, value: float | Rate) -> tuple[int | None, float]:
        """Returns a number, or a learning rate on the device, in the form of the compiled backend."""
        return (value.base.address, value.factor) if isinstance(value, Rate) else (None, self.number(argument, value))

    def count(self, argument: str, value: int | Count, least: int = 0) -> tuple[int | None, int]:
        """Returns steps or a counter, known to Python or on the device, in the form of the compiled backend."""
        if isinstance(value, Count):
            return value.base.address, value.offset % 2**64
        return None, (device().count_from_one if least else device().word)(self.op, argument, value)


def _overlap(a: DeviceArray, b: DeviceArray) -> bool:
    return bool(a.size and b.size) and a.address < b.address + b.nbytes and b.address < a.address + a.nbytes


def _same(a: DeviceArray, b: DeviceArray) -> bool:
    return a.address == b.address and a.nbytes == b.nbytes
