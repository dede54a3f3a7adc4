"""The sigmoid within 2 ulp of the true value, on every float32 there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet import ops, reference


def worst_ulp(x: npt.NDArray[np.float32]) -> float:
    """The largest error in units in the last place of the true value, which float64 gives to 2^-29 of one.

    Below 2^-126 the unit is that of the denormals, 2^-149. NaN must come of NaN alone.
    """
    y = ops.sigmoid_forward(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    number = ~np.isnan(x)
    exact: Any = reference.sigmoid_forward(x[number].astype(np.float64))
    _, exponent = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    return float((np.abs(y[number] - exact) / unit).max(initial=0.0))


@pytest.mark.usefixtures("level")
def test_sample_of_all_floats() -> None:
    bits = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32)
    assert worst_ulp(bits.view(np.float32)) <= 2
    for edge in (0.0, 16.6, 17.3, 87.3, 88.7, 103.9, 104.0, 150.0, 1e30):
        around = np.nextafter(np.float32([edge, -edge]), np.float32(np.inf))
        assert worst_ulp(np.concatenate([np.float32([edge, -edge]), around])) <= 2
    assert ops.sigmoid_forward(np.float32([-np.inf, np.inf, 0])).tolist() == [0, 1, 0.5]


@pytest.mark.slow
def test_all_floats(level: str) -> None:
    chunk = 1 << 23
    worst = 0.0
    for start in range(0, 2**32, chunk):
        bits = np.arange(start, start + chunk, dtype=np.uint64).astype(np.uint32)
        worst = max(worst, worst_ulp(bits.view(np.float32)))
    print(f"{level}: at most {worst:.6f} ulp")
    assert worst <= 2
