"""Convolution, ReLU and max-pooling with factors of bfloat16, on every unit that this CPU has and on the emulations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, bf16, ops, reference
from fastlenet.reference import bf16 as twin
from fastlenet.testing.units import using
from helpers.arrays import Array, Guarded, integers, normals
from helpers.bf16 import TILES, UNITS, ConvPoolCase
from helpers.expect import expect_equal, expect_meaningful, expect_same_bits, expect_within, gamma

Rng = np.random.Generator


class Case(ConvPoolCase):
    def arrays(self, make: Any, rng: Rng) -> tuple[Array, Array, Array]:
        """x, weight, bias."""
        return *self.factors(make, rng), make(rng, (self.k,))


# Blocks that are full or not, one image at a time up to 8; even and odd rows of taps; windows of less, as many and more than
# four positions; filters of less than a vector and of several; filter rows that tiles take in parts, also in parts of one pair.
CASES = [
    Case(1, 1, 6, 6, 1, 1, 1),
    Case(17, 1, 12, 12, 20, 5, 5),
    Case(8, 2, 9, 8, 6, 3, 2, (2, 2), (1, 1)),
    Case(9, 3, 7, 10, 33, 2, 3, (3, 2), (0, 2)),
    Case(33, 2, 8, 9, 4, 4, 4, (1, 1), (2, 0)),
    Case(3, 1, 9, 9, 70, 3, 7, (2, 3), (1, 3)),
    Case(20, 5, 6, 7, 7, 1, 6, (4, 1), (0, 1)),
    Case(17, 20, 6, 8, 18, 2, 5),
    Case(2, 34, 2, 18, 3, 1, 17, (2, 1)),
    Case(0, 1, 6, 6, 3, 3, 3),
    Case(4, 1, 6, 6, 0, 3, 3),
    Case(12, 0, 6, 6, 3, 3, 3),
]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


@pytest.mark.usefixtures("unit", "threads")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case: Case, rng: Rng, guarded: Guarded) -> None:
    """Of integers that bfloat16 has every sum is exact; so the maximum and the winner are those of float32."""
    x, weight, bias = case.arrays(lambda rng, shape: integers(rng, shape, 256), rng)
    expected = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    out = guarded.output(expected[0].shape), guarded.output(expected[1].shape, np.uint8)
    expect_equal(bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options, out=out), expected)
    if expected[0].size and case.c:
        expect_meaningful(expected[0])
    without = reference.conv2d_relu_max_pool2d_forward(x, weight, **case.options)
    expect_equal(bf16.conv2d_relu_max_pool2d_forward(x, weight, **case.options), without)


def random_case(rng: Rng) -> Case:
    """Of at most 12 x 9 x 9 numbers, so that products of integers up to 128 are summed exactly."""
    c, h, w = (int(size) for size in (rng.integers(1, 13), rng.integers(1, 12), rng.integers(1, 20)))
    padding = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    tall, wide = h + 2 * padding[0], w + 2 * padding[1]
    r, s = int(rng.integers(1, min(tall, 9) + 1)), int(rng.integers(1, min(wide, 9) + 1))
    window = int(rng.integers(1, min(tall - r + 1, 4) + 1)), int(rng.integers(1, min(wide - s + 1, 4) + 1))
    return Case(int(rng.integers(1, 20)), c, h, w, int(rng.integers(1, 36)), r, s, window, padding)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("seed", range(15))
def test_random_shapes(seed: int, guarded: Guarded) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    x, weight, bias = case.arrays(lambda rng, shape: integers(rng, shape, 128), rng)
    expected = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    out = guarded.output(expected[0].shape), guarded.output(expected[1].shape, np.uint8)
    expect_equal(bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options, out=out), expected)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bounded(case: Case, rng: Rng) -> None:
    """A sum of c*r*s products and the bias; a maximum errs by no more than its largest term."""
    x, weight, bias = (array.astype(np.float64) for array in case.arrays(normals, rng))
    exact = twin.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)[0]
    sizes = np.abs(twin.rounded(x)), np.abs(twin.rounded(weight)), np.abs(bias)
    magnitudes = reference.conv2d_relu_max_pool2d_forward(*sizes, **case.options)[0]
    depth = case.c * case.r * case.s + 2
    found = bf16.conv2d_relu_max_pool2d_forward(*(array.astype(np.float32) for array in (x, weight, bias)), **case.options)[0]
    expect_within(found, exact, gamma(depth) * (1 + 2**-7) * magnitudes + 2 * depth * 2.0**-126)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_units_of_an_instruction_have_the_same_bits(case: Case, rng: Rng) -> None:
    x, weight, bias = case.arrays(normals, rng)
    for instruction in ("vdpbf16ps", "tdpbf16ps"):
        results = []
        for name in UNITS:
            if name.startswith(instruction):
                with using(name):
                    results.append(bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options))
        for result in results[1:]:
            expect_same_bits(result, results[0])


@pytest.mark.usefixtures("unit", "threads")
@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[4]], ids=str)
def test_an_image_has_the_same_bits_alone(case: Case, rng: Rng) -> None:
    x, weight, bias = case.arrays(normals, rng)
    together = bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    for first, count in ((0, 1), (case.n - 1, 1), (2, 7), (0, 9)):
        part = slice(first, first + count)
        for given in (weight, bf16.Packed(weight), ops.Packed(weight)):
            found = bf16.conv2d_relu_max_pool2d_forward(x[part], given, bias, **case.options)
            expect_same_bits(found, tuple(array[part] for array in together))


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_an_odd_pixel_reaches_its_windows_alone(odd: float, n: int, rng: Rng) -> None:
    """Not the sum beside it, although pixels come in pairs: the last tap of a row of 3 shares its pair with no tap."""
    case = Case(n, 2, 8, 9, 5, 3, 3, (1, 1))
    x, weight, bias = case.arrays(normals, rng)
    clean = bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    x[-1, 1, 4, 5] = odd
    found = bf16.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    expected = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    seen = np.zeros(clean[0].shape, bool)
    seen[-1, :, 2:5, 3:6] = True
    np.testing.assert_array_equal(found[0][~seen], clean[0][~seen])
    np.testing.assert_array_equal(found[0][seen], expected[0][seen])
    np.testing.assert_array_equal(found[1][seen], expected[1][seen])


@pytest.mark.usefixtures("unit")
def test_ties_and_nan_choose_the_first() -> None:
    x = np.zeros((20, 1, 4, 4), np.float32)
    x[:, 0] = [[1, 1, 2, 3], [1, 1, 3, 3], [-1, -1, np.nan, 7], [-2, -1, 9, np.nan]]
    y, winners = bf16.conv2d_relu_max_pool2d_forward(x, np.ones((1, 1, 1, 1), np.float32))
    for images in (slice(None), slice(0, 1)):
        y, winners = bf16.conv2d_relu_max_pool2d_forward(x[images], np.ones((1, 1, 1, 1), np.float32))
        np.testing.assert_array_equal(y[0, 0], [[1, 3], [0, np.nan]])
        np.testing.assert_array_equal(winners[0, 0], [[0, 1], [255, 0]])


def test_winograd_stays_in_float32_by_vectors(rng: Rng) -> None:
    """Where Winograd's algorithm pays, as for LeNet's conv2; its bits are those of fastlenet.ops. Tiles are faster than it."""
    case = Case(20, 20, 12, 12, 50, 5, 5)
    x, weight, bias = case.arrays(normals, rng)
    small = Case(20, 1, 12, 12, 20, 5, 5).arrays(normals, rng)
    for unit in UNITS:
        tiles = unit.startswith("tdpbf16ps")
        with using(unit):
            for images in (x[:2],) if tiles else (x, x[:1]):
                in_float32 = ops.conv2d_relu_max_pool2d_forward(images, weight, bias, algorithm="winograd")
                expected = bf16.conv2d_relu_max_pool2d_forward(images, weight, bias) if tiles else in_float32
                assert not tiles or (expected[0] != in_float32[0]).any()
                for given in (weight, ops.Packed(weight, "winograd")):
                    found = bf16.conv2d_relu_max_pool2d_forward(images, given, bias, algorithm="winograd")
                    expect_same_bits(found, expected)
            one = bf16.conv2d_relu_max_pool2d_forward(*small, algorithm="winograd")
            expect_same_bits(one, bf16.conv2d_relu_max_pool2d_forward(*small))


@pytest.mark.parametrize(("every", "times"), [(1, 1), (2, 3), (1, 9), (3, 10), (1, 1000)])
@pytest.mark.parametrize("unit", TILES)
def test_a_block_whose_tiles_are_lost_is_computed_again(unit: str, every: int, times: int, rng: Rng) -> None:
    """With the same bits; after ten losses in a row by the emulation, which has them too."""
    case = Case(17, 2, 9, 8, 33, 3, 3)
    x, weight, bias = case.arrays(normals, rng)
    with using(unit):
        expected = bf16.conv2d_relu_max_pool2d_forward(x, weight, bias)
        before = _core.tile_repeats()
        _core.plant_losses(every, times)
        try:
            expect_same_bits(bf16.conv2d_relu_max_pool2d_forward(x, weight, bias), expected)
        finally:
            _core.plant_losses(0, 0)
    # For each of 2 pairs of groups of filters and 2 pairs of positions: 9 windows of 16 images, and 3 lines of the last image.
    lost = -(-(2 * 2 * 9) // every) + -(-(2 * 2 * 3) // every)
    assert _core.tile_repeats() - before == lost * min(times, 10)


@pytest.mark.usefixtures("unit")
def test_arguments_are_checked_as_in_float32(rng: Rng) -> None:
    x, weight, bias = CASES[1].arrays(normals, rng)
    for wrong in (
        lambda module: module.conv2d_relu_max_pool2d_forward(x[:, :, :4], weight, bias),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, weight[:, :0], bias),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, weight, bias[1:]),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, weight, bias, algorithm="fft"),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, weight, bias, kernel_size=0),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, module.Packed(weight, "winograd"), bias),
        lambda module: module.conv2d_relu_max_pool2d_forward(x, weight, bias, out=(x, x)),
        lambda module: module.Packed(weight[0, 0, 0]),
    ):
        with pytest.raises((TypeError, ValueError)) as expected:
            wrong(ops)
        with pytest.raises(type(expected.value)) as found:
            wrong(bf16)
        assert str(found.value) == str(expected.value)
