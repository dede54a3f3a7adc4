"""Muon's orthogonal step on matrices that are hard to make orthogonal, against the definition in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import ops, reference
from fastlenet.config import own_threads
from fastlenet.testing import OPS
from fastlenet.testing.description import Call
from fastlenet.testing.update import SLOPE, SLOPE_OF_Q
from helpers.arrays import normals
from helpers.expect import expect_same_bits

Rng = np.random.Generator
SHAPES = [(20, 25), (25, 20), (50, 500), (500, 50), (1, 40), (40, 1), (1, 1), (17, 17), (130, 140), (300, 129)]
QUINTIC = 3.4445, -4.7750, 2.0315


def spectrum(rng: Rng, shape: tuple[int, int], values: Any) -> Any:
    """A float32 matrix with about these singular values."""
    left, _, right = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    return ((left * values) @ right).astype(np.float32)


def direction(module: Any, x: Any) -> Any:
    """What the op subtracts from zeros, where the rate is that of square matrices."""
    rows, columns = x.shape
    moved = np.zeros(x.size, np.float32)
    rate = -1 / np.sqrt(max(1.0, rows / columns))
    module.muon_step(moved, x.reshape(-1), None, matrices=[(0, rows, columns)], lr=0.0, matrix_lr=rate)
    return moved.reshape(x.shape)


def by_singular_values(x: Any) -> Any:
    """The same without any product of X with itself: the polynomial of each singular value, in float64."""
    left, values, right = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    norm = np.sqrt((values**2).sum())
    values = values / norm if norm else values
    for _ in range(5):
        values = QUINTIC[0] * values + QUINTIC[1] * values**3 + QUINTIC[2] * values**5
    return (left * values) @ right


def bound(x: Any, shape: tuple[int, int]) -> float:
    """gamma of n + 3 roundings of |Q||X|, with |Q| <= 485 and |X| = 1, and the double rounding of the Gram matrix."""
    n, m = min(shape), max(shape)
    return float(2**-24 * (n + 3) * SLOPE * np.sqrt(n) + SLOPE_OF_Q * n * (m + 20 * n) * 2.0**-53)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["normal", "ill-conditioned", "low rank", "one value", "tiny", "huge", "subnormal"])
def test_singular_values_become_one(shape: tuple[int, int], kind: str, rng: Rng) -> None:
    n = min(shape)
    values = {
        "ill-conditioned": np.logspace(0, -12, n),
        "low rank": np.arange(n) < max(1, n // 3),
        "one value": np.ones(n),
    }.get(kind)
    x = normals(rng, shape) if values is None else spectrum(rng, shape, values)
    x = x * np.float32({"tiny": 1e-30, "huge": 1e30, "subnormal": 1e-42}.get(kind, 1.0))
    exact = by_singular_values(x)
    np.testing.assert_allclose(direction(reference, x), exact, rtol=0, atol=1e-6)  # which rounds to float32 once
    error = np.abs(direction(ops, x) - exact).max()
    assert error <= bound(x, shape), (error, bound(x, shape))


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_matrices_without_a_direction(module: Any) -> None:
    """Zeros stay zeros; a NaN or an infinity reaches the whole matrix, and nothing else."""
    assert not direction(module, np.zeros((5, 7), np.float32)).any()
    for wrong in (np.nan, np.inf, -np.inf):
        x = np.ones((3, 4), np.float32)
        x[1, 2] = wrong
        with np.errstate(all="ignore"):
            assert np.isnan(direction(module, x)).all()
    moved, gradients = np.ones(20, np.float32), np.ones(20, np.float32)
    gradients[3] = np.nan
    with np.errstate(all="ignore"):
        module.muon_step(moved, gradients, None, matrices=[(2, 2, 3), (10, 2, 2)], lr=0.5, matrix_lr=0.5)
    assert np.isnan(moved).nonzero()[0].tolist() == list(range(2, 8))


def test_slopes_of_the_bound() -> None:
    """The bounds use the steepest slopes of p and q on [0, 1], where p(x) = x q(x^2) is five rounds."""
    x = np.linspace(0, 1, 1_000_001)[1:]
    value, slope = x.copy(), np.ones_like(x)
    for _ in range(5):
        slope = slope * (QUINTIC[0] + 3 * QUINTIC[1] * value**2 + 5 * QUINTIC[2] * value**4)
        value = QUINTIC[0] * value + QUINTIC[1] * value**3 + QUINTIC[2] * value**5
    assert 0.99 * SLOPE < np.abs(slope).max() <= SLOPE
    assert 0.9 * SLOPE_OF_Q < np.abs(np.gradient(value / x, x**2)).max() <= SLOPE_OF_Q


@pytest.mark.parametrize("average", [False, True])
def test_the_same_bits_for_every_number_of_threads(average: bool, rng: Rng) -> None:
    """Small matrices, which a thread moves alone, and large ones, whose products the threads share; and two passes in one."""
    matrices = [(3, 20, 25), (503, 50, 500), (25_600, 500, 40), (46_000, 150, 260)]
    start = [normals(rng, (90_000,)) for _ in range(4)]
    results = []
    for threads in (1, 2, 3, 7):
        parameters, gradients, velocity, mean = (array.copy() for array in start)
        with own_threads(threads):
            ops.muon_step(
                parameters,
                gradients,
                velocity,
                matrices=matrices,
                lr=0.1,
                matrix_lr=0.02,
                momentum=0.9,
                nesterov=True,
                weight_decay=1e-3,
                **({"average": mean, "decay": 0.9} if average else {}),
            )
            if not average:
                ops.ema_step(mean, parameters, decay=0.9)
        results.append((parameters, velocity, mean))
    for result in results[1:]:
        for array, first in zip(result, results[0], strict=True):
            expect_same_bits(array, first)
    separate = start[3].copy()
    ops.ema_step(separate, results[0][0], decay=0.9)
    expect_same_bits(results[0][2], separate)


def test_a_matrix_whose_gradient_and_momentum_cancel() -> None:
    """Nothing bounds its step, which could be of any size. At a rate of 0 it does not count, and a wrong parameter is seen."""
    ones, matrix = np.ones(2, np.float32), {"lr": 0.0, "momentum": 0.5, "matrices": ((0, 2, 1),), "matrix_lr": 0.0}
    call = Call(OPS["muon_step"], {"parameters": ones, "gradients": ones, "velocity": -2 * ones, "average": None, **matrix})
    parameters, velocity = ones.copy(), -2 * ones
    ops.muon_step(parameters, ones, velocity, **matrix)
    call.op.judge(call, [parameters, velocity, None])
    with pytest.raises(AssertionError, match=r"parameters expected 1\.0 within "):
        call.op.judge(call, [parameters + np.float32(1e-3), velocity, None])


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
@pytest.mark.parametrize(
    ("matrices", "kind", "expected"),
    [
        ([(0, 3, 4)], ValueError, "matrices one after the other within 10 parameters, got [(0, 3, 4)]"),
        ([(0, 2, 2), (3, 1, 1)], ValueError, "matrices one after the other within 10 parameters, got [(0, 2, 2), (3, 1, 1)]"),
        ([(11, 0, 0)], ValueError, "matrices one after the other within 10 parameters, got [(11, 0, 0)]"),
        ([(0, 2**62, 2**62)], ValueError, f"matrices one after the other within 10 parameters, got [(0, {2**62}, {2**62})]"),
        ([(0, -1, 2)], ValueError, "a sequence of (begin, rows, columns), of non-negative ints, got "),
        ([(0, 2)], TypeError, "a sequence of (begin, rows, columns), of non-negative ints, got [(0, 2)]"),
        (None, TypeError, "a sequence of (begin, rows, columns), of non-negative ints, got None"),
    ],
)
def test_wrong_matrices(module: Any, matrices: Any, kind: type[Exception], expected: str) -> None:
    arrays = np.zeros(10, np.float32), np.zeros(10, np.float32)
    with pytest.raises(kind) as error:
        module.muon_step(*arrays, None, matrices=matrices, lr=0.1, matrix_lr=0.1)
    assert str(error.value).startswith(f"muon_step: matrices expects {expected}")
