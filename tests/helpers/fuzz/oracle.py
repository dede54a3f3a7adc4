"""What an op must return: the reference's numbers, exactly or within the derived bound of its description."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlenet import reference
from fastlenet.testing import OPS
from fastlenet.testing import description as described
from fastlenet.testing.judging import WrongError, expect_same_bits, expect_shape
from helpers.fuzz import int8_reference, low_precision
from helpers.fuzz.calls import Call
from helpers.fuzz.int8_network import NETWORK


def _described(call: Call) -> described.Call:
    return described.Call(OPS[call.op], call.arguments, call.exact)


def expected(call: Call) -> tuple[Any, ...]:
    """By the reference, in float64 where a sum rounds. Raises what the reference raises; leaves the arguments as they are."""
    if call.op == NETWORK:
        return int8_reference.expected(call.arguments)
    if call.unit:
        return low_precision.expected(call)
    if call.op in OPS:
        return _described(call).exact
    result = getattr(reference, call.op)(**call.arguments)
    return result if isinstance(result, tuple) else (result,)


def judge(call: Call, exact: tuple[Any, ...], actual: tuple[Any, ...]) -> None:
    """Raises WrongError unless the results are those of the reference."""
    if call.op == "inverse_root":
        right = abs(actual[0] - exact[0]) <= 2.0**-51 * abs(exact[0]) or actual == exact or np.isnan([*actual, *exact]).all()
        if not right:
            raise WrongError(f"expected {exact[0]!r}, got {actual[0]!r}")
    if call.op == NETWORK:
        expect_same_bits("scores", actual[0], exact[0])
    if call.op not in OPS:
        return  # empty arrays hold anything
    op = OPS[call.op]
    for result, a, e in zip(op.results, op.arrays_of(actual), op.arrays_of(exact), strict=True):
        if e is not None and a is not None:
            expect_shape(result.name, a, e)
    with np.errstate(all="ignore"):
        if call.unit:
            low_precision.judge(call, exact, actual)
        else:
            op.judge(_described(call), actual)
