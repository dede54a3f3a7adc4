"""Random damage to files, and the seeds that repeat it."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

Draw = np.random.Generator


def seeds(fixed: int) -> list[Any]:
    """Some cases that are always the same, and thousands of others (slow) that FASTLENET_FUZZ_SEED repeats."""
    other = int(os.environ.get("FASTLENET_FUZZ_SEED", time.time_ns() % 2**32))
    return [pytest.param(0, fixed, id="few"), pytest.param(other, fixed * 70, id="many", marks=pytest.mark.slow)]


def flip(content: bytes, draw: Draw) -> bytes:
    damaged = bytearray(content)
    for position in draw.integers(0, len(content), draw.integers(1, 5)):
        damaged[position] ^= 1 << int(draw.integers(8))
    return bytes(damaged)


def cut(content: bytes, draw: Draw) -> bytes:
    return content[: draw.integers(0, len(content))]


def insert(content: bytes, draw: Draw) -> bytes:
    at = int(draw.integers(0, len(content)))
    return content[:at] + bytes(draw.integers(0, 256, int(draw.integers(1, 20)), np.uint8)) + content[at:]


def move(content: bytes, draw: Draw) -> bytes:
    """A piece of the file over another."""
    a, b, length = (int(n) for n in draw.integers(0, len(content), 3))
    length %= 64
    return content[:a] + content[b : b + length] + content[a + length :]
