"""One case of the fuzzer: a random call of one op, run, and everything about it that must hold."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet import _core, get_num_threads, ops, set_num_threads
from fuzz_calls import IN_PLACE, OPS, OUTPUTS, WRITTEN, Call, draw_call, twist
from fuzz_device import NOT_ON_DEVICE, DeviceCall
from fuzz_draw import MOST_ELEMENTS, Array, Draw
from fuzz_known import meets_known_fault
from fuzz_memory import Liar, Memory, address, plain
from fuzz_oracle import MismatchError, expected, judge

REFUSALS = (TypeError, ValueError)
_DTYPES = {("max_pool2d_forward", 1): np.int32, ("conv2d_relu_max_pool2d_forward", 1): np.uint8}


class FuzzError(Exception):
    """An op did what it must not."""


@dataclass
class Verdict:
    """Whether an op must take its arguments (True), must refuse them (False), or may do either; and why."""

    taken: bool | None
    why: str = ""


def out_dtype(op: str, i: int) -> npt.DTypeLike:
    return _DTYPES.get((op, i), np.float32)


# --- what is given ---------------------------------------------------------------------------------------------------------


def _place(draw: Draw, memory: Memory, call: Call) -> dict[str, Any]:
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


def _shapes(call: Call, good: dict[str, Any], exact: Any) -> list[tuple[int, ...] | None]:
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


def _draw_out(draw: Draw, memory: Memory, call: Call, given: dict[str, Any], shapes: list[tuple[int, ...] | None]) -> Any:
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
        outs[i] = given[name].reshape(shapes[i]) if given[name].shape == shapes[i] else outs[i]
        return
    given[name], outs[i] = memory.together(value, outs[i].shape, dtypes[i])


# --- what must come of it --------------------------------------------------------------------------------------------------


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
    for name, value in given.items():
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
            if sum(o is array for _, o in others) == 1:
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


def _check_results(call: Call, result: Any, out: Any, exact: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...]:
    """The results as a tuple, after what holds for all ops: types, dtypes, and the caller's arrays returned."""
    if call.op in WRITTEN:
        if result is not None:
            raise FuzzError(f"returned {result!r}")
        return tuple(given[name] for name in WRITTEN[call.op])
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(exact):
        raise FuzzError(f"returned {len(results)} results")
    count = OUTPUTS.get(call.op, 0)
    outs = (out,) if count == 1 else out if out is not None else (None,) * count
    for i, (array, given_out) in enumerate(zip(results[len(results) - count :], outs, strict=True)):
        if array is None:
            continue
        if given_out is not None and array is not given_out:
            raise FuzzError(f"out {i} was not returned")
        if (type(array) is not np.ndarray and array is not given_out) or array.dtype != out_dtype(call.op, i):
            raise FuzzError(f"result {i} is {type(array).__name__} of {array.dtype}")
    return results


# --- running it --------------------------------------------------------------------------------------------------------------


def _stale(draw: Draw) -> None:
    """Fills the scratch memory with numbers that no result of the next op may show."""
    value = np.float32(draw.pick((3e38, np.nan, 7, -1)))
    n, c = draw.pick((1, 3, 16, 40)), draw.pick((1, 5, 17))
    x, weight = np.full((n, c, 6, 7), value), np.full((c + 1, c, 3, 3), value)
    if draw.chance(0.5):
        ops.conv2d_relu_max_pool2d_forward(x, weight, algorithm=draw.pick(("direct", "winograd")))
    else:
        dy = np.full((n, c + 1, 2, 2), value)
        ops.conv2d_relu_max_pool2d_backward(dy, np.full(dy.shape, 1, np.uint8), x, weight)


def _describe(given: dict[str, Any], out: Any) -> str:
    def text(value: Any) -> str:
        if isinstance(value, np.ndarray):
            flags = "" if value.flags.writeable else ", read-only"
            kind = "" if type(value) is np.ndarray else f", {type(value).__name__}"
            return f"{value.dtype}{value.shape} strides {value.strides} at ..{address(value) % 4096:03x}{flags}{kind}"
        if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
            return "(" + ", ".join(map(text, value)) + ")"
        return ascii(value)[:80]

    return "; ".join(f"{name}={text(value)}" for name, value in {**given, "out": out}.items())


def drawn_op(seed: int, case: int) -> str:
    """The op of that case."""
    return Draw(seed, case).pick(OPS)


def run_case(seed: int, case: int, op: str | None = None, level: str | None = None, device: str | None = None) -> str:
    """Runs it, by the drawn op and level unless they are given: "taken" or "refused". Raises FuzzError.

    device: None for the CPU; or the order in which a GPU's threads run, and fastlenet.cuda in the place of fastlenet.ops.
    """
    draw = Draw(seed, case)
    op, drawn_level = op or draw.pick(OPS), draw.pick(_core.levels_available())
    if device and op in NOT_ON_DEVICE:
        return "left out"
    _core.set_level(level or drawn_level)
    threads = draw.pick((1, 1, 2, 3))
    if threads != get_num_threads():
        set_num_threads(threads)
    if draw.chance(0.5):
        _stale(draw)
    return run_call(draw, draw_call(draw, op), device)


def _pack(draw: Draw, memory: Memory, call: Call, given: dict[str, Any]) -> None:
    """The packed filters that the call asks for, now and then those of another level, in memory of some kind."""
    if not isinstance(call.arguments.get("packed"), str):
        return
    level = _core.level()
    if draw.chance(0.1):
        _core.set_level(draw.pick(_core.levels_available()))
    try:
        packed = ops.pack_filters(call.arguments["weight"], call.arguments["algorithm"])
        given["packed"] = memory.array(packed, same=True) if draw.chance(0.5) else packed
    except Exception:  # as the op itself will, of the same arguments
        given["packed"] = None
    call.arguments["packed"] = plain(given["packed"])
    _core.set_level(level)


def run_call(draw: Draw, call: Call, device: str | None) -> str:
    """Draws the rest of the call, runs it, and compares."""
    good, memory = dict(call.arguments), Memory(draw)
    if draw.chance(0.3):
        twist(draw, call)
    given = _place(draw, memory, call)
    _pack(draw, memory, call, given)
    exact: Any
    try:
        exact = expected(call)
    except Exception as error:  # it is written to be read: what it trips over, it does not take
        exact = error
    out, shapes, options = None, [], {}
    if call.op in OUTPUTS:
        shapes = _shapes(call, good, exact)
        out = _draw_out(draw, memory, call, given, shapes)
        options = {} if out is None and draw.chance(0.5) else {"out": out}
    demanded = verdict(call, given, out, shapes, exact)
    if call.arguments.get("packed") is not None and demanded.taken:
        demanded = Verdict(None, "packed may be another's")
    if meets_known_fault(call):
        return "left out"
    memory.note()
    Liar.armed = True
    try:
        if device:
            result = DeviceCall(draw, memory).run(call.op, given, WRITTEN.get(call.op, ()), options)
        else:
            result = getattr(ops, call.op)(**given, **options)
    except (*REFUSALS, MemoryError) as error:
        Liar.armed = False
        if not memory.restore([]):
            raise FuzzError(f"memory was changed, though it refused: {error}; {_describe(given, out)}") from None
        if demanded.taken:
            raise FuzzError(f"refused: {error}; {_describe(given, out)}") from None
        if not isinstance(error, MemoryError) and ("\n" in str(error) or not str(error).startswith(f"{call.op}: ")):
            raise FuzzError(f"refused, but not in a line that names the op: {error!r}; {_describe(given, out)}") from None
        return "refused"
    except Exception as error:
        raise FuzzError(f"{type(error).__name__}: {error}; {_describe(given, out)}") from error
    finally:
        Liar.armed = False
    if demanded.taken is False:
        raise FuzzError(f"taken, though {demanded.why}; {_describe(given, out)}")
    try:
        results = _check_results(call, result, out, exact, given)
        changed = [given[n] for n in WRITTEN.get(call.op, ()) if given[n] is not None]
        if not memory.restore([*changed, *(array for array in results if isinstance(array, np.ndarray))]):
            raise FuzzError("memory was changed outside the outputs")
        judge(call, exact, tuple(map(plain, results)))
    except (FuzzError, MismatchError) as error:
        raise FuzzError(f"{error}; {demanded.why} {_describe(given, out)}") from None
    return "taken"
