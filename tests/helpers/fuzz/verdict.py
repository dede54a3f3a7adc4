"""Whether an op must take a call: by the reference, and by what fastlenet.ops documents of outputs and shared memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.testing.description import Array
from helpers.fuzz.calls import IN_PLACE, OUTPUTS, WRITTEN, Call, out_dtype
from helpers.fuzz.int8_network import NETWORK


@dataclass
class Verdict:
    """Whether an op must take its arguments (True), must refuse them (False), or may do either; and why."""

    taken: bool | None
    why: str = ""


def _extent(array: Array) -> tuple[int, int]:
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


def _fits(array: Any, dtype: npt.DTypeLike, shape: Any) -> str:
    """What is wrong with this output, or nothing."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        return "is no array of that type"
    if array.shape != shape:
        return "has another shape"
    flags = array.flags
    return "" if flags.c_contiguous and flags.aligned and flags.writeable else "is not dense, aligned and writable"


def verdict(call: Call, given: dict[str, Any], out: Any, shapes: Any, exact: Any) -> Verdict:
    """By the reference, and by what `ops` documents beside it."""
    for name, value in given.items() if call.op != NETWORK else ():
        if isinstance(value, np.ndarray) and value.dtype == np.float64 and name not in ("labels", "index", "x_shape"):
            return Verdict(False, f"{name} is float64")
    if isinstance(exact, Exception):
        return Verdict(False, f"the reference: {exact}")
    outputs: list[Any] = []
    if out is not None:
        count = OUTPUTS[call.op]
        if count > 1 and (not isinstance(out, tuple) or len(out) != count):
            return Verdict(False, "out is no tuple of that length")
        outputs = [out] if count == 1 else list(out)
        for i, (array, shape) in enumerate(zip(outputs, shapes, strict=True)):
            wrong = "" if array is None or shape is None else _fits(array, out_dtype(call.op, i), shape)
            if wrong:
                return Verdict(False, f"out {i} {wrong}")
        outputs = [None if shape is None else array for array, shape in zip(outputs, shapes, strict=True)]
    written = [given[name] for name in WRITTEN.get(call.op, ()) if given[name] is not None]
    for array in written:
        if _fits(array, np.float32, array.shape):
            return Verdict(False, "what it should change is not dense, aligned and writable")
    return _apart(call, given, [array for array in outputs if array is not None] + written, outputs)


def _apart(call: Call, given: dict[str, Any], changed: list[Array], outputs: list[Any]) -> Verdict:
    """Arrays whose memory overlaps, one of them changed, may be refused, unless an op may work in place."""
    inputs = {name: value for name, value in given.items() if isinstance(value, np.ndarray) and name != "x_shape"}
    others = [*inputs.items(), *((f"out {i}", array) for i, array in enumerate(outputs) if array is not None)]
    for array, (name, other) in itertools.product(changed, others):
        if array is other and name not in IN_PLACE.get(call.op, ()):
            if sum(o is array for n, o in others if n not in IN_PLACE.get(call.op, ())) == 1:
                continue
            return Verdict(None, f"{name} twice")
        if not array.size or not other.size:
            continue
        (low, high), (begin, end) = _extent(array), _extent(other)
        same = (low, high) == (begin, end) and array.shape == other.shape
        allowed = name in IN_PLACE.get(call.op, ()) and array is outputs[0] and same and other.flags.c_contiguous
        if low < end and begin < high and not allowed:
            return Verdict(None, f"memory shared with {name}")
    return Verdict(True)
