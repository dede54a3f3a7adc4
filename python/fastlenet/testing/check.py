"""check_backend: checks that a module fulfils the contract of a backend, with one line for each failure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from fastlenet.backend import Gap, gaps_of
from fastlenet.testing.basics import BASICS
from fastlenet.testing.checks import PROPERTIES, Property
from fastlenet.testing.contract import CONTRACT
from fastlenet.testing.description import Backend, Case, Op
from fastlenet.testing.host import on_host
from fastlenet.testing.packed import PACKED
from fastlenet.testing.registry import OPS

__all__ = ["BackendError", "Check", "Failure", "Report", "check_backend", "checks_of"]

# The properties that every backend must have. In `fastlenet.ops` and `fastlenet.cuda`, an image also has the same bits in every
# batch.
DEMANDED = tuple(name for name in PROPERTIES if name != "alone")


@dataclass(frozen=True)
class Check:
    """A check of one property of one op on one case. run(backend) takes a backend of NumPy arrays; `on_host` wraps others."""

    op: str
    property: str
    case: str
    run: Callable[[Backend], None]

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.property, self.case) if part)


@dataclass(frozen=True)
class Failure:
    """A failed check. message: what was expected and what the backend gave."""

    op: str
    property: str
    case: str
    message: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.op, self.property, self.case) if part)
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class Report:
    """The result of check_backend.

    checks: the number of checks that ran. failures: those that failed. gaps: the ops that the backend declares missing, with
    reasons.
    """

    checks: int
    failures: tuple[Failure, ...]
    gaps: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.failures)} of {self.checks} checks failed", *map(str, self.failures)]
        return "\n".join([*lines, *(f"{op}: a declared gap, {reason}" for op, reason in self.gaps.items())])


class BackendError(AssertionError):
    """A backend does not fulfil its contract. `report` has every failure."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def _declared(module: object, gaps: Mapping[str, str] | Collection[str]) -> dict[str, str]:
    """The ops that the backend or the caller declares missing, with the reason of each."""
    given = dict(gaps) if isinstance(gaps, Mapping) else dict.fromkeys(gaps, "no reason given")
    return given | gaps_of(module)


def checks_of(op: Op, properties: Collection[str] = DEMANDED) -> Iterator[Check]:
    """Yields the checks of an op: its contract on a small case, then these properties on the op's cases.

    properties: names of properties, by default those that every backend must have.
    """
    for name, of_op in CONTRACT.items():
        yield Check(op.name, name, "", _contract(of_op, op))
    for name in properties:
        found = PROPERTIES[name]
        for case in found.cases(op):
            yield Check(op.name, name, str(case), _property(found, op, case))


def _contract(of_op: Callable[[Backend, Op], None], op: Op) -> Callable[[Backend], None]:
    return lambda backend: of_op(backend, op)


def _property(found: Property, op: Op, case: Case) -> Callable[[Backend], None]:
    return lambda backend: found.check(backend, op, case)


def _run(check: Check, backend: object) -> Failure | None:
    """Run a check. Any exception of the backend is a failure."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check.run(cast(Backend, backend))
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
        elif hasattr(module, name) and not isinstance(getattr(module, name), Gap):
            yield Failure(name, "gap", "", "expected no such op, since it is declared a gap, got one; take it from the gaps")


def check_backend(
    module: object,
    *,
    gaps: Mapping[str, str] | Collection[str] = (),
    ops: Collection[str] | None = None,
    on_fail: str = "raise",
) -> Report:
    """Check that a module (or object) fulfils the contract of a backend, so that `fastlenet.LeNet(ops=module)` works with it.

    Every op is called on many shapes. With small integers its results must equal those of `fastlenet.reference`. With random
    numbers they must lie within derived bounds of the reference in float64. The backward op must be the exact transpose of the
    forward op. The same call must give the same bits, and so must a packed weight and the weight itself. Arguments, `out`,
    errors, `empty` and arrays must be as `fastlenet.backend` and `fastlenet.ops` describe. The checks need NumPy alone, and
    take some seconds.

    module: the backend. Its arrays may be of any type that `fastlenet.backend` allows.
    gaps: ops that the backend lacks so far, as names or as {name: reason}. The backend may also have a `fastlenet.backend.Gap`
    in the place of an op. Gaps are not checked, and are listed in the report. Declaring an existing op a gap is a failure.
    ops: the names of ops to check, or None for all.
    on_fail: "raise", or "report" to return the failures instead.

    Returns a Report. Raises BackendError, an AssertionError with one line for each failure: the op, the property, the case,
    what was expected and what the backend gave.
    """
    if on_fail not in ("raise", "report"):
        raise ValueError(f"check_backend: on_fail expects 'raise' or 'report', got {on_fail!r}")
    for name in ops or ():
        if name not in OPS:
            raise ValueError(f"check_backend: ops expects names of ops, got {name!r}")
    lacking = _declared(module, gaps)
    failures = list(_wrong_gaps(module, lacking))
    basics = [] if ops else [*_basics(module, lacking)]
    found = [_run(check, module) for check in basics]
    if not any(failure and failure.property in ("empty", "arrays") for failure in found):  # without which nothing can be called
        found += _run_ops(module, ops or OPS, lacking)
    report = Report(len(found), (*failures, *(failure for failure in found if failure)), lacking)
    if report.failures and on_fail == "raise":
        raise BackendError(report)
    return report


def _basics(module: object, lacking: Collection[str]) -> Iterator[Check]:
    """The checks of what is no op, but those that call an op which the backend has not."""
    calls = {"Graph": "relu_forward", **{name: op for name, (op, _) in PACKED.items()}}
    for name, basic in {**BASICS, **{name: check for name, (_, check) in PACKED.items()}}.items():
        op = calls.get(name)
        if op is None or (op not in lacking and hasattr(module, op)):
            yield Check("backend", name, "", basic)


def _run_ops(module: object, names: Collection[str], lacking: Collection[str]) -> Iterator[Failure | None]:
    """Every check of these ops, except the gaps."""
    backend = on_host(cast(Backend, module))
    for name in names:
        if name in lacking:
            continue
        if hasattr(module, name):
            yield from (_run(check, backend) for check in checks_of(OPS[name]) if _possible(check, lacking, module))
        else:
            missing = "expected an op of this name, got none; until it comes, put a fastlenet.backend.Gap there"
            yield Failure(name, "name", "", missing)


def _possible(check: Check, lacking: Collection[str], module: object) -> bool:
    """Whether the check can run: the check of a transpose needs the forward op."""
    gradient = OPS[check.op].gradient
    if check.property != "adjoint" or gradient is None:
        return True
    return hasattr(module, gradient.forward.name) and gradient.forward.name not in lacking
