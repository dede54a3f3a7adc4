"""<dy, J dx> = <J' dy, dx> for every linear op, exact with integers: the backward pass is the transpose of the forward one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.arrays import integers
from helpers.backends import ops
from helpers.cases import CONV, FUSED, LINEAR, POOL, Conv, Fused, Linear, Pool

pytestmark = pytest.mark.usefixtures("backend")
Rng = np.random.Generator


def inner(a: Any, b: Any) -> float:
    return float((a.astype(np.float64) * b).sum())


@pytest.mark.parametrize("case", CONV, ids=str)
def test_conv2d(case: Conv, rng: Rng) -> None:
    x, weight = integers(rng, case.x_shape), integers(rng, case.weight_shape)
    y = ops.conv2d_forward(x, weight, **case.options)
    dy = integers(rng, y.shape)
    dx, dweight, _ = ops.conv2d_backward(dy, x, weight, **case.options)
    assert inner(dy, y) == inner(dx, x) == inner(dweight, weight)


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_conv2d_relu_max_pool2d(case: Fused, rng: Rng) -> None:
    """Linear where the winners stay the same, and without a bias."""
    x, weight = integers(rng, case.x_shape), integers(rng, case.weight_shape)
    y, winners = ops.conv2d_relu_max_pool2d_forward(x, weight, **case.options)
    dy = integers(rng, y.shape)
    dx, dweight, _ = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    assert inner(dy, y) == inner(dx, x) == inner(dweight, weight)


@pytest.mark.parametrize("case", POOL, ids=str)
def test_max_pool2d(case: Pool, rng: Rng) -> None:
    """Linear where the winners stay the same."""
    x = integers(rng, case.x_shape)
    y, indices = ops.max_pool2d_forward(x, case.kernel_size, **case.options)
    dy = integers(rng, y.shape)
    assert inner(dy, y) == inner(ops.max_pool2d_backward(dy, indices, case.x_shape), x)


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear(case: Linear, rng: Rng) -> None:
    x, weight = integers(rng, (case.n, case.inputs)), integers(rng, (case.outputs, case.inputs))
    y = ops.linear_forward(x, weight)
    dy = integers(rng, y.shape)
    dx, dweight, _ = ops.linear_backward(dy, x, weight)
    assert inner(dy, y) == inner(dx, x) == inner(dweight, weight)
