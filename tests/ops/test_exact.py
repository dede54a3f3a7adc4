"""Integer inputs make every partial sum exact in float32: kernels equal the reference, on every level and thread count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastlenet import reference
from fastlenet.philox import STREAM_DROPOUT, philox
from fastlenet.testing import Op, checks
from fastlenet.testing.cases import SPARSE, Linear
from helpers.arrays import Guarded, integers, normals
from helpers.backends import ops
from helpers.described import cases
from helpers.expect import expect_equal, expect_meaningful

Rng = np.random.Generator

EVERYWHERE = pytest.mark.usefixtures("backend", "threads")


@cases("exact")
def test_exact(op: Op, case: Any, thread_counts: Iterator[int]) -> None:
    for _ in thread_counts:
        checks.exact(ops, op, case)


@cases("exact")
def test_what_is_compared_is_not_all_zeros(op: Op, case: Any) -> None:
    """Gradients by an input are zero where nothing saw it, and ReLU makes zeros; all else is meaningful."""
    call = checks.calls_of(op, case, "integers")[0]
    if any(not call.arguments[name].size for name in op.batched):
        return
    for result, array in zip(op.results, op.arrays_of(call.exact), strict=True):
        if array is None or result.name == "dx" or op.name == "relu_forward":
            assert array is None or array.size < 16 or array.any()
        else:
            expect_meaningful(array)


@pytest.mark.usefixtures("backend")
def test_a_word_that_is_the_rate() -> None:
    """Dropped are the elements whose word is below rate * 2^32; the one whose word that is stays."""
    words = philox(3, STREAM_DROPOUT, 5, 40)
    for word in words[[0, 7, 39]].tolist():
        _, mask = ops.dropout_forward(np.ones(40, np.float32), word / 2**32, 3, 5)
        np.testing.assert_array_equal(np.asarray(mask) != 0, words >= word)


def _float64(*arrays: Any) -> list[Any]:
    return [array.astype(np.float64) for array in arrays]


@EVERYWHERE
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.49])
@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_linear_backward_of_mostly_zeros(case: Linear, density: float, rng: Rng, guarded: Guarded) -> None:
    """What ReLU leaves: the zeros are skipped; rows and columns without anything else give zeros."""
    x, weight = integers(rng, (case.n, case.inputs)), integers(rng, (case.outputs, case.inputs))
    dy = integers(rng, (case.n, case.outputs)) * (rng.random((case.n, case.outputs)) < density).astype(np.float32)
    dy[case.n // 3], dy[:, case.outputs // 2] = 0, 0
    expected = reference.linear_backward(*_float64(dy, x, weight))
    for need_dx in (True, False):
        out = (guarded.output(x.shape) if need_dx else None, guarded.output(weight.shape), guarded.output(dy.shape[1:]))
        actual = ops.linear_backward(dy, x, weight, need_dx=need_dx, out=out)
        expect_equal(actual[1:], expected[1:])
        if need_dx:
            expect_equal(actual[0], expected[0])


@EVERYWHERE
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.49])
@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_linear_forward_of_mostly_zeros(case: Linear, density: float, rng: Rng, guarded: Guarded) -> None:
    x, weight = integers(rng, (case.n, case.inputs)), integers(rng, (case.outputs, case.inputs))
    x *= (rng.random(x.shape) < density).astype(np.float32)
    x[case.n // 3] = 0
    bias = integers(rng, (case.outputs,))
    for some_bias in (bias, None):
        y = reference.linear_forward(*_float64(x, weight), None if some_bias is None else some_bias.astype(np.float64))
        expect_equal(ops.linear_forward(x, weight, some_bias, out=guarded.output(y.shape)), y)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_a_sum_of_zeros_is_never_minus_zero(case: Linear, rng: Rng) -> None:
    """On the CPU, whose kernels leave products out: not if the bias and all products are -0 either."""
    weight, bias = -np.abs(normals(rng, (case.outputs, case.inputs))), np.full(case.outputs, -0.0, np.float32)
    y = ops.linear_forward(np.zeros((case.n, case.inputs), np.float32), weight, bias)
    assert not y.any() and not np.signbit(y).any()
