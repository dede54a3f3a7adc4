"""Conv2d, ReLU and MaxPool2d in a row run as one op, to the same bits; other rows do not."""

from __future__ import annotations

import numpy as np
import pytest

from fastlenet import nn, ops, reference
from helpers.arrays import integers
from helpers.expect import expect_equal

Rng = np.random.Generator


def test_fused_equals_layer_by_layer(rng: Rng) -> None:
    """Sequential runs Conv2d, ReLU, MaxPool2d as one op: with integers to the bit what the three ops give one by one."""
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2))
    model.load_state_dict({"0.weight": integers(rng, (5, 2, 3, 3)), "0.bias": integers(rng, (5,))})
    assert len(model._steps) == 1
    x, dy = integers(rng, (4, 2, 8, 8)), integers(rng, (4, 5, 3, 3))
    weight, bias = model.parameters()["0.weight"], model.parameters()["0.bias"]
    conv = ops.conv2d_forward(x, weight, bias)
    relu = ops.relu_forward(conv)
    y, indices = ops.max_pool2d_forward(relu, 2)
    expect_equal(model(x), y)
    dconv = ops.relu_backward(ops.max_pool2d_backward(dy, indices, relu.shape), relu)
    dx, dweight, dbias = ops.conv2d_backward(dconv, x, weight)
    expect_equal(model.backward(dy, need_dx=True), dx)
    expect_equal(model.gradients()["0.weight"], dweight)
    expect_equal(model.gradients()["0.bias"], dbias)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2)],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, padding=1)],
        [nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(16)],
    ],
    ids=["stride", "overlapping windows", "padded windows", "sigmoid", "other order", "windows beyond a byte"],
)
def test_not_fused(layers: list[nn.Layer], rng: Rng) -> None:
    models = [nn.Sequential(*layers, ops=backend) for backend in (ops, reference)]
    assert all(len(model._steps) == 3 for model in models)
    x = integers(rng, (2, 1, 20, 20))
    for model in models:
        model.parameter_buffer[...] = np.arange(model.parameter_buffer.size) % 5 - 2
    ours, theirs = (model(x) for model in models)
    if isinstance(layers[1], nn.Sigmoid):
        assert np.abs(ours - theirs).max() < 1e-6
    else:
        expect_equal(ours, theirs)
