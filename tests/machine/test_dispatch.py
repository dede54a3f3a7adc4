"""Instruction-set levels: chosen at import, forced by FASTLENET_ISA, refused when unknown or unsupported."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import fastlenet
from fastlenet import _core, ops


def start(isa: str) -> subprocess.CompletedProcess[str]:
    import os

    code = "import fastlenet; print(fastlenet.config()['level'])"
    environment = os.environ | {"FASTLENET_ISA": isa}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", _core.levels_available())
def test_forced(name: str) -> None:
    assert start(name).stdout.strip() == name


def test_best_by_default() -> None:
    assert start("").stdout.strip() == _core.levels_available()[0]


def test_unknown() -> None:
    result = start("avx9000")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: FASTLENET_ISA: unknown instruction-set level 'avx9000'")
    assert all(name in last for name in _core.levels_built())


def test_levels_built_and_available() -> None:
    assert set(_core.levels_available()) <= set(_core.levels_built())
    with pytest.raises(ValueError, match="unknown instruction-set level 'mmx'"):
        _core.set_level("mmx")


def test_the_level_in_use_changes(level: str) -> None:
    assert fastlenet.config()["level"] == level


@pytest.mark.parametrize("packed_at", _core.levels_available())
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("k", [1, 5, 16, 17])
def test_filters_packed_at_another_level(k: int, algorithm: str, packed_at: str, level: str) -> None:
    """Their layout is that of a level's vectors, of the same size for 16 filters: at another level they are packed again."""
    numbers = np.random.default_rng(0)
    x, weight = numbers.standard_normal((1, 3, 9, 9), np.float32), numbers.standard_normal((k, 3, 3, 3), np.float32)
    expected, _ = ops.conv2d_relu_max_pool2d_forward(x, weight, algorithm=algorithm)
    _core.set_level(packed_at)
    packed = ops.Packed(weight, algorithm)
    _core.set_level(level)
    y, _ = ops.conv2d_relu_max_pool2d_forward(x, packed, algorithm=algorithm)
    np.testing.assert_array_equal(y, expected)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fastlenet.show_config()
    text = capsys.readouterr().out
    for fact in ("version", "level", "threads", "cuda", "compiler", *_core.levels_built()):
        assert fact in text


def test_the_peak_is_measured() -> None:
    assert 0 < _core.multiply_add_peak(1, 0.01) < math.inf
