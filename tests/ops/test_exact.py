"""Integer inputs make every partial sum exact in float32: kernels equal the reference, on every level and thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import reference
from helpers.arrays import Guarded, integers
from helpers.backends import ops
from helpers.cases import CONV, FUSED, LINEAR, POOL, SPARSE, Conv, Fused, Linear, Pool
from helpers.expect import expect_equal, expect_meaningful

pytestmark = pytest.mark.usefixtures("backend", "threads")
Rng = np.random.Generator


def _outputs(guarded: Guarded, like: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if array is None else guarded.output(array.shape) for array in like)


def _float64(*arrays: Any) -> list[Any]:
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("case", CONV, ids=str)
def test_conv2d(case: Conv, rng: Rng, guarded: Guarded) -> None:
    x, weight, bias = integers(rng, case.x_shape), integers(rng, case.weight_shape), integers(rng, (case.k,))
    y = reference.conv2d_forward(*_float64(x, weight, bias), **case.options)
    expect_meaningful(y)
    out = guarded.output(y.shape)
    assert ops.conv2d_forward(x, weight, bias, **case.options, out=out) is out
    expect_equal(out, y)
    expect_equal(ops.conv2d_forward(x, weight, **case.options), reference.conv2d_forward(*_float64(x, weight), **case.options))

    dy = integers(rng, y.shape)
    expected = reference.conv2d_backward(*_float64(dy, x, weight), **case.options)
    outs = _outputs(guarded, expected)
    actual = ops.conv2d_backward(dy, x, weight, **case.options, out=outs)
    assert all(a is b for a, b in zip(actual, outs, strict=True))
    expect_equal(actual, expected)
    if case.n and case.stride == 1 and case.padding == 0:
        expect_meaningful(actual[1])
    dx, dweight, dbias = ops.conv2d_backward(dy, x, weight, **case.options, need_dx=False)
    assert dx is None
    expect_equal((dweight, dbias), expected[1:])


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_conv2d_relu_max_pool2d(case: Fused, rng: Rng, guarded: Guarded) -> None:
    x, weight, bias = integers(rng, case.x_shape), integers(rng, case.weight_shape), integers(rng, (case.k,))
    y, winners = reference.conv2d_relu_max_pool2d_forward(*_float64(x, weight, bias), **case.options)
    outs = guarded.output(y.shape), guarded.output(y.shape, np.uint8)
    actual = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options, out=outs)
    assert actual[0] is outs[0] and actual[1] is outs[1]
    expect_equal(actual, (y, winners))
    expect_meaningful(actual[0])

    dy = integers(rng, y.shape)
    expected = reference.conv2d_relu_max_pool2d_backward(dy.astype(np.float64), winners, *_float64(x, weight), **case.options)
    gradients = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options, out=_outputs(guarded, expected))
    expect_equal(gradients, expected)
    if case.n:
        expect_meaningful(gradients[1])
    dx, dweight, dbias = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options, need_dx=False)
    assert dx is None
    expect_equal((dweight, dbias), expected[1:])


@pytest.mark.parametrize("case", POOL, ids=str)
def test_max_pool2d(case: Pool, rng: Rng, guarded: Guarded) -> None:
    x = integers(rng, case.x_shape)  # few values: many ties
    y, indices = reference.max_pool2d_forward(x, case.kernel_size, **case.options)
    outs = guarded.output(y.shape), guarded.output(y.shape, np.int32)
    expect_equal(ops.max_pool2d_forward(x, case.kernel_size, **case.options, out=outs), (y, indices))
    dy = integers(rng, y.shape)
    dx = reference.max_pool2d_backward(dy, indices, case.x_shape)
    out = guarded.output(case.x_shape)
    expect_equal(ops.max_pool2d_backward(dy, indices, case.x_shape, out=out), dx)
    assert dx.size < 16 or np.count_nonzero(dx) > 0


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear(case: Linear, rng: Rng, guarded: Guarded) -> None:
    x, weight = integers(rng, (case.n, case.inputs)), integers(rng, (case.outputs, case.inputs))
    bias = integers(rng, (case.outputs,))
    y = reference.linear_forward(*_float64(x, weight, bias))
    expect_equal(ops.linear_forward(x, weight, bias, out=guarded.output(y.shape)), y)
    expect_equal(ops.linear_forward(x, weight), reference.linear_forward(*_float64(x, weight)))
    dy = integers(rng, y.shape)
    expected = reference.linear_backward(*_float64(dy, x, weight))
    expect_equal(ops.linear_backward(dy, x, weight, out=_outputs(guarded, expected)), expected)
    if case.n > 1:
        expect_meaningful(y, *expected)
    dx, dweight, dbias = ops.linear_backward(dy, x, weight, need_dx=False)
    assert dx is None
    expect_equal((dweight, dbias), expected[1:])


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.49])
@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_linear_backward_of_mostly_zeros(
    case: Linear, density: float, backend: str, threads: int, rng: Rng, guarded: Guarded
) -> None:
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


@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4, 5), (70001,)], ids=str)
def test_element_wise(shape: tuple[int, ...], rng: Rng, guarded: Guarded) -> None:
    x, dy = integers(rng, shape), integers(rng, shape)
    y = reference.relu_forward(x)
    expect_equal(ops.relu_forward(x, out=guarded.output(shape)), y)
    expect_equal(ops.relu_backward(dy, y, out=guarded.output(shape)), reference.relu_backward(dy, y))
    for rate in (0.0, 0.25, 0.5):  # scales that are exact, or rounded alike
        outs = guarded.output(shape), guarded.output(shape)
        y, mask = ops.dropout_forward(x, rate, 2**63 + 5, 2**40 + 3, out=outs)
        expect_equal((y, mask), reference.dropout_forward(x, rate, 2**63 + 5, 2**40 + 3))
        expect_equal(ops.dropout_backward(dy, mask, out=guarded.output(shape)), reference.dropout_backward(dy, mask))
    target = integers(rng, shape)
    loss, dprediction = ops.squared_error(x, target, out=guarded.output(shape))
    expected_loss, expected = reference.squared_error(x, target)
    assert loss == expected_loss
    expect_equal(dprediction, expected)


@pytest.mark.parametrize("n", [0, 1, 37])
def test_gather_images(n: int, rng: Rng, guarded: Guarded) -> None:
    images = rng.integers(0, 256, (50, 28, 27), dtype=np.uint8)
    index = rng.integers(0, 50, n)
    expected = reference.gather_images(images, index, mean=0.1307, std=0.3081)
    actual = ops.gather_images(images, index, mean=0.1307, std=0.3081, out=guarded.output((n, 1, 28, 27)))
    expect_equal(actual, expected)
    # Whole pixels and powers of two: the bilinear sample is exact too.
    shift = np.tile(np.float32([[1, 0, 2], [0, 1, -3]]), (n, 1, 1))
    options: dict[str, Any] = {"mean": 0.0, "std": 1 / 255, "transform": shift}
    expect_equal(ops.gather_images(images, index, **options), reference.gather_images(images, index, **options))


@pytest.mark.parametrize("count", [17, 40003])
def test_optimizer_steps(count: int, rng: Rng) -> None:
    """Small integers and powers of two: no step rounds."""
    start = [integers(rng, (count,)) for _ in range(3)]
    for options in (
        {"lr": 0.5},
        {"lr": 0.5, "momentum": 0.5},
        {"lr": 0.25, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25},
    ):
        actual, expected = ([array.copy() for array in start] for _ in range(2))
        for _ in range(2):
            ops.sgd_step(*actual, **options)
            reference.sgd_step(*expected, **options)
        expect_equal(tuple(actual), tuple(expected))
        assert not np.array_equal(actual[0], start[0])
    actual, expected = ([array.copy() for array in start[:2]] for _ in range(2))
    ops.sgd_step(actual[0], actual[1], None, lr=0.5)
    reference.sgd_step(expected[0], expected[1], None, lr=0.5)
    expect_equal(tuple(actual), tuple(expected))
    ops.ema_step(actual[0], start[1], decay=0.75)
    reference.ema_step(expected[0], start[1], decay=0.75)
    expect_equal(actual[0], expected[0])
