"""Sequential's passes, modes and copies, and the errors of a wrong use."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn, ops, reference
from helpers.arrays import normals
from helpers.expect import expect_as_exact, expect_same_bits, float64_reference

Rng = np.random.Generator


def small(backend: ModuleType = ops, seed: int = 0) -> nn.Sequential:
    """A network with every kind of layer, fused and not."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, (2, 3), stride=(1, 2), bias=False),
        nn.Sigmoid(),
        nn.MaxPool2d(2, stride=1, padding=1),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(3 * 5 * 3, 6),
        nn.ReLU(),
        nn.Linear(6, 3, bias=False),
        seed=seed,
        ops=backend,
    )


def classic(backend: ModuleType = ops, seed: int = 0) -> nn.Sequential:
    """A network with the layers of 1998, and overlapping windows of a mean."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.LeakyReLU(0.25),
        nn.AvgPool2d((3, 2), stride=1, padding=1),
        nn.Flatten(),
        nn.Linear(3 * 4 * 5, 3),
        seed=seed,
        ops=backend,
    )


X_SHAPE = (5, 2, 10, 10)


@pytest.mark.parametrize("network", [small, classic])
def test_backends_agree(network: Callable[..., nn.Sequential], rng: Rng) -> None:
    """Forward, backward and dx of one network on the kernels are as exact as on NumPy in float32; float64 is the judge."""
    x, dy = normals(rng, X_SHAPE), normals(rng, (5, 3))
    outputs = []
    for model in (network(), network(reference), network(float64_reference())):
        dtype = model.parameter_buffer.dtype
        y = model(x.astype(dtype))
        dx = model.backward(dy.astype(dtype), need_dx=True)
        assert dx is not None
        outputs.append([y, dx.copy(), *(gradient.copy() for gradient in model.gradients().values())])
    for ours, theirs, exact in zip(*outputs, strict=True):
        expect_as_exact(ours, theirs, exact)
        assert np.count_nonzero(theirs)


def test_the_result_belongs_to_the_caller(rng: Rng) -> None:
    model = small()
    first = model(normals(rng, X_SHAPE))
    kept = first.copy()
    second = model(normals(rng, X_SHAPE))
    expect_same_bits(first, kept)
    assert not np.shares_memory(first, second)


def test_backward_overwrites_gradients(rng: Rng) -> None:
    model = small()
    model.eval()  # no dropout: the same pass twice
    model.train()
    model.dropout_counter = 0
    x, dy = normals(rng, X_SHAPE), normals(rng, (5, 3))
    model(x)
    model.backward(dy)
    first = model.gradient_buffer.copy()
    model.gradient_buffer.fill(np.nan)
    model.dropout_counter = 0
    model(x)
    model.backward(dy)
    expect_same_bits(model.gradient_buffer, first)


def test_evaluation_ignores_dropout_and_keeps_no_activations(rng: Rng) -> None:
    x = normals(rng, X_SHAPE)
    model = small()
    trained = model(x)
    model.eval()
    expect_same_bits(model(x), model(x))
    assert (model(x) != trained).any()
    with pytest.raises(ValueError, match=r"dy expects shape \(5, 3\)"):
        model.backward(normals(rng, (4, 3)))
    fresh = small()
    fresh.eval()
    fresh(x)
    with pytest.raises(RuntimeError, match="call the model in training mode first"):
        fresh.backward(normals(rng, (5, 3)))


def test_evaluation_leaves_the_training_pass_alone(rng: Rng) -> None:
    """An evaluation between model(x) and backward does not change the gradients."""
    model = LeNet()
    x, other, dy = normals(rng, (4, 1, 28, 28)), normals(rng, (4, 1, 28, 28)), normals(rng, (4, 10))
    model(x)
    model.backward(dy)
    expected = model.gradient_buffer.copy()
    model(x)
    model.eval()
    model(other)
    model.train()
    model.backward(dy)
    expect_same_bits(model.gradient_buffer, expected)


def test_copies_are_independent(rng: Rng) -> None:
    model, x = small(), normals(rng, X_SHAPE)
    model.eval()
    expected = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        expect_same_bits(twin(x), expected)
        assert twin.parameter_buffer.ctypes.data % 64 == 0
        assert all(np.shares_memory(view, twin.parameter_buffer) for view in twin.parameters().values())
        twin.parameter_buffer.fill(0)
        expect_same_bits(model(x), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels expects a positive integer below"),
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: kernel_size expects positive ints below"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding expects non-negative ints below"),
        (lambda: nn.Linear(1, -2), r"Linear: out_features expects a positive integer below 2\^31, got -2"),
        (lambda: nn.MaxPool2d(2, stride=0), "MaxPool2d: stride expects positive ints below"),
        (lambda: nn.Dropout(1.0), r"Dropout: p expects a number in \[0, 1\), got 1.0"),
        (lambda: nn.Sequential(nn.ReLU(), names=["a", "b"]), "Sequential: names expects 1 different names"),
    ],
)
def test_wrong_layers(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_errors_name_the_layer(rng: Rng) -> None:
    model = LeNet()
    with pytest.raises(ValueError, match=r"layer 'conv1': .*x"):
        model(normals(rng, (2, 3, 28, 28)))
    with pytest.raises(ValueError, match=r"layer 'fc1': "):
        model(normals(rng, (2, 1, 32, 32)))
    with pytest.raises(TypeError, match=r"layer 'conv1': .*float64"):
        model(np.zeros((2, 1, 28, 28)))


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_batches(n: int, rng: Rng) -> None:
    model = LeNet()
    y = model(normals(rng, (n, 1, 28, 28)))
    assert y.shape == (n, 10)
    model.backward(np.ones_like(y))
    assert np.isfinite(model.gradient_buffer).all()
    assert bool(model.gradient_buffer.any()) == (n > 0)


def test_summary_of_a_custom_network() -> None:
    lines = small().summary(X_SHAPE[1:]).splitlines()
    cells = [line.split() for line in lines]
    assert cells[2] == ["0", "Conv2d", "4x10x10", "76", "7,200", "1,904"]  # 4*100*18 multiply-adds; 4*(76 + 400) bytes
    assert cells[-1][:2] == ["total", f"{76 + 72 + 276 - 0 + 18:,}"]


def test_dropout_layers_draw_different_masks(rng: Rng) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Dropout(0.5))
    ones = np.ones((1, 4096), np.float32)
    masks = [model(ones) for _ in range(4)]
    for a, b in itertools.combinations(masks, 2):
        assert (a != b).any()
    # Kept by both layers with probability 1/4, then scaled by 4; 16,384 draws, 6 standard deviations of sqrt(p*q/n).
    kept = np.mean([mask == 4 for mask in masks])
    assert abs(kept - 0.25) < 6 * (0.25 * 0.75 / 16384) ** 0.5
