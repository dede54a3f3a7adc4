"""Optimizers: the rules written out in float64, their state, their errors."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from fastlenet import nn, ops, reference
from fastlenet.optim import SGD, Adam, AdamW, Muon, schedules
from helpers.arrays import Array, normals
from helpers.expect import expect_as_exact, expect_same_bits, expect_within

Rng = np.random.Generator


def model(**options: ModuleType) -> nn.Sequential:
    return nn.Sequential(nn.Linear(40, 30), seed=1, **options)


def expect_followed(actual: Array, exact: Array, start: Array) -> None:
    """Each parameter is within a thousandth of the longest way that one has gone: rounding is far below it, a wrong factor,
    sign or exponent far above. The rival shares the optimizer's Python with `actual`, so that it cannot tell.
    """
    expect_within(actual, exact, 1e-3 * np.abs(exact - start).max())


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd(momentum: float, nesterov: bool, weight_decay: float, rng: Rng) -> None:
    """As exact, after five steps, as NumPy in float32; float64 is the judge."""
    net, rival = nets = model(), model(ops=reference)
    optimizers = [SGD(each, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay) for each in nets]
    w = start = net.parameter_buffer.astype(np.float64)
    v = np.zeros_like(w)
    for _ in range(5):
        net.gradient_buffer[...] = rival.gradient_buffer[...] = normals(rng, w.shape)
        g = net.gradient_buffer + weight_decay * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
        for optimizer in optimizers:
            optimizer.step()
    expect_followed(net.parameter_buffer, w, start)
    expect_as_exact(net.parameter_buffer, rival.parameter_buffer, w)


def test_adamw(rng: Rng) -> None:
    net, rival = nets = model(), model(ops=reference)
    optimizers = [AdamW(each, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1) for each in nets]
    w = start = net.parameter_buffer.astype(np.float64)
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 6):
        g = normals(rng, w.shape)
        net.gradient_buffer[...] = rival.gradient_buffer[...] = g
        m, s = 0.8 * m + 0.2 * g, 0.95 * s + 0.05 * g.astype(np.float64) ** 2
        w = w * (1 - 0.01 * 0.1) - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.95**t)) + 1e-6)
        for optimizer in optimizers:
            optimizer.step()
    expect_followed(net.parameter_buffer, w, start)
    expect_as_exact(net.parameter_buffer, rival.parameter_buffer, w)


def convolution(channels: int, filters: int, **options: ModuleType) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, filters, 3), nn.Flatten(), nn.Linear(filters, 4), seed=1, **options)


@pytest.mark.parametrize(("channels", "filters"), [(2, 6), (1, 36)], ids=["wide", "tall"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_muon(nesterov: bool, channels: int, filters: int, rng: Rng) -> None:
    """Convolutions: momentum, five rounds of the quintic, written out in float64. The rest as SGD."""
    shape = channels, filters
    rows, columns = filters, 9 * channels
    net, rival, rest = convolution(*shape), convolution(*shape, ops=reference), convolution(*shape)
    muons = [Muon(each, lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01, matrix_lr=0.05) for each in (net, rival)]
    sgd = SGD(rest, lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01)
    w = start = net.parameters()["0.weight"].astype(np.float64)
    v = np.zeros_like(w)
    for step in range(4):
        for optimizer in (*muons, sgd):
            optimizer.lr = 0.1 / (1 + step)  # as a schedule sets it; the matrices' rate follows in proportion
        gradient = normals(rng, net.gradient_buffer.shape)
        for each in (net, rival, rest):
            each.gradient_buffer[...] = gradient
        g = net.gradients()["0.weight"].astype(np.float64)
        v = 0.8 * v + g
        x = (g + 0.8 * v if nesterov else v).reshape(rows, columns)
        x = x / np.linalg.norm(x)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
        assert np.linalg.svd(x, compute_uv=False)[:6] == pytest.approx(np.ones(6), abs=0.35)
        w = w - 0.05 / (1 + step) * np.sqrt(max(1, rows / columns)) * (x.reshape(w.shape) + 0.01 * w)
        for optimizer in (*muons, sgd):
            optimizer.step()
    expect_followed(net.parameters()["0.weight"], w, start)
    expect_as_exact(net.parameters()["0.weight"], rival.parameters()["0.weight"], w)
    for name in ("0.bias", "2.weight", "2.bias"):
        expect_same_bits(net.parameters()[name], rest.parameters()[name])
    net.gradient_buffer[...] = 0
    Muon(net).step()  # a matrix of zeros has no direction
    assert np.isfinite(net.parameter_buffer).all()


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_inverse_root(module: ModuleType) -> None:
    assert [module.inverse_root(square) for square in (0.0, 4.0, 0.25)] == [0.0, 0.5, 2.0]
    assert np.isnan(module.inverse_root(np.nan)) and np.isnan(module.inverse_root(np.nan, at_least=4.0))
    assert [module.inverse_root(square, at_least=4.0) for square in (0.0, 3.0, 16.0)] == [0.5, 0.5, 0.25]
    for wrong in ({"square": -1.0}, {"square": 1.0, "at_least": -1.0}):
        with pytest.raises(ValueError, match=r"^inverse_root: \w+ expects a number of at least 0, got -1\.0$"):
            module.inverse_root(**wrong)


@pytest.mark.parametrize("make", [lambda m: SGD(m, 0.1, 0.9, True), AdamW, Muon], ids=["SGD", "AdamW", "Muon"])
def test_state_goes_on(make, rng: Rng) -> None:
    gradients = [normals(rng, (1230,)) for _ in range(6)]
    straight, first, second = model(), model(), model()
    runs = [(straight, make(straight), gradients), (first, make(first), gradients[:3])]
    for net, optimizer, steps in runs:
        for gradient in steps:
            net.gradient_buffer[...] = gradient
            optimizer.step()
    resumed = make(second)
    second.parameter_buffer[...] = first.parameter_buffer
    resumed.load_state_dict({name: array.copy() for name, array in runs[1][1].state_dict().items()})
    for gradient in gradients[3:]:
        second.gradient_buffer[...] = gradient
        resumed.step()
    expect_same_bits(second.parameter_buffer, straight.parameter_buffer)


def test_wrong_state() -> None:
    optimizer = SGD(model(), momentum=0.9)
    for state in ({}, {"velocity": np.zeros(3), "steps": np.zeros(1)}, AdamW(model()).state_dict()):
        with pytest.raises(ValueError, match="SGD: state: "):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(model(), lr=-1), "SGD: lr expects a non-negative number, got -1"),
        (lambda: SGD(model(), momentum=-0.1), "SGD: momentum expects"),
        (lambda: SGD(model(), weight_decay=-0.1), "SGD: weight_decay expects"),
        (lambda: SGD(model(), nesterov=True), "SGD: nesterov expects momentum above 0, got 0.0"),
        (lambda: AdamW(model(), betas=(0.9, 1.0)), r"AdamW: betas\[1\] expects a number in \[0, 1\), got 1.0"),
        (lambda: AdamW(model(), eps=-1), "AdamW: eps expects"),
        (lambda: Muon(model(), momentum=0), "Muon: momentum expects a positive number, got 0"),
        (lambda: Muon(model(), matrix_lr=-1), "Muon: matrix_lr expects a non-negative number, got -1"),
    ],
)
def test_wrong_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam(weight_decay: float, rng: Rng) -> None:
    """The penalty is part of the gradient, and so of both moments; the model's own gradients stay."""
    net = model()
    optimizer = Adam(net, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=weight_decay)
    w = start = net.parameter_buffer.astype(np.float64)
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, 6):
        net.gradient_buffer[...] = g = normals(rng, w.shape)
        penalised = g + weight_decay * w
        m, s = 0.8 * m + 0.2 * penalised, 0.95 * s + 0.05 * penalised**2
        w = w - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.95**t)) + 1e-6)
        optimizer.step()
        expect_same_bits(net.gradient_buffer, g)
    expect_followed(net.parameter_buffer, w, start)
    assert optimizer.steps == 5 and Adam(net).weight_decay == 0


def test_a_loop_of_pytorch() -> None:
    """zero_grad does nothing, since gradients are replaced; a model's parameters are refused in one line that says how."""
    nets = model(), model()
    x = np.ones((3, 40), np.float32)
    for zero, net in enumerate(nets):
        optimizer = SGD(net, lr=0.1, momentum=0.9)
        for _ in range(3):
            if zero:
                optimizer.zero_grad()
            net.backward(net(x))
            optimizer.step()
    expect_same_bits(nets[0].parameter_buffer, nets[1].parameter_buffer)
    for parameters in (nets[0].parameters(), nets[0].parameters().values(), iter([1])):
        message = r"^AdamW: model expects an nn\.Sequential, got \w+; pass the model itself, as AdamW\(model\)$"
        with pytest.raises(TypeError, match=message):
            AdamW(parameters)


def test_schedules() -> None:
    """Their ends and their shapes; the warm-up of all of them rises to the peak in the same steps."""
    functions = [getattr(schedules, name) for name in schedules.__all__]
    for schedule in functions:
        rates = [schedule(step, 100, peak=0.5, warm_up=0.2) for step in range(100)]
        np.testing.assert_allclose(rates[:20], 0.5 * np.arange(1, 21) / 20, rtol=1e-15)
        assert rates[20] == 0.5 and rates[20:] == sorted(rates[20:], reverse=True)
        np.testing.assert_allclose(rates, [0.5 * schedule(step, 100, warm_up=0.2) for step in range(100)], rtol=1e-15)
        assert schedule(0, 1) == 1.0
    assert [schedules.constant(step, 9) for step in range(9)] == [1.0] * 9
    np.testing.assert_allclose([schedules.exponential(step, 3, last=0.25) for step in range(3)], [1, 0.5, 0.25], rtol=1e-15)
    stairs = [schedules.staircase(step, 6, levels=3, factor=0.5) for step in range(6)]
    assert stairs == [1, 1, 0.5, 0.5, 0.25, 0.25]
    np.testing.assert_allclose(schedules.cosine(5, 10, warm_up=0.0), 0.5, rtol=1e-15)
    assert schedules.one_cycle(9, 10, warm_up=0.0) == pytest.approx(0.1, rel=1e-15)
