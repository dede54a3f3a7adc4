"""The gradients of convolution, ReLU and max-pooling in precision bf16: dense on tiles, or over the winners in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, bf16, get_num_threads, ops, reference, set_num_threads
from fastlenet.backend import DEAD
from fastlenet.reference import bf16 as twin
from fastlenet.testing.units import using
from helpers.arrays import STYLES, Array, Guarded, integers, normals, styled
from helpers.bf16 import DOTS, TILES, UNITS, ConvPoolCase
from helpers.expect import expect_equal, expect_meaningful, expect_same_bits, expect_within, gamma

Rng = np.random.Generator


@dataclass(frozen=True)
class Case(ConvPoolCase):
    """Of the windows, the share `living` is alive."""

    living: float = 0.8

    def __str__(self) -> str:
        return f"{super().__str__()}-{self.living}"

    @property
    def pooled(self) -> tuple[int, int, int, int]:
        sizes = zip((self.h, self.w), self.padding, (self.r, self.s), self.window, strict=True)
        p, q = ((size + 2 * pad - taps + 1) // window for size, pad, taps, window in sizes)
        return self.n, self.k, p, q

    def arguments(self, make: Any, rng: Rng) -> tuple[Array, Array, Array, Array]:
        """dy, winners, x, weight."""
        winners = rng.integers(0, self.window[0] * self.window[1], self.pooled).astype(np.uint8)
        winners[rng.random(self.pooled) >= self.living] = DEAD
        x, weight = self.factors(make, rng)
        return make(rng, self.pooled), winners, x, weight


# Blocks that are full, hang over and hold one image; one, two and three tiles of channels and of filters; odd numbers of
# channels, filters and pixels; lines that reach beyond the frame; more padding than a filter has; convolutions that windows do
# not divide; windows of one position and of several; filter rows of 2 to 37 tiles.
DENSE = [
    Case(33, 9, 5, 5, 37, 2, 2),
    Case(9, 3, 7, 10, 33, 2, 7, (3, 2), (0, 2)),
    Case(17, 5, 6, 7, 7, 1, 6, (4, 1), (0, 1)),
    Case(32, 20, 6, 8, 18, 2, 5),
    Case(20, 34, 2, 18, 3, 1, 17, (2, 1)),
    Case(15, 17, 5, 5, 5, 3, 1, (1, 1), (3, 4)),
    Case(6, 33, 3, 3, 1, 3, 3, (1, 1), (1, 1), 1.0),
    Case(8, 6, 8, 9, 4, 3, 3, (2, 3), (1, 0), 0.9),
]
# Few images, few living windows, narrow filter rows, large x, large outputs, filters as large as x, and nothing at all.
WINNERS = [
    Case(1, 20, 6, 8, 18, 2, 5, living=1.0),
    Case(5, 20, 6, 8, 18, 2, 5, living=1.0),
    Case(32, 20, 6, 8, 18, 2, 5, living=0.1),
    Case(32, 1, 8, 8, 20, 5, 5, living=1.0),
    Case(32, 4, 6, 6, 5, 4, 4, living=1.0),
    Case(6, 41, 20, 40, 1, 1, 1, living=1.0),
    Case(6, 17, 10, 10, 42, 1, 1, (4, 4), (9, 9), living=1.0),
    Case(6, 3, 14, 14, 46, 14, 14, (1, 1), living=1.0),
    Case(0, 20, 6, 8, 18, 2, 5),
    Case(32, 20, 6, 8, 0, 2, 5),
    Case(32, 0, 6, 8, 18, 2, 5),
]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


@pytest.fixture(params=TILES)
def tiles(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


@pytest.mark.usefixtures("tiles", "threads")
@pytest.mark.parametrize("case", DENSE, ids=str)
def test_exact(case: Case, rng: Rng, guarded: Guarded) -> None:
    """Of small integers every sum is exact."""
    arguments = case.arguments(lambda rng, shape: integers(rng, shape, 16), rng)
    expected = reference.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
    assert twin.on_tiles(*arguments, padding=case.padding)
    expect_meaningful(*expected[1:])
    shapes = arguments[2].shape, arguments[3].shape, (case.k,)
    out = guarded.output(shapes[0]), guarded.output(shapes[1]), guarded.output(shapes[2])
    expect_equal(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options, out=out), expected)
    without = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options, need_dx=False)
    assert without[0] is None
    expect_equal(without[1:], expected[1:])


def random_case(rng: Rng) -> Case:
    """Of filter rows of more than 16 numbers, and of enough images."""
    h, w = int(rng.integers(1, 8)), int(rng.integers(1, 12))
    padding = int(rng.integers(0, 4)), int(rng.integers(0, 4))
    tall, wide = h + 2 * padding[0], w + 2 * padding[1]
    r, s = int(rng.integers(1, min(tall, 5) + 1)), int(rng.integers(1, min(wide, 5) + 1))
    window = int(rng.integers(1, min(tall - r + 1, 4) + 1)), int(rng.integers(1, min(wide - s + 1, 4) + 1))
    c = 16 // s + int(rng.integers(1, 24))
    return Case(int(rng.integers(12, 40)), c, h, w, int(rng.integers(1, 36)), r, s, window, padding)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("seed", range(15))
def test_random_shapes(seed: int, guarded: Guarded) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    arguments = case.arguments(lambda rng, shape: integers(rng, shape, 16), rng)
    assert twin.on_tiles(*arguments, padding=case.padding)
    expected = reference.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
    shapes = arguments[2].shape, arguments[3].shape, (case.k,)
    out = guarded.output(shapes[0]), guarded.output(shapes[1]), guarded.output(shapes[2])
    expect_equal(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options, out=out), expected)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("case", DENSE, ids=str)
def test_bounded(case: Case, rng: Rng) -> None:
    """dx adds up k*r*s products; dweight as many as there are places, and the blocks; dbias the places and its partial sums."""
    dy, winners, x, weight = case.arguments(normals, rng)
    found = bf16.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    in_float32 = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    assert all((a != b).mean() > 0.2 for a, b in zip(found[:2], in_float32[:2], strict=True))
    dy, x, weight = (array.astype(np.float64) for array in (dy, x, weight))
    exact = twin.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    sizes = np.abs(dy), winners, np.abs(x), np.abs(weight)
    magnitudes = twin.conv2d_relu_max_pool2d_backward(*sizes, **case.options)
    places = case.n * case.pooled[2] * case.pooled[3]
    depths = case.k * case.r * case.s + 2, places + case.n + 2, places + 16 * case.n
    for a, b, size, depth in zip(found, exact, magnitudes, depths, strict=True):
        expect_within(a, b, gamma(depth) * size + 2 * depth * 2.0**-126)


@pytest.mark.usefixtures("unit", "threads")
@pytest.mark.parametrize("case", WINNERS, ids=str)
def test_the_winners_have_the_bits_of_float32(case: Case, rng: Rng) -> None:
    arguments = case.arguments(normals, rng)
    assert not twin.on_tiles(*arguments, padding=case.padding)
    expected = ops.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
    expect_same_bits(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options), expected)
    without = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options, need_dx=False)
    expect_same_bits(without[1:], expected[1:])
    exact = twin.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
    expect_equal(exact, reference.conv2d_relu_max_pool2d_backward(*arguments, **case.options))


@pytest.mark.parametrize("unit", DOTS)
def test_vectors_take_the_winners(unit: str, rng: Rng) -> None:
    """VDPBF16PS is no faster than float32 here: a winner's row is added to another row, and no dot product."""
    for case in DENSE[:3]:
        arguments = case.arguments(normals, rng)
        with using(unit):
            found = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
        expect_same_bits(found, ops.conv2d_relu_max_pool2d_backward(*arguments, **case.options))


@pytest.mark.usefixtures("tiles", "threads")
@pytest.mark.parametrize("n", [31, 32, 33])
def test_tiles_begin_above_18_percent_of_whole_blocks(n: int, rng: Rng) -> None:
    """25 filters of 4 windows: 100 in an image, of 32 or 64 images; 576 or 1152 of them are 18 %."""
    case = Case(n, 9, 5, 5, 25, 2, 2, living=0.0)
    dy, winners, x, weight = case.arguments(normals, rng)
    limit = 576 if n <= 32 else 1152
    for living in (limit, limit + 1):
        winners[:] = DEAD
        winners.reshape(-1)[rng.permutation(winners.size)[:living]] = 3
        found = bf16.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)
        in_float32 = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)
        dense = living > limit
        assert twin.on_tiles(dy, winners, x, weight) is dense
        for a, b in zip(found[:2], in_float32[:2], strict=True):
            assert (a.tobytes() != b.tobytes()) is dense


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("case", [DENSE[0], DENSE[5]], ids=str)
def test_same_bits_for_any_threads_and_layout(case: Case, rng: Rng) -> None:
    arguments = case.arguments(normals, rng)
    before = get_num_threads()
    try:
        set_num_threads(1)
        expected = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
        for threads in (2, 3, 5):
            set_num_threads(threads)
            expect_same_bits(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options), expected)
    finally:
        set_num_threads(before)
    for style in STYLES:
        others = tuple(styled(array, style) for array in arguments)
        expect_same_bits(bf16.conv2d_relu_max_pool2d_backward(*others, **case.options), expected)
    without = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options, need_dx=False)
    expect_same_bits(without[1:], expected[1:])


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_tiles_and_their_emulation_have_the_same_bits(case: Case, rng: Rng) -> None:
    arguments = case.arguments(normals, rng)
    results = []
    for name in TILES:
        with using(name):
            results.append(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options))
    for result in results[1:]:
        expect_same_bits(result, results[0])


@pytest.mark.usefixtures("tiles")
def test_an_images_dx_does_not_depend_on_its_batch(rng: Rng) -> None:
    case = DENSE[0]
    dy, winners, x, weight = case.arguments(normals, rng)
    together = bf16.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)[0]
    part = slice(7, 25)
    alone = bf16.conv2d_relu_max_pool2d_backward(dy[part], winners[part], x[part], weight)[0]
    assert together is not None
    expect_same_bits(alone, together[part])


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, np.finfo(np.float32).max])
@pytest.mark.parametrize("where", ["dy", "x", "weight"])
def test_a_number_that_is_not_finite_when_rounded_takes_the_winners(where: str, odd: float, rng: Rng) -> None:
    """Zeros of the dense gradient would spread it. Without dx, no weight is multiplied."""
    case = Case(17, 9, 5, 5, 5, 2, 2)
    dy, winners, x, weight = case.arguments(normals, rng)
    winners[-1, 1, 1, 1] = 2
    for need_dx in (True, False):
        clean = bf16.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, need_dx=need_dx)
        array = {"dy": dy, "x": x, "weight": weight}[where].copy()
        array[(-1, 1, 1, 1)] = odd
        arguments = tuple(
            array if name == where else other for name, other in (("dy", dy), ("", winners), ("x", x), ("weight", weight))
        )
        found = bf16.conv2d_relu_max_pool2d_backward(*arguments, need_dx=need_dx)
        expected = ops.conv2d_relu_max_pool2d_backward(*arguments, need_dx=need_dx)
        if where == "weight" and not need_dx:
            expected = clean
        expect_same_bits(found[0 if need_dx else 1 :], expected[0 if need_dx else 1 :])


@pytest.mark.usefixtures("tiles")
def test_the_largest_numbers_that_stay_finite_are_rounded(rng: Rng) -> None:
    """0x7F7F7FFF rounds to 0x7F7F, the largest bfloat16; 0x7F7F8000 rounds to 0x7F80, which is infinite."""
    case = Case(17, 9, 5, 5, 5, 2, 2)
    dy, winners, x, weight = case.arguments(normals, rng)
    below, above = np.array([0x7F7F7FFF, 0x7F7F8000], np.uint32).view(np.float32)
    for largest, dense in ((below, True), (-below, True), (above, False), (-above, False)):
        x[-1, 1, 1, 1] = largest
        assert twin.on_tiles(dy, winners, x, weight) is dense
        found = bf16.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)[0]
        in_float32 = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)[0]
        assert found is not None and in_float32 is not None
        assert (found.tobytes() != in_float32.tobytes()) is dense


@pytest.mark.parametrize(("every", "times"), [(1, 1), (2, 3), (3, 10), (1, 1000)])
@pytest.mark.usefixtures("tiles")
def test_a_block_whose_tiles_are_lost_is_computed_again(every: int, times: int, rng: Rng) -> None:
    case = Case(17, 20, 4, 5, 37, 2, 2, (1, 2))
    arguments = case.arguments(normals, rng)
    expected = bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options)
    before = _core.tile_repeats()
    _core.plant_losses(every, times)
    try:
        expect_same_bits(bf16.conv2d_relu_max_pool2d_backward(*arguments, **case.options), expected)
    finally:
        _core.plant_losses(0, 0)
    # dx of 2 blocks of images: 1 pair of tiles of channels, 10 pairs of pixels. dweight of 1 block: 2 pairs of tiles of
    # filters, 2 filter rows, 2 pairs of 3 tiles of columns.
    lost = 2 * -(-10 // every) + -(-(2 * 2 * 2) // every)
    assert _core.tile_repeats() - before == lost * min(times, 10)


@pytest.mark.usefixtures("unit")
def test_arguments_are_checked_as_in_float32(rng: Rng) -> None:
    dy, winners, x, weight = DENSE[0].arguments(normals, rng)
    for wrong in (
        (dy[:1], winners, x, weight),
        (dy, winners[:, :1], x, weight),
        (dy, np.full_like(winners, 4), x, weight),
        (dy, winners.astype(np.int32), x, weight),
        (dy, winners, x[:, :1], weight),
        (dy, winners, x, weight[0]),
    ):
        with pytest.raises((TypeError, ValueError)) as expected:
            ops.conv2d_relu_max_pool2d_backward(*wrong)
        with pytest.raises(type(expected.value)) as found:
            bf16.conv2d_relu_max_pool2d_backward(*wrong)
        assert str(found.value) == str(expected.value)
