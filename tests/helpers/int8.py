"""The units of int8 to test on this CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastlenet import _core

__all__ = ["LACKING", "TILES", "UNITS", "using"]

UNITS = _core.int8_units_available()
LACKING = [name for name in ("tdpbsud", "vpdpbusd", "avx-vnni", "vpmaddwd") if name not in UNITS]
TILES = [name for name in UNITS if name.startswith("tdpbsud")]


@contextmanager
def using(unit: str) -> Iterator[None]:
    """A context in which the process multiplies bytes by this unit; then the best of the level in use."""
    _core.set_int8_unit(unit)
    try:
        yield
    finally:
        _core.set_int8_unit("")
