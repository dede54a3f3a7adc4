"""The instructions that multiply bfloat16: what the CPU computes, what the emulations compute, and what the manual says.

On a CPU without an instruction its emulation is tested alone, and the session's summary says so.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastlenet import _core
from fastlenet.reference.bf16 import rounded
from helpers.arrays import Array
from helpers.bf16 import DOTS, TILES, UNITS, dot, tile_product

Rng = np.random.Generator

# Halves of pairs: any bits; near 1; products near 2^-126, the least normal number; denormals and the least; near the largest.
EXPONENTS = {"any": None, "near one": (120, 16), "tiny products": (60, 8), "denormal": (0, 2), "huge": (186, 8)}
SPECIAL = [0, 0x8000, 1, 0x8001, 0x7F, 0x80, 0x8080, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFC1, 0x3F80, 0xBF80]


def halves(rng: Rng, kind: str, count: int) -> Array:
    if kind == "special":
        return rng.choice(np.array(SPECIAL, np.uint32), count)
    bits = rng.integers(0, 2**16, count, np.uint32)
    exponents = EXPONENTS[kind]
    if exponents is None:
        return bits
    return bits & 0x807F | (exponents[0] + rng.integers(0, exponents[1], count, np.uint32)) << 7


def pairs(rng: Rng, kind: str, count: int) -> Array:
    return halves(rng, kind, count) | halves(rng, kind, count) << 16


def floats(rng: Rng, kind: str, count: int) -> Array:
    """Sums of the same kind, a third of them of a size that cancels with the products."""
    bits = halves(rng, kind, count) << 16 | rng.integers(0, 2**16, count, np.uint32)
    if kind == "tiny products":  # 2^-126, and the next three floats above it
        bits = np.where(rng.random(count) < 0.3, bits & 0x80000003 | 0x00800000, bits)
    return bits.astype(np.uint32).view(np.float32)


KINDS = [*EXPONENTS, "special"]


@pytest.mark.parametrize("unit", UNITS)
def test_rounding(unit: str) -> None:
    """Of every upper half, each with the lower halves at which rounding changes. NaN keeps its sign and upper bits."""
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (np.arange(2**16, dtype=np.uint32)[:, np.newaxis] << 16 | lower).ravel()
    x = bits.view(np.float32)
    expected = (rounded(x).view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(_core.round_bf16(unit, x), expected)
    for count in range(70):  # whole vectors and what is left
        np.testing.assert_array_equal(_core.round_bf16(unit, x[999 : 999 + count]), expected[999 : 999 + count])


def test_rounding_in_numpy_is_to_nearest_even() -> None:
    x = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3.4e38, 1e-40, -1e-40, np.inf])
    expected = np.float32([1, 1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, 0, -0.0, np.inf])
    assert rounded(x).tobytes() == expected.tobytes()
    assert np.isnan(rounded(np.float32([np.nan]))).all() and rounded(np.float64([1 + 2**-9])).dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_have_the_bits_of_their_emulation(kind: str, rng: Rng) -> None:
    """A quarter of a million sums of each kind, with NaN's bits too."""
    a, b, sums = pairs(rng, kind, 1 << 18), pairs(rng, kind, 1 << 18), floats(rng, kind, 1 << 18)
    expected = _core.dot_bf16("vdpbf16ps-emulated", sums, a, b)
    assert len(np.unique(expected.view(np.uint32))) > 10
    for unit in DOTS:
        np.testing.assert_array_equal(_core.dot_bf16(unit, sums, a, b).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", DOTS)
def test_vectors_follow_the_manual(unit: str, kind: str, rng: Rng) -> None:
    a, b, sums = pairs(rng, kind, 1500), pairs(rng, kind, 1500), floats(rng, kind, 1500)
    exact = [dot(float(total), int(left), int(right)) for total, left, right in zip(sums, a, b, strict=True)]
    _expect_numbers(_core.dot_bf16(unit, sums, a, b), np.array(exact, np.float32))


@pytest.mark.parametrize("unit", DOTS)
def test_tiny_is_judged_after_rounding(unit: str) -> None:
    """2^-126 minus up to half an ulp below it rounds to 2^-126, and stays; a little more is tiny, and is flushed."""
    little = np.array([2.0**-80, 2.0**-80, 2.0**-80, 2.0**-80], np.float32)  # times about 2^-71
    parts = np.float32([2.0**-71, 2.0**-71 * (1 - 2.0**-8), 2.0**-71 * (1 + 2.0**-7), 2.0**-70])
    a, b = (array.view(np.uint32) >> 16 for array in (little, parts))
    sums = np.full(4, -(2.0**-126), np.float32)
    found = _core.dot_bf16(unit, sums, a, b)
    np.testing.assert_array_equal(found, np.float32([-(2.0**-126), -(2.0**-126), 0, 0]))
    assert np.signbit(found).all()
    exact = [dot(float(total), int(left), int(right)) for total, left, right in zip(sums, a, b, strict=True)]
    _expect_numbers(found, np.float32(exact))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", TILES)
def test_tiles_follow_the_manual(unit: str, kind: str, rng: Rng) -> None:
    a, b = (pairs(rng, kind, 256).reshape(16, 16) for _ in range(2))
    sums = floats(rng, kind, 256).reshape(16, 16)
    found = _core.tile_product_bf16(unit, sums[np.newaxis], a[np.newaxis], b[np.newaxis])[0]
    _expect_numbers(found, tile_product(sums, a, b))


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_have_the_bits_of_their_emulation(kind: str, rng: Rng) -> None:
    """Except NaN's, of which the manual says nothing."""
    a, b = (pairs(rng, kind, 64 * 256).reshape(64, 16, 16) for _ in range(2))
    sums = floats(rng, kind, 64 * 256).reshape(64, 16, 16)
    expected = _core.tile_product_bf16("tdpbf16ps-emulated", sums, a, b)
    for unit in TILES:
        _expect_numbers(_core.tile_product_bf16(unit, sums, a, b), expected)


def test_tiles_and_vectors_round_otherwise(rng: Rng) -> None:
    """Their orders of summation differ, so they are different levels: the same products give other bits."""
    a, b = (pairs(rng, "near one", 256).reshape(16, 16) for _ in range(2))
    zeros = np.zeros((16, 16), np.float32)
    tiles = _core.tile_product_bf16("tdpbf16ps-emulated", zeros[np.newaxis], a[np.newaxis], b[np.newaxis])[0]
    sums = zeros
    for k in range(16):
        left, right = np.repeat(a[:, k : k + 1], 16, axis=1), np.repeat(b[k : k + 1], 16, axis=0)
        sums = _core.dot_bf16("vdpbf16ps-emulated", sums, left, right)
    np.testing.assert_allclose(tiles, sums, rtol=0.01, atol=1e3 * np.finfo(np.float32).eps * np.abs(sums).max())
    assert (tiles != sums).any()


def _expect_numbers(found: Array, expected: Array) -> None:
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))


@pytest.mark.parametrize("wait", ["yield", "spin", "sleep"])
@pytest.mark.parametrize("unit", TILES)
def test_a_soak_without_losses(unit: str, wait: str) -> None:
    rounds, lost, undetected = _core.soak_tiles(unit, 4, 0.05, wait, 0)
    assert rounds >= 800 and rounds % 200 == 0 and (lost, undetected) == (0, 0)


@pytest.mark.parametrize("unit", TILES)
def test_a_soak_finds_what_is_lost(unit: str) -> None:
    """The tiles of every third round are lost on purpose: of 200 rounds at a time 67, and the sentinel tells of each."""
    rounds, lost, undetected = _core.soak_tiles(unit, 2, 0.0, "yield", 3)
    assert (rounds, lost, undetected) == (400, 134, 0)


def test_wrong_arguments() -> None:
    for call, error in (
        (lambda: _core.soak_tiles("vdpbf16ps-emulated", 1, 0.0, "yield", 0), "vdpbf16ps-emulated has no tiles"),
        (
            lambda: _core.soak_tiles("tdpbf16ps-emulated", 1, 0.0, "rest", 0),
            "soak: wait expects yield, spin or sleep, got rest",
        ),
        (lambda: _core.soak_tiles("tdpbf16ps-emulated", 0, 0.0, "yield", 0), "soak: threads expects 1..4096, got 0"),
        (lambda: _core.set_unit("mmx"), "unknown unit 'mmx'; built: tdpbf16ps, vdpbf16ps"),
    ):
        with pytest.raises(ValueError, match=error):
            call()
