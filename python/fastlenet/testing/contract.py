"""The contract of every op's arguments: what it refuses, with which error, what it reads, fills, returns and leaves alone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import numpy as np

from fastlenet import reference
from fastlenet.testing.checks import Backend, results_of
from fastlenet.testing.description import KINDS, Arguments, Array, Call, Op
from fastlenet.testing.judging import WrongError, expect_same_bits
from fastlenet.testing.values import Numbers

__all__ = ["CONTRACT", "STYLES", "example", "styled"]

STYLES = ("plain", "reversed", "strided", "fortran", "misaligned", "read-only")
WRONG_DTYPES = (np.float16, np.int64, np.complex64)  # no argument has them

# Wrong values by the kind of argument, and the exception that they must raise.
WRONG: dict[str, tuple[tuple[object, type[Exception]], ...]] = {
    "pair": (("2", TypeError), ((1, 2, 3), TypeError), (1.5, TypeError), (-1, ValueError), (2**70, ValueError)),
    "sizes": (("1144", TypeError), (None, TypeError), ((1, 1, 4, -1), ValueError)),
    "number": (("0.5", TypeError), (None, TypeError), ([0.5], TypeError)),
    "integer": ((0.5, TypeError), ("1", TypeError), (-1, ValueError)),
    "matrices": (
        *((wrong, TypeError) for wrong in ("12", None, 3, (0, 2, 2), ((0, 2),), ((0, 2, 2.5),))),
        *((wrong, ValueError) for wrong in (((0, 2, -1),), ((0, 2**40, 2),), ((0, 2, 2), (3, 1, 1)), ((4, 1, 1), (0, 2, 2)))),
    ),
    "choice": ((None, TypeError), ("fft", ValueError)),
}


def example(op: Op, n: int = 3) -> Call:
    """A small call with n images."""
    case = op.small[0]
    return Call(op, op.in_network(case if n == 3 else case.with_batch(n), Numbers("integers", op.name, "contract")))


def styled(array: Array, style: str) -> Array:
    """The same numbers in another memory layout."""
    if style == "reversed":
        backwards: Array = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
        return backwards
    if style == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
        wide[..., ::2] = array
        every_other: Array = wide[..., ::2]
        return every_other
    if style == "fortran":
        return np.asfortranarray(array)
    if style == "misaligned":
        memory: Array = np.empty(array.nbytes + 1, np.uint8)
        view: Array = memory[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if style == "read-only":
        copy: Array = array.copy()
        copy.flags.writeable = False
        return copy
    return array


def expect_refused(
    backend: Backend, op: Op, arguments: Arguments, kind: type[Exception], pattern: str, given: str, **options: object
) -> None:
    """The call must raise this exception with one line, the op's name and then the pattern, and must not change an argument."""
    expected, before = f"{given} expected a {kind.__name__} {f'{op.name}: {pattern}'!r}", Call(op, arguments).copied()
    try:
        op.run(backend, arguments, **options)
    except kind as error:
        line = str(error)
        if "\n" in line or not re.match(f"{op.name}: {pattern}", line):
            raise WrongError(f"{expected}, got {line!r}") from None
    except Exception as error:
        raise WrongError(f"{expected}, got {type(error).__name__}: {error}") from None
    else:
        raise WrongError(f"{expected}, got a result")
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            expect_same_bits(f"{name} after a refusal", arguments[name], value)


def signature(backend: Backend, op: Op) -> None:
    """The op must have the same parameters in the same order, of the same kind, with the same defaults."""

    def parameters(function: Callable[..., object]) -> list[tuple[str, str, object]]:
        return [(p.name, p.kind.description, p.default) for p in inspect.signature(function).parameters.values()]

    expected, got = parameters(getattr(reference, op.name)), parameters(getattr(backend, op.name))
    if got != expected:
        first = next((pair for pair in zip(expected, got, strict=False) if pair[0] != pair[1]), (expected[-1], got[-1]))
        raise WrongError(f"signature expected {_parameter(*first[0])}, got {_parameter(*first[1])}")


def _parameter(name: str, kind: str, default: object) -> str:
    return f"{kind} {name}" + ("" if default is inspect.Parameter.empty else f"={default!r}")


def dtypes(backend: Backend, op: Op) -> None:
    """A wrong dtype, or an object that is no array, must raise a TypeError that names the argument and what it got."""
    call = example(op)
    for name in op.arrays:
        for dtype in WRONG_DTYPES:
            wrong = call.copied() | {name: call.arguments[name].astype(dtype)}
            given = f"{name} of {np.dtype(dtype)}"
            expect_refused(backend, op, wrong, TypeError, f"{name} expects .*got {np.dtype(dtype)}", given)
        listed = call.copied() | {name: call.arguments[name].tolist()}
        expect_refused(backend, op, listed, TypeError, f"{name} expects .*got list", f"{name} as a list")


def shapes(backend: Backend, op: Op) -> None:
    """An array with an additional axis (two, if one is optional) must raise a ValueError that names an argument."""
    if op.any_shape:
        return
    call = example(op)
    names = "|".join([*op.arrays, *(name for name, kind in KINDS.items() if kind == "places")])
    for name in op.arrays:
        wider = call.arguments[name][..., None]
        wrong = call.copied() | {name: (wider[..., None] if name in op.optional_axes else wider).copy()}
        given = f"{name} of shape {wrong[name].shape}"
        expect_refused(backend, op, wrong, ValueError, f"({names}) expects", given)


def numbers(backend: Backend, op: Op) -> None:
    """A wrong number, pair or word must raise a TypeError or ValueError that names the argument and what it got."""
    call = example(op)
    for name in op.parameters:
        for value, kind in WRONG.get(KINDS.get(name, "array"), ()):
            if name in ("stride", "velocity") and value is None:
                continue
            wrong = call.copied() | {name: value}
            given = f"{name}={value!r}"
            expect_refused(backend, op, wrong, kind, f"{name} expects .*, got ", given)


def out(backend: Backend, op: Op) -> None:
    """`out` must be filled and returned. A wrong shape, or a single array where several are expected, must be refused."""
    if op.changes:
        return
    call = example(op)
    without = op.arrays_of(results_of(backend, call))
    filled = op.arrays_of(results_of(backend, call, out=True))
    for result, a, b in zip(op.results, filled, without, strict=True):
        expect_same_bits(f"{result.name} in out", a, b)
    for i, array in enumerate(without):
        outs = [other.copy() for other in without]
        outs[i] = np.zeros((*array.shape, 1), array.dtype)
        wrong = tuple(outs) if len(outs) > 1 else outs[0]
        given = f"out of shape {outs[i].shape}"
        expect_refused(backend, op, call.copied(), ValueError, r"out(\[\d\])? expects shape", given, out=wrong)
    if len(without) > 1:
        lone = without[0].copy()
        expect_refused(backend, op, call.copied(), TypeError, "out expects a tuple", "out, an array, ", out=lone)


def in_place(backend: Backend, op: Op) -> None:
    """`out` may be an input if the op allows it; otherwise this must raise a ValueError."""
    if op.changes:
        return
    call = example(op)
    expected = op.arrays_of(op.run(backend, call.copied()))
    for name in op.arrays:
        array = call.arguments[name]
        like = expected[0]
        if like is None or array.shape != like.shape or array.dtype != like.dtype:
            continue
        given = call.copied()
        outs = given[name] if len(expected) == 1 else (given[name], *(np.empty_like(other) for other in expected[1:]))
        if name not in op.in_place:
            expect_refused(backend, op, given, ValueError, ".*share memory", f"out={name}", out=outs)
            continue
        result = op.arrays_of(op.run(backend, given, out=outs))[0]
        if result is not given[name]:
            raise WrongError(f"out={name} expected that array returned, got another one")
        expect_same_bits(f"out={name}", result, like)


def empty_batch(backend: Backend, op: Op) -> None:
    """Without images, outputs of the batch must be empty, sums over it zero, and a mean loss NaN."""
    call = example(op, 0)
    results = results_of(backend, call)
    for result, array, like in zip(op.results, op.arrays_of(results), op.arrays_of(call.exact), strict=True):
        if array.shape != like.shape:
            raise WrongError(f"{result.name} expected shape {like.shape}, got {array.shape}")
        if array.any():
            raise WrongError(f"{result.name} expected zeros, got {array[array != 0].flat[0]}")
    if op.scalar and not np.array_equal(results[0], call.exact[0], equal_nan=True):
        raise WrongError(f"loss expected {call.exact[0]}, got {results[0]}")


def memory(backend: Backend, op: Op) -> None:
    """Input arrays may have any strides and alignment, and may be read-only."""
    call = example(op)
    expected = op.run(backend, call.copied())
    for style in STYLES:
        given = {
            name: styled(value, style) if name in op.arrays and name not in op.changes else value
            for name, value in call.copied().items()
        }
        for i, (a, b) in enumerate(zip(op.run(backend, given), expected, strict=True)):
            if b is not None:
                expect_same_bits(f"result {i} of {style} arrays", np.asarray(a), np.asarray(b))


CONTRACT: dict[str, Callable[[Backend, Op], None]] = {
    "signature": signature,
    "dtypes": dtypes,
    "shapes": shapes,
    "numbers": numbers,
    "out": out,
    "in place": in_place,
    "empty batch": empty_batch,
    "memory": memory,
}
