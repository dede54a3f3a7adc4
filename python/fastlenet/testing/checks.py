"""The properties of an op on every backend: one function for each, which checks one op on one case.

A check raises AssertionError, with one line: what was expected and what the backend gave. Backends are called with NumPy
arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastlenet.testing.description import Array, Backend, Call, Case, Op, Results
from fastlenet.testing.host import Guarded
from fastlenet.testing.judging import WrongError, expect_same_bits
from fastlenet.testing.values import Numbers

__all__ = [
    "PROPERTIES",
    "Backend",
    "Property",
    "adjoint",
    "alone",
    "bounded",
    "calls_of",
    "exact",
    "repeatable",
    "results_of",
]


@functools.lru_cache(maxsize=512)
def calls_of(op: Op, case: Case, kind: str) -> tuple[Call, ...]:
    """The calls of a case with this kind of numbers; the first is as in a network."""
    drawn = [op.in_network(case, Numbers(kind, op.name, case))]
    if op.gradient and op.gradient.passes:
        drawn.append(op.arguments(case, Numbers(kind, op.name, case, "any")))
    integers = kind == "integers"
    calls = [Call(op, arguments, integers) for arguments in drawn]
    return (*calls, *(calls[0].changed(change) for change in (op.variants if integers else op.roundings)))


def results_of(backend: Backend, call: Call, *, out: bool = False) -> Results:
    """The results of a call. Checks types and shapes, that arguments are unchanged, and that `out` is filled and returned."""
    op, given, guarded = call.op, call.copied(), Guarded()
    likes = op.arrays_of(call.exact)
    outs = [
        None if like is None else guarded.output(like.shape, result.dtype)
        for result, like in zip(op.results, likes, strict=True)
    ]
    options = {"out": tuple(outs) if len(outs) > 1 else outs[0]} if out and not op.changes else {}
    results = op.run(backend, given, **options)
    if len(results) != len(call.exact):
        raise WrongError(f"result expected {len(call.exact)} values, got {len(results)}")
    for name, value in call.arguments.items():
        if isinstance(value, np.ndarray) and name not in op.changes:
            expect_same_bits(f"{name} after the call", given[name], value)
    for result, like, array, filled in zip(op.results, likes, op.arrays_of(results), outs, strict=True):
        if like is None:
            if array is not None:
                raise WrongError(f"{result.name} expected None, got {type(array).__name__}")
            continue
        if options and array is not filled:
            raise WrongError(f"{result.name} expected the array given as out, got another one")
        if not isinstance(array, np.ndarray) or array.dtype != result.dtype:
            got = getattr(array, "dtype", type(array).__name__)
            raise WrongError(f"{result.name} expected an array of {np.dtype(result.dtype)}, got {got}")
    guarded.check()
    return results


def exact(backend: Backend, op: Op, case: Case) -> None:
    """With small integers every sum is exact in float32, so the results must equal the reference's."""
    for i, call in enumerate(calls_of(op, case, "integers")):
        op.judge(call, results_of(backend, call, out=i == 0))


def bounded(backend: Backend, op: Op, case: Case) -> None:
    """With normal random numbers, the results must be within a derived bound of the reference's in float64."""
    for call in calls_of(op, case, "normals"):
        op.judge(call, results_of(backend, call))


def _inner(a: Array, b: Array) -> float:
    return float((a.astype(np.float64) * b).sum())


def adjoint(backend: Backend, op: Op, case: Case) -> None:
    """<dy, J dx> = <J' dy, dx>, exactly with integers: the backend's backward op is the transpose of its forward op."""
    assert op.gradient is not None
    inputs, results, arguments = op.chain(case, Numbers("integers", op.name, case, "adjoint"), backend)
    gradients = op.run(backend, arguments)
    by_name = dict(zip(op.gradient.of, gradients, strict=True))
    expected = _inner(arguments["dy"], results[0])
    for together in op.gradient.linear:
        got = sum(_inner(by_name[name], inputs[name]) for name in together)
        if got != expected:
            products = " + ".join(f"<d{name}, {name}>" for name in together)
            raise WrongError(f"{products} expected <dy, y> = {expected}, got {got}")


def repeatable(backend: Backend, op: Op, case: Case) -> None:
    """The same call must give the same bits."""
    call = Call(op, op.in_network(case, Numbers("normals", op.name, case, "twice")))
    first, second = (op.run(backend, call.copied()) for _ in range(2))
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a is not None:
            expect_same_bits(f"result {i} of the second call", np.asarray(b), np.asarray(a))


def alone(backend: Backend, op: Op, case: Case) -> None:
    """An image must have the same bits in every batch and at every position: in each lane of a vector, and as the last."""
    arguments = op.in_network(case, Numbers("normals", op.name, case, "alone"), backend)
    results = op.run(backend, arguments)
    n = len(arguments[op.batched[0]])
    for i in {*range(min(n, 20)), n - 1} - {-1}:
        part = {name: value[i : i + 1] if name in op.batched else value for name, value in arguments.items()}
        if "x_shape" in part:
            part["x_shape"] = (1, *part["x_shape"][1:])
        for result, one, whole in zip(op.results, op.run(backend, part), results, strict=True):
            if result.batched:
                expect_same_bits(f"{result.name} of image {i} alone", one, whole[i : i + 1])


@dataclass(frozen=True)
class Property:
    """A property: its check, and the cases of an op on which it is checked."""

    check: Callable[[Backend, Op, Case], None]
    cases: Callable[[Op], Sequence[Case]]


def _adjoint_cases(op: Op) -> Sequence[Case]:
    if op.gradient is None or not op.gradient.linear:
        return ()
    return op.cases if op.gradient.cases is None else op.gradient.cases


PROPERTIES: Mapping[str, Property] = {
    "exact": Property(exact, lambda op: op.cases if op.integers else ()),
    "bounded": Property(bounded, lambda op: op.cases),
    "adjoint": Property(adjoint, _adjoint_cases),
    "repeatable": Property(repeatable, lambda op: (op.large,)),
    "alone": Property(alone, lambda op: op.cases if op.batched else ()),
}
