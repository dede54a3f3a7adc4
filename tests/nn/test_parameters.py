"""A model's parameters: their buffers, their first values, and those that are loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn, reference
from helpers.arrays import normals
from helpers.expect import expect_equal, expect_same_bits

Rng = np.random.Generator


def test_flat_aligned_buffers() -> None:
    model = LeNet()
    for buffer, views in ((model.parameter_buffer, model.parameters()), (model.gradient_buffer, model.gradients())):
        assert buffer.dtype == np.float32 and buffer.ctypes.data % 64 == 0 and buffer.size == 431_080
        assert all(np.shares_memory(view, buffer) for view in views.values())
        assert sum(view.size for view in views.values()) == buffer.size
    model.parameter_buffer.fill(2)
    assert all((array == 2).all() for array in model.state_dict().values())
    assert list(model.state_dict()) == list(model.gradients())


def test_each_parameter_starts_from_its_own_numbers() -> None:
    net = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    starts = [array.reshape(-1)[:9].tobytes() for array in net.parameters().values()]
    assert len(starts) == len(set(starts)) == 4


def test_initialisation_is_seeded_and_bounded() -> None:
    same, other = LeNet(seed=7), LeNet(seed=8)
    expect_same_bits(LeNet(seed=7).parameter_buffer, same.parameter_buffer)
    expect_same_bits(LeNet(seed=7, ops=reference).parameter_buffer, same.parameter_buffer)
    assert (same.parameter_buffer != other.parameter_buffer).mean() > 0.99
    for name, fan_in in (("conv1", 25), ("conv2", 500), ("fc1", 800), ("fc2", 500)):
        for part in ("weight", "bias"):
            values, bound = same.parameters()[f"{name}.{part}"], fan_in**-0.5
            assert np.abs(values).max() <= bound
            # A uniform variable of n samples: its largest is within 10/n of the bound with probability 1 - e^-10.
            assert np.abs(values).max() >= bound * (1 - 10 / values.size)


def test_load_state_dict(rng: Rng) -> None:
    model = LeNet()
    state = {name: normals(rng, array.shape).astype(np.float64) for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        expect_equal(array, state[name].astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc2.bias": None}, "fc2.bias is missing"),
        ({"fc3.bias": np.zeros(1)}, "fc3.bias is unexpected"),
        ({"fc2.bias": np.zeros(11)}, r"fc2.bias expects shape \(10,\), got \(11,\)"),
        ({"fc2.bias": np.zeros(10, int)}, "fc2.bias expects floats, got int64"),
        ({"fc2.bias": None, "conv1.bias": np.zeros(3)}, r"conv1.bias expects shape \(20,\), got \(3,\); fc2.bias is missing"),
    ],
)
def test_load_state_dict_errors(change: dict[str, Any], message: str) -> None:
    """Everything wrong is listed, and nothing is changed."""
    model = LeNet()
    before = model.parameter_buffer.copy()
    state = {name: array + 1 for name, array in model.state_dict().items()} | change
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({name: value for name, value in state.items() if value is not None})
    expect_same_bits(model.parameter_buffer, before)
