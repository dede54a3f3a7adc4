"""One case of the fuzzer: a random call of one op, run, and everything about it that must hold."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np

from fastlenet import _core, bf16, get_num_threads, ops, reference, set_num_threads
from fastlenet.testing.judging import WrongError
from fastlenet.testing.values import Draw
from helpers.fuzz.calls import OPS, OUTPUTS, WRITTEN, Call, draw_call, out_dtype
from helpers.fuzz.device import NOT_ON_DEVICE, DeviceCall
from helpers.fuzz.given import draw_out, place, shapes_of_outputs
from helpers.fuzz.int8_network import NETWORK
from helpers.fuzz.memory import Liar, Memory, address, plain
from helpers.fuzz.oracle import expected, judge
from helpers.fuzz.verdict import Verdict, verdict
from helpers.fuzz.wrong import twist

REFUSALS = (TypeError, ValueError)


class FuzzError(Exception):
    """An op did what it must not."""


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
    call = draw_call(draw, op)
    with call.using():
        return run_call(draw, call, device)


def _pack(draw: Draw, call: Call, given: dict[str, Any]) -> None:
    """Now and then the weight of an op that takes it so is packed, seldom at another level, which changes nothing.

    fastlenet.bf16 takes what fastlenet.ops has packed too.
    """
    if call.op not in ("linear_forward", "conv2d_relu_max_pool2d_forward") or not draw.chance(0.5):
        return
    level = _core.level()
    if draw.chance(0.1):
        _core.set_level(draw.pick(_core.levels_available()))
    packed = bf16.Packed if call.unit and draw.chance(0.8) else ops.Packed
    with suppress(Exception):  # as the op itself will refuse it
        given["weight"] = packed(given["weight"], call.arguments.get("algorithm", "direct"))
    _core.set_level(level)


def _as_the_reference(demanded: Verdict, call: Call, arguments: dict[str, Any], memory: Memory) -> Verdict:
    """What may be taken or refused, because of memory that is shared, is as the reference has it; the rest it must have too.

    But for what it documents to be otherwise: it takes float64. And ops copies labels and indices of another dtype than int64:
    it does not see that an output lies there, nor needs to.
    """
    parts = [part for value in arguments.values() for part in (value if isinstance(value, tuple) else (value,))]
    copied = demanded.taken is None and any(np.asarray(arguments.get(n, 0)).dtype != np.int64 for n in ("labels", "index"))
    if copied or any(getattr(part, "dtype", None) == np.float64 for part in parts):
        return demanded
    if call.op in ("empty", NETWORK):
        return demanded
    try:
        with np.errstate(all="ignore"):
            getattr(reference, call.op)(**arguments)
        taken = Verdict(True, f"the reference takes it ({demanded.why})")
    except Exception as error:
        taken = Verdict(False, f"the reference: {error}")
    memory.rewind()
    if demanded.taken is not None and demanded.taken != taken.taken:
        raise FuzzError(f"the reference: {taken.why}; but {demanded.why}; {_describe(arguments, None)}")
    return taken


def run_call(draw: Draw, call: Call, device: str | None) -> str:
    """Draws the rest of the call, runs it, and compares."""
    good, memory = dict(call.arguments), Memory(draw)
    if draw.chance(0.3):
        twist(draw, call)
    given = place(draw, memory, call)
    exact: Any
    try:
        exact = expected(call)
    except Exception as error:  # it is written to be read: what it trips over, it does not take
        exact = error
    out, shapes, options = None, [], {}
    if call.op in OUTPUTS:
        shapes = shapes_of_outputs(call, good, exact)
        out = draw_out(draw, memory, call, given, shapes)
        options = {} if out is None and draw.chance(0.5) else {"out": out}
    demanded = verdict(call, given, out, shapes, exact)
    memory.note()
    if not device:
        demanded = _as_the_reference(demanded, call, {**given, **options}, memory)
    if not device:
        _pack(draw, call, given)
    Liar.armed = True
    try:
        if device:
            result = DeviceCall(draw, memory).run(call.op, given, WRITTEN.get(call.op, ()), options)
        else:
            result = call.run(given, options)
    except (*REFUSALS, MemoryError) as error:
        Liar.armed = False
        if not memory.only_changed([]):
            raise FuzzError(f"memory was changed, though it refused: {error}; {_describe(given, out)}") from None
        if demanded.taken and f"{call.op}: on a GPU, " not in str(error):  # its kernels number what they touch by 31 bits
            raise FuzzError(f"refused: {error}; {_describe(given, out)}") from None
        if not isinstance(error, MemoryError) and ("\n" in str(error) or not re.match(rf"{call.op}(\.\w+)?: ", str(error))):
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
        if not memory.only_changed([*changed, *(array for array in results if isinstance(array, np.ndarray))]):
            raise FuzzError("memory was changed outside the outputs")
        judge(call, exact, tuple(map(plain, results)))
    except (FuzzError, WrongError) as error:
        raise FuzzError(f"{error}; {demanded.why} {_describe(given, out)}") from None
    return "taken"
