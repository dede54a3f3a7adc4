"""The same bits: twice, with any number of threads, from several Python threads at once, alone and in a batch, fused or not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fastlenet import Augmentation, get_num_threads, set_num_threads
from fastlenet.testing import OPS, Op, checks
from fastlenet.testing.cases import FUSED, SPARSE, Fused, Linear
from fastlenet.testing.description import Call
from fastlenet.testing.values import Numbers
from helpers.arrays import normals
from helpers.backends import ops
from helpers.described import cases
from helpers.expect import expect_same_bits

pytestmark = pytest.mark.usefixtures("backend")
Rng = np.random.Generator


def _calls() -> list[Callable[[], Any]]:
    """One call of every op on random floats, at shapes large enough to be split among threads."""
    calls = [Call(op, op.in_network(op.large, Numbers("normals", op.name, "large"), ops)) for op in OPS.values()]
    images = next(call for call in calls if call.op.name == "gather_images")
    bent = Augmentation(shift=2, rotation=9, elastic=30, cutout=4).at(1, 2)
    calls += [images.changed({"transform": transform}) for transform in (None, bent)]
    return [functools.partial(_run, call) for call in calls]


def _run(call: Call) -> Any:
    given = {name: call.arguments[name] for name in call.op.changes}
    changed = {name: array.copy() for name, array in given.items() if array is not None}
    results = call.op.run(ops, call.arguments | changed)
    return tuple(np.asarray(result) for result in results if result is not None)


def test_twice_and_with_any_number_of_threads() -> None:
    calls = _calls()
    before = get_num_threads()
    try:
        set_num_threads(1)
        expected = [call() for call in calls]
        for threads in (1, 2, 3, 7):
            set_num_threads(threads)
            for call, result in zip(calls, expected, strict=True):
                expect_same_bits(call(), result)
    finally:
        set_num_threads(before)


def test_from_several_python_threads_at_once() -> None:
    calls = _calls()
    expected = [call() for call in calls]

    def every_call(offset: int) -> None:
        for i in range(len(calls)):
            at = (i + offset) % len(calls)
            expect_same_bits(calls[at](), expected[at])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(every_call, range(8)))


@cases("alone")
def test_an_image_alone_and_in_a_batch(op: Op, case: Any) -> None:
    checks.alone(ops, op, case)


@pytest.mark.parametrize("case", [case for case in FUSED if case.n], ids=str)
def test_fused_as_unfused(case: Fused, rng: Rng) -> None:
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    y, _ = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    conv = ops.conv2d_forward(x, weight, bias, padding=case.padding)
    pooled, _ = ops.max_pool2d_forward(ops.relu_forward(conv), case.kernel_size)
    expect_same_bits(y, pooled)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("case", [case for case in FUSED if case.n], ids=str)
@pytest.mark.usefixtures("backend")
def test_packed_filters_change_no_bit(case: Fused, algorithm: str, rng: Rng) -> None:
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    packed = ops.Packed(weight, algorithm)
    other = "winograd" if algorithm == "direct" else "direct"
    for n in (1, case.n):
        expected = ops.conv2d_relu_max_pool2d_forward(x[:n], weight, bias, **case.options, algorithm=algorithm)
        expect_same_bits(
            ops.conv2d_relu_max_pool2d_forward(x[:n], packed, bias, **case.options, algorithm=algorithm),
            expected,
        )
    with pytest.raises(ValueError, match=f"algorithm expects '{algorithm}', for which the weight was packed, got '{other}'"):
        ops.conv2d_relu_max_pool2d_forward(x, packed, bias, **case.options, algorithm=other)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("wild", [False, True], ids=["finite", "with an infinity"])
def test_a_packed_matrix_changes_no_bit(wild: bool, rng: Rng) -> None:
    """Also where a zero of x meets an infinity, which makes NaN: then no product is left out."""
    x, weight, bias = normals(rng, (6, 70)), normals(rng, (33, 70)), normals(rng, (33,))
    x[:, ::2] = 0
    if wild:
        weight[5, 4] = np.inf
    packed = ops.Packed(weight)
    for n in (1, 4, 5, 6):
        y = ops.linear_forward(x[:n], weight, bias)
        assert np.isnan(y).any() == wild
        expect_same_bits(ops.linear_forward(x[:n], packed, bias), y)


@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_skipped_zeros_change_no_bit(case: Linear, backend: str, rng: Rng) -> None:
    """The sparse gradients have the bits of the dense ones.

    Those are had by further images that are all zeros, whose dy is not: they add zeros to dweight, and leave too few zeros in
    dy for the lists.
    """
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    dy = normals(rng, (case.n, case.outputs)) * (rng.random((case.n, case.outputs)) < 0.3)
    dy = dy.astype(np.float32)
    more_x = np.concatenate([x, np.zeros((2 * case.n, case.inputs), np.float32)])
    more_dy = np.concatenate([dy, normals(rng, (2 * case.n, case.outputs))])
    dx, dweight, _ = ops.linear_backward(dy, x, weight)
    more_dx, more_dweight, _ = ops.linear_backward(more_dy, more_x, weight)
    assert dx is not None and more_dx is not None
    expect_same_bits((dx, dweight), (more_dx[: case.n], more_dweight))


@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_skipped_zeros_with_any_number_of_threads(case: Linear, rng: Rng) -> None:
    """With more threads than tasks too; and the gradients of the parameters are the same without dx."""
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    dy = (normals(rng, (case.n, case.outputs)) * (rng.random((case.n, case.outputs)) < 0.3)).astype(np.float32)
    before = get_num_threads()
    try:
        set_num_threads(1)
        expected = ops.linear_backward(dy, x, weight)
        for threads in (1, 2, 3, 7, 40):
            set_num_threads(threads)
            expect_same_bits(ops.linear_backward(dy, x, weight), expected)
            expect_same_bits(ops.linear_backward(dy, x, weight, need_dx=False)[1:], expected[1:])
    finally:
        set_num_threads(before)


@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_skipped_zeros_of_x_change_no_bit(case: Linear, rng: Rng) -> None:
    """Alone, an image takes the dense product."""
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    x *= (rng.random(x.shape) < 0.3).astype(np.float32)
    bias = normals(rng, (case.outputs,))
    bias[0] = -0.0
    y = ops.linear_forward(x, weight, bias)
    for i in range(case.n):
        expect_same_bits(ops.linear_forward(x[i : i + 1], weight, bias), y[i : i + 1])


@pytest.mark.parametrize("column", [6, 255])
def test_what_a_skipped_zero_would_meet(column: int, rng: Rng) -> None:
    """An infinity in x or in the weights makes NaN with a zero of dy, or of x: then none is skipped."""
    weight = normals(rng, (260, 256))
    row = 259 if column == 255 else 5
    weight[row, column] = np.inf
    y = ops.linear_forward(np.zeros((20, 256), np.float32), weight)
    assert np.isnan(y[:, row]).all() and not np.delete(y, row, axis=1).any()
    x, weight = normals(rng, (20, 256)), normals(rng, (30, 256))
    dy = np.zeros((20, 30), np.float32)
    dy[3, 4] = 1
    for wrong in (np.inf, np.nan):
        spoilt = x.copy()
        spoilt[5, column] = wrong
        _, dweight, _ = ops.linear_backward(dy, spoilt, weight)
        assert np.isnan(dweight[:, column]).all() and np.isfinite(np.delete(dweight, column, axis=1)).all()
        spoilt = weight.copy()
        spoilt[5, column] = wrong
        dx, dweight, _ = ops.linear_backward(dy, x, spoilt)
        assert dx is not None and np.isnan(dx[:, column]).all() and np.isfinite(dweight).all()
