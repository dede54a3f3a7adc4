"""<dy, J dx> = <J' dy, dx> for every op that is linear where its choices stay the same, exact with integers."""

from __future__ import annotations

from typing import Any

import pytest

from fastlenet.testing import Op, checks
from helpers.backends import ops
from helpers.described import cases


@pytest.mark.usefixtures("backend")
@cases("adjoint")
def test_backward_is_the_transpose_of_forward(op: Op, case: Any) -> None:
    checks.adjoint(ops, op, case)
