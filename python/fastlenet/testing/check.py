"""check_backend: whether a module does what a backend must, and one line for each thing that it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlenet.testing.basics import BASICS
from fastlenet.testing.checks import PROPERTIES, Property
from fastlenet.testing.contract import CONTRACT
from fastlenet.testing.description import Case, Op
from fastlenet.testing.host import on_host
from fastlenet.testing.registry import OPS

__all__ = ["BackendError", "Check", "Failure", "Report", "check_backend", "checks_of", "gaps_of"]

# What every backend must do. Beside these, an image of `fastlenet.ops` and `fastlenet.cuda` has the same bits in every batch.
DEMANDED = tuple(name for name in PROPERTIES if name != "alone")


@dataclass(frozen=True)
class Check:
    """One property of one op on one case; run it with the backend, whose arrays are NumPy's or behind `on_host`."""

    op: str
    property: str
    case: str
    run: Callable[[Any], None]

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.property, self.case) if part)


@dataclass(frozen=True)
class Failure:
    """A check that a backend does not pass, and what was expected and what came."""

    op: str
    property: str
    case: str
    message: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.op, self.property, self.case) if part)
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class Report:
    """How many checks ran, which failed, and which ops the backend declares that it lacks, with its reasons."""

    checks: int
    failures: tuple[Failure, ...]
    gaps: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.failures)} of {self.checks} checks failed", *map(str, self.failures)]
        return "\n".join([*lines, *(f"{op}: a declared gap, {reason}" for op, reason in self.gaps.items())])


class BackendError(AssertionError):
    """A backend does not do what its contract says; `report` has every failure."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def gaps_of(module: object, gaps: Mapping[str, str] | Collection[str] | None = None) -> Mapping[str, str]:
    """The ops that a backend declares that it lacks, with the reason of each: its GAPS, or those given."""
    declared = getattr(module, "GAPS", {}) if gaps is None else gaps
    return dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(declared, "no reason given")


def checks_of(op: Op, properties: Collection[str] = DEMANDED) -> Iterator[Check]:
    """All that a backend must do of an op: its contract on a small case, then these properties, each on the op's own cases."""
    for name, of_op in CONTRACT.items():
        yield Check(op.name, name, "", _contract(of_op, op))
    for name in properties:
        found = PROPERTIES[name]
        for case in found.cases(op):
            yield Check(op.name, name, str(case), _property(found, op, case))


def _contract(of_op: Callable[[Any, Op], None], op: Op) -> Callable[[Any], None]:
    return lambda backend: of_op(backend, op)


def _property(found: Property, op: Op, case: Case) -> Callable[[Any], None]:
    return lambda backend: found.check(backend, op, case)


def _run(check: Check, backend: object) -> Failure | None:
    """Whatever a backend raises is its failure."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check.run(backend)
    except AssertionError as error:
        message = str(error)
    except Exception as error:
        message = f"expected no exception, got {type(error).__name__}: {error}"
    else:
        return None
    return Failure(check.op, check.property, check.case, " ".join(message.split()))


def _wrong_gaps(module: object, gaps: Mapping[str, str]) -> Iterator[Failure]:
    for name in gaps:
        if name not in OPS:
            yield Failure(name, "gap", "", f"expected the name of an op, got {name!r}")
        elif hasattr(module, name):
            yield Failure(name, "gap", "", "expected no such op, since it is declared a gap, got one; take it from the gaps")


def check_backend(
    module: object,
    *,
    gaps: Mapping[str, str] | Collection[str] | None = None,
    ops: Collection[str] | None = None,
    on_fail: str = "raise",
) -> Report:
    """Checks that a module (or object) is a backend: that `fastlenet.LeNet(ops=module)` computes with it what it should.

    Every op is called on many shapes. With small integers its results must equal those of `fastlenet.reference`; with random
    numbers they must lie within derived bounds of the reference in float64; backward must be the exact transpose of forward;
    the same call must give the same bits; and arguments, `out`, errors, `empty` and arrays must be as `fastlenet.backend` and
    `fastlenet.ops` say. It needs NumPy alone, and takes some seconds.

    module: the backend. Its arrays may be of any type that can do what `fastlenet.backend` says.
    gaps: ops that it lacks as yet, as names or as {name: reason}; if None, those of its attribute GAPS. A gap is left out and
    listed in the report; an op that is declared a gap and is there is a failure.
    ops: check these alone.
    on_fail: "raise", or "report", which returns the failures instead.

    Returns a Report. Raises BackendError, an AssertionError with a line for each failure: the op, the property, the case,
    what was expected and what came.
    """
    if on_fail not in ("raise", "report"):
        raise ValueError(f"check_backend: on_fail expects 'raise' or 'report', got {on_fail!r}")
    for name in ops or ():
        if name not in OPS:
            raise ValueError(f"check_backend: ops expects names of ops, got {name!r}")
    lacking = gaps_of(module, gaps)
    failures = list(_wrong_gaps(module, lacking))
    basics = [] if ops else [Check("backend", name, "", basic) for name, basic in BASICS.items()]
    found = [_run(check, module) for check in basics]
    if not any(found):
        backend = on_host(module)
        for name in ops or OPS:
            if name in lacking:
                continue
            if not hasattr(module, name):
                found.append(
                    Failure(name, "name", "", "expected an op of this name, got none; if it is to come, declare it in GAPS")
                )
                continue
            found += [_run(check, backend) for check in checks_of(OPS[name]) if _possible(check, module)]
    report = Report(len(found), (*failures, *(failure for failure in found if failure)), lacking)
    if report.failures and on_fail == "raise":
        raise BackendError(report)
    return report


def _possible(check: Check, module: object) -> bool:
    """Whether the forward op is there, which the check of a transpose needs."""
    gradient = OPS[check.op].gradient
    return check.property != "adjoint" or gradient is None or hasattr(module, gradient.forward.name)
