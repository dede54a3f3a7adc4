"""Random inputs: kernels stay within a derived bound of the float64 reference. No tolerance here was picked by hand."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

from fastlenet import reference
from fastlenet.testing import Op, checks
from helpers.arrays import normals
from helpers.backends import ops
from helpers.described import cases
from helpers.expect import expect_within, gamma

pytestmark = pytest.mark.usefixtures("backend")
Rng = np.random.Generator


@cases("bounded")
def test_bounded(op: Op, case: Any) -> None:
    checks.bounded(ops, op, case)


@pytest.mark.parametrize(("smoothing", "loss"), [(0.0, np.log(2)), (0.5, np.inf), (1.0, np.inf)])
def test_softmax_cross_entropy_of_an_infinite_logit(smoothing: float, loss: float) -> None:
    """Of probability 0: the loss is infinite where the target asks for it, and never NaN."""
    logits, labels = np.float32([[-np.inf, 1, 1]]), [1]
    for module in (ops, reference):
        assert module.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)[0] == pytest.approx(loss)
    assert ops.softmax_cross_entropy(logits, [0], label_smoothing=1.0)[0] == np.inf


def test_softmax_distillation_of_infinite_logits() -> None:
    """A teacher's probability of 0 leaves out a logit of -inf. A logit of inf makes the softmax NaN, and so also the loss."""
    for module in (ops, reference):
        distil = partial(module.softmax_distillation, labels=[1], mix=1.0, temperature=2.0)
        loss = distil(np.float32([[-np.inf, 1, 1]]), teacher=np.float32([[0, 0.5, 0.5]]))[0]
        assert loss == pytest.approx(4 * np.log(2))
        for teacher in ([0, 0], [0, 1], [1, 0]):
            with np.errstate(invalid="ignore"):
                loss, gradient = distil(np.float32([[np.inf, 1]]), teacher=np.float32([teacher]))
            assert np.isnan(loss)
            assert np.isnan(gradient).all()
        with np.errstate(invalid="ignore"):  # 0 * infinity: a teacher of such "probabilities" is an error that must show
            gradient = distil(np.float32([[-np.inf, 1]]), teacher=np.float32([[0, np.inf]]))[1]
        assert np.isnan(gradient).all()


@pytest.mark.parametrize("classes", [1, 3, 10, 17])
def test_a_logit_that_is_nan(classes: int) -> None:
    """Wherever it stands, it makes the loss and its row's gradients NaN, and no other row's."""
    teacher = np.full((2, classes), 1 / classes, np.float32)
    losses = (
        ops.softmax_cross_entropy,
        ops.softmax_squared_error,
        partial(ops.softmax_distillation, teacher=teacher, mix=0.5),
        partial(ops.softmax_distillation, teacher=teacher, mix=1.0),
    )
    for loss, place in itertools.product(losses, range(classes)):
        logits = np.ones((2, classes), np.float32)
        logits[0, place] = np.nan
        found, gradient = loss(logits, labels=[0, 0])
        gradient = np.asarray(gradient)
        assert np.isnan(found) and np.isnan(gradient[0]).all() and np.isfinite(gradient[1]).all()


def test_adam_step(rng: Rng) -> None:
    """First step from zero moments: with q = |m|/(sqrt(v)+eps) <= 1/(1-...) the roundings below add up to 12 units u at most.

    lr, beta and the corrections are rounded to float32 (4), the moments take 3 roundings each (v's root halves them), the
    root, its scale, the sum with eps, the quotient and the product 1 each; the final difference rounds the parameter.
    """
    count, lr, decay = 1000, 1e-3, 1e-2
    parameters, gradients = normals(rng, (count,)), normals(rng, (count,))
    state = [parameters.copy(), gradients, np.zeros(count, np.float32), np.zeros(count, np.float32)]
    exact = [array.astype(np.float64) for array in state]
    ops.adam_step(*state, step=1, lr=lr, weight_decay=decay)
    reference.adam_step(*exact, step=1, lr=lr, weight_decay=decay)
    expect_within(state[0], exact[0], gamma(3) * np.abs(parameters.astype(np.float64)) + gamma(12) * lr)
    expect_within(state[2], exact[2], gamma(3) * np.abs(exact[2]))
    expect_within(state[3], exact[3], gamma(4) * np.abs(exact[3]) + 2.0**-149)
