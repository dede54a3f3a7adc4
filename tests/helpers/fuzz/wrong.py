"""What no op should take, in the place of one of its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlenet.testing.description import KINDS, Array
from fastlenet.testing.values import MOST_ELEMENTS, Draw
from helpers.fuzz import int8_network
from helpers.fuzz.calls import Call

INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u4", "u8", "f4", "f8", "?", ">i4")
DTYPES: tuple[Any, ...] = (*INTEGERS, "f2", "c8", ">f4", "O", "U3", "M8[s]", "V4", [("a", "f4")])


class Fraud:
    """Says that it is an array."""

    dtype, shape, ndim, size, nbytes = np.dtype(np.float32), (2, 2), 2, 4, 16

    def __len__(self) -> int:
        return 2


class Convertible:
    """Which NumPy makes an array of, and the ops should not."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.zeros((2, 2), np.float32)


def wrong_array(draw: Draw, array: Array) -> Any:
    """Something else in the place of this array of floats or bytes: another dtype, another shape, or none at all."""
    if draw.chance(0.45):
        return np.zeros(array.shape, np.dtype(draw.pick(DTYPES)))
    if draw.chance(0.6):
        return wrong_shape(draw, array)
    junk: list[Any] = [None, [], 0.0, "x", b"abcd", object(), np.float32(1), memoryview(b"abcdefgh"), Fraud(), Convertible()]
    return draw.pick([*junk, (1.0, 2.0), array.tolist() if array.size < 100 else [1.0], np.ndarray, {"a": 1}])


def wrong_shape(draw: Draw, array: Array) -> Array:
    """An axis more or fewer, another order, or one size that differs: mostly refused, now and then as good as before."""
    old = array.shape
    shapes: list[tuple[int, ...]] = [(*old, 1), (1, *old), (), (array.size,), old[::-1], old[1:]]
    for i, size in enumerate(old):
        shapes += [(*old[:i], other, *old[i + 1 :]) for other in (size + 1, size - 1, 0) if other >= 0]
    shape = draw.pick(shapes)
    return np.zeros(shape if np.prod(shape) <= MOST_ELEMENTS * 2 else (), array.dtype)


def wrong_places(draw: Draw, array: Array) -> Any:
    """One index out of range, by a little or as far as its type goes; or a type that may not be one of integers."""
    if draw.chance(0.3):
        return wrong_array(draw, array)
    dtype = array.dtype if draw.chance(0.6) else np.dtype(draw.pick(INTEGERS))
    other = array.astype(dtype)
    if other.size and dtype.kind in "iu":
        info = np.iinfo(dtype)
        extreme: list[int] = [info.min, info.max, -1, 255, 254, 4, 16, int(array.max(initial=0)) + 1, 2**31, 2**32, 2**62]
        other.flat[draw.below(other.size)] = min(max(draw.pick(extreme), info.min), info.max)
    return other


# Beyond what can be addressed: anything between would be a test of how much memory there is.
HUGE = (2**62, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63), -(2**70))
WRONG_WHOLE: tuple[Any, ...] = (-1, 0, 1.5, 2.0, float("nan"), float("inf"), None, "2", (), (1,), [1, 2, 3], np.float32(1), 1j)
WRONG_PAIRS: tuple[Any, ...] = (
    *WRONG_WHOLE,
    (1, 2, 3),
    (1, -1),
    (1.5, 1),
    (None, 1),
    ("1", 1),
    ((1, 1), 1),
    np.array([1, 1]),
    np.array(1),
    {1, 2},
    "11",
    (2**62, 1),
    (1, 2**70),
)
NOT_REAL: tuple[Any, ...] = (None, "0.5", (), [0.5], 1j, object())
WRONG_REAL: tuple[Any, ...] = (*NOT_REAL, -1.0, 1.0, 1.5, float("nan"), float("inf"), float("-inf"), 1e300)
WRONG_ALGORITHMS: tuple[Any, ...] = ("fft", "", "Direct", None, 1, b"direct", ["direct"], "direct\0", "\ud800")


def wrong_whole(draw: Draw) -> Any:
    return draw.pick(HUGE) if draw.chance(0.3) else draw.pick(WRONG_WHOLE)


def wrong_pair(draw: Draw) -> Any:
    return draw.pick(HUGE) if draw.chance(0.2) else draw.pick(WRONG_PAIRS)


def wrong_matrices(draw: Draw, value: Any) -> Any:
    """A matrix that leaves the buffer, overlaps another one or has no sizes: mostly refused."""
    parts = [list(part) for part in value] or [[0, 1, 1]]
    part = draw.pick(parts)
    part[draw.below(3)] = draw.pick((-1, 0, 1, 7, 1.5, None, "2", np.int64(3), *HUGE))
    return draw.pick((parts, parts[::-1], [*parts, part], None, 4, "111", part, [part[:2]], {"a": 1}, np.array([[0, 1, 1]])))


# --- argument by argument --------------------------------------------------------------------------------------------------


def _wrong(draw: Draw, call: Call, name: str) -> Any:
    """Something else for that argument; itself where nothing is made up for it."""
    value, kind = call.arguments[name], KINDS.get(int8_network.name_of(name))
    if call.op == int8_network.NETWORK:
        kind = kind or int8_network.KINDS.get(int8_network.name_of(name))
    if kind == "places":
        return wrong_places(draw, np.asarray(value))
    if isinstance(value, np.ndarray) and kind != "sizes":
        return wrong_array(draw, value)
    if kind == "layers":
        return int8_network.wrong_layers(draw, value)
    if kind == "pair":
        return wrong_pair(draw)
    if kind == "integer":
        return wrong_whole(draw)
    if kind == "number":
        return draw.pick(WRONG_REAL)
    if kind == "choice":
        return draw.pick(WRONG_ALGORITHMS)
    if kind == "matrices":
        return wrong_matrices(draw, value)
    if kind == "sizes":
        sizes: list[Any] = [int(size) for size in value]
        wrong: list[Any] = [sizes[:3], [*sizes, 1], (), None, 4, "1111", sizes[::-1]]
        i = draw.below(4)
        return draw.pick([*wrong, *([*sizes[:i], other, *sizes[i + 1 :]] for other in (0, -1, 1.9, sizes[i] + 1, None, *HUGE))])
    if name in ("average", "bias", "velocity", "transform"):
        return draw.pick((np.zeros(1, np.float32), np.zeros((), np.float32), 0.0, [], "x", object()))
    return value


def twist(draw: Draw, call: Call) -> None:
    """Makes one argument of the call wrong, seldom two. Twice as often one of places, which an op reads and writes at."""
    names = [*call.arguments, *(name for name in call.arguments if KINDS.get(name) == "places")]
    for _ in range(1 if draw.chance(0.9) else 2):
        name = draw.pick(names)
        if name not in call.twists:
            call.arguments[name] = _wrong(draw, call, name)
            call.twists += (name,)
