"""The sigmoid within 2 ulp of the true value, on every float32 there is."""

from __future__ import annotations

import numpy as np
import pytest

from fastlenet import _core, reference
from fastlenet.testing.ulp import Ulps
from helpers.arrays import Array
from helpers.backends import ops


def truth(x: Array) -> Ulps:
    """The true sigmoid, to 2^-29 of a unit in the last place, by float64."""
    with np.errstate(invalid="ignore"):  # of NaN
        return Ulps(x, reference.sigmoid_forward(x.astype(np.float64)))


def worst_ulp(x: Array) -> float:
    return truth(x).worst(ops.sigmoid_forward(x))


@pytest.mark.usefixtures("backend")
def test_sample_of_all_floats() -> None:
    bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32)
    assert worst_ulp(bits.view(np.float32)) <= 2
    for edge in (0.0, 16.6, 17.3, 87.3, 88.7, 103.9, 104.0, 150.0, 1e30):
        around = np.nextafter(np.float32([edge, -edge]), np.float32(np.inf))
        assert worst_ulp(np.concatenate([np.float32([edge, -edge]), around])) <= 2
    assert ops.sigmoid_forward(np.float32([-np.inf, np.inf, 0])).tolist() == [0, 1, 0.5]


@pytest.mark.slow
def test_all_floats() -> None:
    before, chunk = _core.level(), 1 << 22
    worst = dict.fromkeys(_core.levels_available(), 0.0)
    for start in range(0, 2**32, chunk):
        x = np.arange(start, start + chunk, dtype=np.uint64).astype(np.uint32).view(np.float32)
        true = truth(x)
        for level in worst:
            _core.set_level(level)
            worst[level] = max(worst[level], true.worst(ops.sigmoid_forward(x)))
    _core.set_level(before)
    print(f"at most {worst} ulp")
    assert max(worst.values()) <= 2
