"""Optimizers: the rules written out in float64, their state, their errors."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import expect_same_bits, normals
from fastlenet import nn, reference
from fastlenet.optim import SGD, AdamW

Rng = np.random.Generator


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(40, 30), seed=1)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd(momentum: float, nesterov: bool, weight_decay: float, rng: Rng) -> None:
    net = model()
    optimizer = SGD(net, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    w = net.parameter_buffer.astype(np.float64)
    v = np.zeros_like(w)
    for _ in range(5):
        net.gradient_buffer[...] = normals(rng, w.shape)
        g = net.gradient_buffer + weight_decay * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
        optimizer.step()
    np.testing.assert_allclose(net.parameter_buffer, w, rtol=0, atol=5e-6)


def test_adamw(rng: Rng) -> None:
    net = model()
    optimizer = AdamW(net, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    w = net.parameter_buffer.astype(np.float64)
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 6):
        g = normals(rng, w.shape)
        net.gradient_buffer[...] = g
        m, s = 0.8 * m + 0.2 * g, 0.95 * s + 0.05 * g.astype(np.float64) ** 2
        w = w * (1 - 0.01 * 0.1) - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.95**t)) + 1e-6)
        optimizer.step()
    np.testing.assert_allclose(net.parameter_buffer, w, rtol=0, atol=2e-6)


@pytest.mark.parametrize("make", [lambda m: SGD(m, 0.1, 0.9, True), AdamW], ids=["SGD", "AdamW"])
def test_state_goes_on(make, rng: Rng) -> None:  # type: ignore[no-untyped-def]
    gradients = [normals(rng, (1230,)) for _ in range(6)]
    straight, first, second = model(), model(), model()
    runs = [(straight, make(straight), gradients), (first, make(first), gradients[:3])]
    for net, optimizer, steps in runs:
        for gradient in steps:
            net.gradient_buffer[...] = gradient
            optimizer.step()
    resumed = make(second)
    second.parameter_buffer[...] = first.parameter_buffer
    resumed.load_state({name: array.copy() for name, array in runs[1][1].state().items()})
    for gradient in gradients[3:]:
        second.gradient_buffer[...] = gradient
        resumed.step()
    expect_same_bits(second.parameter_buffer, straight.parameter_buffer)


def test_wrong_state() -> None:
    optimizer = SGD(model(), momentum=0.9)
    for state in ({}, {"velocity": np.zeros(3), "steps": np.zeros(1)}, AdamW(model()).state()):
        with pytest.raises(ValueError, match="SGD: state expects"):
            optimizer.load_state(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(model(), lr=-1), "SGD: lr expects a non-negative number, got -1"),
        (lambda: SGD(model(), momentum=-0.1), "SGD: momentum expects"),
        (lambda: SGD(model(), weight_decay=-0.1), "SGD: weight_decay expects"),
        (lambda: SGD(model(), nesterov=True), "SGD: nesterov expects momentum above 0, got 0.0"),
        (lambda: AdamW(model(), betas=(0.9, 1.0)), r"AdamW: betas expects two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda: AdamW(model(), eps=-1), "AdamW: eps expects"),
    ],
)
def test_wrong_arguments(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_reference_backend(rng: Rng) -> None:
    nets = model(), nn.Sequential(nn.Linear(40, 30), seed=1, ops=reference)
    for net in nets:
        net.gradient_buffer[...] = np.linspace(-1, 1, 1230, dtype=np.float32)
        SGD(net, 0.1, 0.9, True, 0.01).step()
        AdamW(net).step()
    np.testing.assert_allclose(nets[0].parameter_buffer, nets[1].parameter_buffer, rtol=0, atol=1e-6)
