"""Chooses the unit of bfloat16 for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastlenet import _core

__all__ = ["using"]


@contextmanager
def using(unit: str) -> Iterator[None]:
    """A context in which the process multiplies by this unit of bfloat16; afterwards by the one before.

    unit: one of `_core.units_available()`. Raises ValueError for any other.
    """
    before = _core.unit_in_use()
    _core.set_unit(unit)
    try:
        yield
    finally:
        _core.set_unit(before)
