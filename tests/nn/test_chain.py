"""The three-weight sigmoid chain: forward, closed-form gradients, backward, the assignment's step, fitting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastlenet import Chain, reference
from helpers.arrays import normals

Rng = np.random.Generator


def sigmoid(u: float) -> float:
    return 1 / (1 + math.exp(-u))


def f(w: list[float], x: float) -> float:
    return w[2] * sigmoid(w[1] * sigmoid(w[0] * x))


WEIGHTS = [[1.0, 1.0, 1.0], [0.5, -2.0, 3.0], [-4.0, 0.25, -0.125], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_forward(weights: list[float]) -> None:
    x = np.array([[-3.0, -0.5, 0.0], [0.25, 1.0, 30.0]], np.float32)
    y = Chain(weights)(x)
    assert y.shape == x.shape
    expected = np.vectorize(lambda v: f(weights, v))(x.astype(np.float64))
    assert np.abs(y - expected).max() <= 1e-6 * max(1, abs(weights[2]))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_closed_form_is_backward_is_a_difference_quotient(weights: list[float]) -> None:
    chain = Chain(weights)
    for value in (-2.0, -0.3, 0.0, 0.7, 4.0):
        x = np.array([value], np.float32)
        closed = np.array(chain.closed_form_gradients(x)).reshape(3)
        chain(x)
        chain.backward(np.ones((1, 1), np.float32))
        size = 1e-6 * max(1.0, *np.abs(closed))
        assert np.abs(closed - chain.gradient_buffer).max() <= size
        for i in range(3):
            up, down = list(weights), list(weights)
            up[i], down[i] = up[i] + 1e-5, down[i] - 1e-5
            quotient = (f(up, float(x[0])) - f(down, float(x[0]))) / 2e-5
            assert abs(closed[i] - quotient) <= 10 * size + 1e-8


def test_one_step_on_two_examples() -> None:
    """w <- w - rate * grad L, with L the sum over both examples, against the same in Python's own floats."""
    w, x, y, rate = [0.3, -0.7, 1.1], [0.5, -1.5], [1.0, 0.25], 0.1
    gradient = [0.0, 0.0, 0.0]
    for xi, yi in zip(x, y, strict=True):
        a = sigmoid(w[0] * xi)
        b = sigmoid(w[1] * a)
        outer = -2 * (yi - w[2] * b)
        gradient[2] += outer * b
        gradient[1] += outer * w[2] * b * (1 - b) * a
        gradient[0] += outer * w[2] * b * (1 - b) * w[1] * a * (1 - a) * xi
    loss = sum((yi - f(w, xi)) ** 2 for xi, yi in zip(x, y, strict=True))

    chain = Chain(w)
    assert chain.loss(x, y) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(chain.loss_gradient(x, y), gradient, rtol=1e-5)
    assert chain.gradient_step(x, y, rate) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(chain.weights, [wi - rate * gi for wi, gi in zip(w, gradient, strict=True)], rtol=1e-6)


def test_fit_recovers_a_function(rng: Rng) -> None:
    x = normals(rng, (40,))
    y = Chain([1.5, -2.0, 0.8])(x)
    chain, seen = Chain([0.5, -0.5, 0.5]), []
    losses = chain.fit(x, y, rate=0.02, steps=3000, progress=lambda step, loss: seen.append((step, loss)))
    assert len(losses) == 3001 and [step for step, _ in seen] == list(range(3000))
    assert losses[-1] < 1e-3 * losses[0]
    assert losses[-1] == chain.loss(x, y)


def test_backends_agree() -> None:
    x, y = [0.5, -1.5, 2.0], [1.0, 0.25, 0.0]
    chains = Chain([0.3, 2.0, -1.0]), Chain([0.3, 2.0, -1.0], ops=reference)
    losses = [chain.fit(x, y, rate=0.1, steps=20) for chain in chains]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_errors() -> None:
    with pytest.raises(ValueError, match="weights expects three numbers, finite in float32, got"):
        Chain([1.0, 2.0])
    with pytest.raises(FloatingPointError, match="a smaller rate may help"), np.errstate(all="ignore"):
        Chain([1.0, 1.0, 1e30]).fit([1.0], [0.0], rate=1e30, steps=10)
