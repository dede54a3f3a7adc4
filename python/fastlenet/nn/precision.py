"""The precision of a model: which ops its layers call."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fastlenet import _core, bf16
from fastlenet import ops as kernel_ops
from fastlenet.backend import PRECISIONS, Array, Backend
from fastlenet.fields import FieldValueError, Values
from fastlenet.profiling import Profiler

__all__ = ["as_precision", "rounding_ops"]

_OF_BACKEND: dict[tuple[str, Backend[Any] | ModuleType], ModuleType] = {("bf16", kernel_ops): bf16}


def as_precision(owner: str, value: object, ops: Backend[Array]) -> str:
    """Returns the value as a precision that this backend has on this machine. owner: words before the field's name.

    Raises TypeError or FieldValueError, with the cause in one line.
    """
    precision: str = Values(str, choices=PRECISIONS).convert(f"{owner}: precision", value)
    if precision == "float32":
        return precision
    if rounding_ops(precision, ops) is None:
        cure = "only the CPU's kernels, fastlenet.ops, have bf16"
        raise FieldValueError("precision", precision, f"float32 for the backend {ops.name!r}", f"{owner}: ", cure)
    try:
        _core.unit()  # asks for the permission to use tiles
    except ValueError as error:
        raise FieldValueError("precision", precision, "float32 on this machine", f"{owner}: ", str(error)) from None
    return precision


def rounding_ops(precision: str, ops: Backend[Array]) -> Backend[Array] | None:
    """Returns the ops of the layers that compute in this precision; None: those of all layers."""
    if isinstance(ops, Profiler):
        timed = _OF_BACKEND.get((precision, ops.times))
        return None if timed is None else ops.of(timed)
    return _OF_BACKEND.get((precision, ops))
