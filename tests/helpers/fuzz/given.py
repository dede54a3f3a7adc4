"""Where a call's arguments lie, and what is given as its outputs: right, wrong, or in memory that is another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.testing.description import Array
from fastlenet.testing.values import MOST_ELEMENTS, Draw
from helpers.fuzz.calls import IN_PLACE, OUTPUTS, WRITTEN, Call, out_dtype
from helpers.fuzz.memory import Memory, plain
from helpers.fuzz.oracle import expected


def place(draw: Draw, memory: Memory, call: Call) -> dict[str, Any]:
    """The arguments with their arrays in memory of some kind; call.arguments becomes what lies there."""
    given = dict(call.arguments)
    arrays = [name for name, value in given.items() if isinstance(value, np.ndarray) and name != "x_shape"]
    written = WRITTEN.get(call.op, ())
    for name in arrays:
        given[name] = memory.array(given[name], odd=name not in written or draw.chance(0.1))
    if len(arrays) > 1 and draw.chance(0.08):
        first, second = (arrays[i] for i in draw.rng.permutation(len(arrays))[:2])
        one, other = call.arguments[first], call.arguments[second]
        if draw.chance(0.3) and one.shape == other.shape and one.dtype == other.dtype:
            given[second] = given[first]
        elif not (one.dtype.hasobject or other.dtype.hasobject) and one.itemsize and other.itemsize:
            given[first], given[second] = memory.together(one, other.shape, other.dtype)
            if other.size == one.size and draw.chance(0.5):
                given[second][...] = other
            elif other.dtype == np.float32:
                given[second][...] = 1
    call.arguments = {name: plain(value) for name, value in given.items()}
    call.exact = call.exact and all(_small_integers(call.arguments[name]) for name in _float_names(call))  # still, where shared
    return given


def _small_integers(array: Array) -> bool:
    return bool((np.abs(array) <= 9).all() and (array == np.rint(array)).all())


def _float_names(call: Call) -> list[str]:
    return [n for n, value in call.arguments.items() if isinstance(value, np.ndarray) and value.dtype == np.float32]


def shapes_of_outputs(call: Call, good: dict[str, Any], exact: Any) -> list[tuple[int, ...] | None]:
    """Those of the outputs, as good as they can be known."""
    count = OUTPUTS[call.op]
    if isinstance(exact, Exception) and call.twists:
        try:
            exact = expected(Call(call.op, good, call.exact))
        except Exception:
            return [(2, 3)] * count
    if isinstance(exact, Exception):
        return [(2, 3)] * count
    arrays = exact[1:] if len(exact) > count else exact
    return [None if array is None else array.shape for array in arrays]


def _right(memory: Memory, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    return memory.dense(shape, dtype)


def _wrong_out(draw: Draw, memory: Memory, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
    """An output of another kind, which is mostly refused."""
    choice = draw.below(7)
    if choice == 0 and np.prod(shape) < MOST_ELEMENTS and max(shape, default=0) < MOST_ELEMENTS:
        return _right(memory, draw.pick([(*shape, 1), shape[1:], tuple(s + 1 for s in shape), (0,)]), dtype)
    if choice == 1:
        return _right(memory, shape, draw.pick([d for d in ("f8", "i4", "u1", ">f4", "f4", "?") if np.dtype(d) != dtype]))
    if choice in (2, 3):
        return memory.array(np.zeros(shape, dtype))
    if choice == 4:
        out = _right(memory, shape, dtype)
        out.flags.writeable = False
        return out
    if choice == 5:
        start = draw.pick((1, 2, 3))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return memory.view(memory.root(start + size), start, shape, dtype)
    return draw.pick([[], "out", 1.0, object(), (), np.float32, [_right(memory, shape, dtype)]])


def draw_out(draw: Draw, memory: Memory, call: Call, given: dict[str, Any], shapes: list[tuple[int, ...] | None]) -> Any:
    """None, right outputs, wrong ones, or such as share memory with an input or with each other."""
    if draw.chance(0.35):
        return None
    dtypes = [out_dtype(call.op, i) for i in range(len(shapes))]
    outs: list[Any] = []
    for shape, dtype in zip(shapes, dtypes, strict=True):
        absent = (shape is None and draw.chance(0.7)) or (len(shapes) > 1 and draw.chance(0.15))
        outs.append(None if absent else _right(memory, shape or (), dtype))
    if draw.chance(0.25):
        i = draw.below(len(outs))
        outs[i] = _wrong_out(draw, memory, shapes[i] or (), dtypes[i])
    elif draw.chance(0.3):
        _share(draw, memory, call, given, outs, shapes, dtypes)
    if len(outs) == 1:
        return outs[0]
    if draw.chance(0.03):
        return draw.pick([list(outs), tuple(outs[1:]), (*outs, None), outs[0], iter(outs)])
    return tuple(outs)


def _share(
    draw: Draw, memory: Memory, call: Call, given: dict[str, Any], outs: list[Any], shapes: list[Any], dtypes: list[Any]
) -> None:
    i = draw.below(len(outs))
    if outs[i] is None:
        return
    if len(outs) > 1 and draw.chance(0.4):
        other = draw.below(len(outs))
        if other != i and outs[other] is not None:
            first = np.zeros(outs[i].shape, dtypes[i])
            outs[i], outs[other] = memory.together(first, outs[other].shape, dtypes[other])
        return
    names = [
        n for n, v in given.items() if isinstance(v, np.ndarray) and n != "x_shape" and not v.dtype.hasobject and v.itemsize > 0
    ]
    if not names:
        return
    name = draw.pick(names)
    value = call.arguments[name]
    in_place = [n for n in IN_PLACE.get(call.op, ()) if i == 0 and n in names and call.arguments[n].dtype == np.float32]
    if in_place and draw.chance(0.5):
        name = draw.pick(in_place)
        value = call.arguments[name]
        given[name] = memory.dense(value.shape, value.dtype)
        given[name][...] = value
        if given[name].shape == shapes[i]:
            outs[i] = given[name] if draw.chance(0.5) else given[name].view()
        return
    given[name], outs[i] = memory.together(value, outs[i].shape, dtypes[i])
