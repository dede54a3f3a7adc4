"""The sigmoid within 2 ulp and tanh within 0.5001 ulp of the true value, on every float32 there is.

The bound of tanh is derived in cpp/kernels/activation.hpp; a device keeps 1 ulp of it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pytest

from fastlenet import _core, reference
from fastlenet.testing.ulp import Ulps
from helpers.arrays import Array
from helpers.backends import ops


class Bounded(NamedTuple):
    """An op, its bound in ulp, and where its formula or its exponential changes."""

    name: str
    most: float
    edges: tuple[float, ...]


FUNCTIONS = [
    Bounded("sigmoid_forward", 2, (0.0, 16.6, 17.3, 87.3, 88.7, 103.9, 104.0, 150.0, 1e30)),
    Bounded("tanh_forward", 0.5001, (0.0, 1e-45, 1e-38, 2.0**-12, 2.0**-5, 0.55, 9.01, 9.02, 350.0, 1e30)),
]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)


def truth(name: str, x: Array) -> Ulps:
    """The true value, to 2^-28 of a unit in the last place, by float64."""
    with np.errstate(invalid="ignore"):  # of NaN
        return Ulps(x, getattr(reference, name)(x.astype(np.float64)))


def worst_ulp(name: str, x: Array) -> float:
    return truth(name, x).worst(getattr(ops, name)(x))


@every_function
@pytest.mark.usefixtures("backend")
def test_sample_of_all_floats(function: Bounded) -> None:
    most = 1 if function.name == "tanh_forward" and ops.name == "cuda" else function.most
    bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32)
    assert worst_ulp(function.name, bits.view(np.float32)) <= most
    for edge in function.edges:
        x = np.float32([edge, -edge])
        near = [np.nextafter(x, np.float32(end)) for end in (np.inf, -np.inf)]
        assert worst_ulp(function.name, np.concatenate([x, *near])) <= most


@pytest.mark.usefixtures("backend")
def test_limits() -> None:
    assert ops.sigmoid_forward(np.float32([-np.inf, np.inf, 0])).tolist() == [0, 1, 0.5]
    limits = ops.tanh_forward(np.float32([-np.inf, np.inf, 0, -0.0, np.nan]))
    assert limits[:2].tolist() == [-1, 1]
    assert np.signbit(limits[2:4]).tolist() == [False, True]
    assert np.isnan(limits[4])


@every_function
@pytest.mark.slow
def test_all_floats(function: Bounded) -> None:
    """Of each binade, since a chunk has 2^18 of its 2^23 floats; all of them if FASTLENET_EVERY_FLOAT is set (nox -s long)."""
    before, chunk = _core.level(), 1 << 18  # whose arrays of float64 fit the cache
    worst = dict.fromkeys(_core.levels_available(), 0.0)
    for start in range(0, 2**32, chunk * (1 if os.environ.get("FASTLENET_EVERY_FLOAT") else 9)):
        x = np.arange(start, start + chunk, dtype=np.uint64).astype(np.uint32).view(np.float32)
        true = truth(function.name, x)
        for level in worst:
            _core.set_level(level)
            worst[level] = max(worst[level], true.worst(getattr(ops, function.name)(x)))
    _core.set_level(before)
    print(f"{function.name}: at most {worst} ulp")
    assert max(worst.values()) <= function.most
