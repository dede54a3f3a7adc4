"""Tests from the descriptions of the ops: parameters of pytest for each op, and each of its cases of a property."""

from __future__ import annotations

from typing import Any

import pytest

from fastlenet.testing import OPS
from fastlenet.testing.checks import PROPERTIES

__all__ = ["cases", "each"]


def each(**wanted: bool) -> Any:
    """Parametrizes `op` by every op; by those alone whose attributes are as wanted, as in each(changes=True)."""
    ops = [op for op in OPS.values() if all(bool(getattr(op, name)) is value for name, value in wanted.items())]
    return pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in ops])


def cases(property: str, without: tuple[str, ...] = ()) -> Any:
    """Parametrizes `op` and `case` by every op's cases of that property."""
    found = [(op, case) for op in OPS.values() if op.name not in without for case in PROPERTIES[property].cases(op)]
    return pytest.mark.parametrize(("op", "case"), [pytest.param(op, case, id=f"{op.name}-{case}") for op, case in found])
