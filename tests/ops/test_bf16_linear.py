"""The linear layer with factors of bfloat16, on every unit that this CPU has and on the emulations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, bf16, ops, reference, set_num_threads
from fastlenet.reference import bf16 as twin
from fastlenet.testing.cases import Linear
from fastlenet.testing.units import using
from helpers.arrays import Array, Guarded, integers, normals
from helpers.bf16 import HARDWARE, UNITS
from helpers.expect import expect_equal, expect_meaningful, expect_same_bits, expect_within, gamma

Rng = np.random.Generator

# Depths of odd numbers and of less than a pair, a vector and a tile; rows and columns of part of a block and of several.
CASES = [
    Linear(1, 1, 1),
    Linear(2, 3, 5),
    Linear(5, 31, 15),
    Linear(6, 32, 16),
    Linear(7, 33, 17),
    Linear(16, 34, 64),
    Linear(17, 63, 65),
    Linear(33, 100, 70),
    Linear(97, 40, 129),
    Linear(9, 290, 150),
    Linear(3, 0, 4),
    Linear(0, 5, 4),
    Linear(4, 5, 0),
]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(request.param):
        yield request.param


def arrays(case: Linear, make: Any, rng: Rng) -> tuple[Array, Array, Array, Array]:
    """dy, x, weight, bias"""
    shapes = [(case.n, case.outputs), (case.n, case.inputs), (case.outputs, case.inputs), (case.outputs,)]
    dy, x, weight, bias = (make(rng, shape) for shape in shapes)
    return dy, x, weight, bias


@pytest.mark.usefixtures("unit", "threads")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case: Linear, rng: Rng, guarded: Guarded) -> None:
    """Of integers that bfloat16 has, every partial sum is exact; so the results are those of float32."""
    dy, x, weight, bias = arrays(case, lambda rng, shape: integers(rng, shape, 256), rng)
    assert all((twin.rounded(array) == array).all() for array in (dy, x, weight))
    y = bf16.linear_forward(x, weight, bias, out=guarded.output((case.n, case.outputs)))
    expect_equal(y, reference.linear_forward(x, weight, bias))
    expect_equal(bf16.linear_forward(x, weight), reference.linear_forward(x, weight))
    out = tuple(guarded.output(array.shape) for array in (x, weight, bias))
    gradients = bf16.linear_backward(dy, x, weight, out=out)
    expect_equal(gradients, reference.linear_backward(dy, x, weight))
    if case.n * case.outputs * case.inputs:
        expect_meaningful(y, *gradients)
    assert bf16.linear_backward(dy, x, weight, need_dx=False)[0] is None


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bounded(case: Linear, rng: Rng) -> None:
    """A sum of k products in float32, plus what is flushed: less than 2^-126 in each of k steps. Its factors are rounded."""
    dy, x, weight, bias = arrays(case, normals, rng)
    wide = [array.astype(np.float64) for array in (dy, x, weight, bias)]
    sizes = [np.abs(twin.rounded(array)) for array in wide[:3]]
    y = bf16.linear_forward(x, weight, bias)
    magnitudes = reference.linear_forward(sizes[1], sizes[2], np.abs(wide[3]))
    expect_within(y, twin.linear_forward(wide[1], wide[2], wide[3]), _bound(case.inputs, magnitudes))
    found, exact = bf16.linear_backward(dy, x, weight), twin.linear_backward(*wide[:3])
    dx, dweight, _ = reference.linear_backward(*sizes)
    dbias = np.abs(wide[0]).sum(axis=0)
    for depth, array, expected, magnitude in zip(
        (case.outputs, case.n, case.n), found, exact, (dx, dweight, dbias), strict=True
    ):
        assert array is not None and expected is not None and magnitude is not None
        expect_within(array, expected, _bound(depth, magnitude))


def _bound(depth: int, magnitudes: Array) -> Array:
    return gamma(depth + 3) * magnitudes + 2 * (depth + 3) * 2.0**-126


@pytest.mark.usefixtures("unit")
def test_factors_are_rounded(rng: Rng) -> None:
    """To 8 bits, and biases are not: 1 + 2^-8 is 1 as a factor."""
    more = np.float32([[1 + 2**-8]])
    one = np.ones((1, 1), np.float32)
    for x, weight in ((more, one), (one, more), (more, more)):
        assert bf16.linear_forward(x, weight, np.float32([2**-20])) == np.float32(1 + 2**-20)
        assert bf16.linear_forward(x, weight, more[0]) == np.float32(2 + 2**-8)
    dx, dweight, dbias = bf16.linear_backward(more, more, more)
    assert dx is not None and (dx.item(), dweight.item(), dbias.item()) == (1, 1, 1 + 2**-8)


@pytest.mark.parametrize("density", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("scale", [1.0, 2.0**-70])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hardware_has_the_bits_of_its_emulation(case: Linear, scale: float, density: float, rng: Rng) -> None:
    """Also where pairs of zeros are left out, and where small products are flushed to zeros of either sign."""
    dy, x, weight, bias = (np.float32(scale) * array for array in arrays(case, normals, rng))
    x, dy = (array * (rng.random(array.shape) < density).astype(np.float32) for array in (x, dy))
    for name in HARDWARE or ["vdpbf16ps-emulated"]:
        results = []
        for unit in (name, name.removesuffix("-emulated") + "-emulated"):
            with using(unit):
                results.append((bf16.linear_forward(x, weight, bias), *bf16.linear_backward(dy, x, weight)))
        expect_same_bits(*results)


@pytest.mark.usefixtures("unit")
def test_same_bits_for_any_threads_and_batch(threads: int, rng: Rng) -> None:
    dy, x, weight, bias = arrays(Linear(130, 70, 90), normals, rng)
    together = bf16.linear_forward(x, weight, bias)
    packed = bf16.Packed(weight)
    for first, count in ((0, 1), (7, 1), (3, 5), (129, 1), (96, 34)):
        part = slice(first, first + count)
        for given in (weight, packed, ops.Packed(weight)):
            expect_same_bits(bf16.linear_forward(x[part], given, bias), together[part])
        expect_same_bits(bf16.linear_backward(dy[part], x[part], weight)[0], bf16.linear_backward(dy, x, weight)[0][part])
    gradients = bf16.linear_backward(dy, x, weight)
    set_num_threads(1)
    expect_same_bits((bf16.linear_forward(x, weight, bias), *bf16.linear_backward(dy, x, weight)), (together, *gradients))


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_infinity_and_nan_reach_their_sums_alone(odd: float, density: float, rng: Rng) -> None:
    """All of them: zero times infinity is NaN, also where the zeros of x would be left out."""
    _, x, weight, bias = arrays(Linear(20, 50, 70), normals, rng)
    x *= rng.random(x.shape) < density
    clean = bf16.linear_forward(x, weight, bias)
    weight[33, 7] = odd
    y = bf16.linear_forward(x, weight, bias)
    assert not np.isfinite(y[:, 33]).any()
    np.testing.assert_array_equal(np.delete(y, 33, axis=1), np.delete(clean, 33, axis=1))


@pytest.mark.usefixtures("unit")
def test_captured(rng: Rng) -> None:
    _, x, weight, bias = arrays(Linear(9, 20, 30), normals, rng)
    y = np.empty((9, 30), np.float32)
    graph = ops.Graph(lambda x: bf16.linear_forward(x, weight, bias, out=y), x)
    assert graph.reason is None
    x[...] = normals(rng, x.shape)
    graph.launch()
    expect_same_bits(y, bf16.linear_forward(x, weight, bias))


@pytest.mark.usefixtures("unit")
def test_arguments_are_checked_as_in_float32(rng: Rng) -> None:
    dy, x, weight, bias = arrays(Linear(3, 4, 5), normals, rng)
    for wrong in (
        lambda module: module.linear_forward(x[:, :3], weight, bias),
        lambda module: module.linear_forward(x, weight, bias[:4]),
        lambda module: module.linear_forward(x.astype(np.float64), weight, bias),
        lambda module: module.linear_forward(x, weight, bias, out=np.empty((3, 4), np.float32)),
        lambda module: module.linear_forward(x, weight, bias, out=x[:, :5]),
        lambda module: module.linear_backward(dy[:2], x, weight),
        lambda module: module.linear_backward(dy, x, weight, out=(x, weight, bias)),
        lambda module: module.linear_backward(dy, x, weight, out=(None, None)),
        lambda module: module.Packed(weight, "fast"),
    ):
        with pytest.raises((TypeError, ValueError)) as expected:
            wrong(ops)
        with pytest.raises(type(expected.value)) as found:
            wrong(bf16)
        assert str(found.value) == str(expected.value)
    strided = np.asfortranarray(x)
    expect_same_bits(bf16.linear_forward(strided, weight, bias), bf16.linear_forward(x, weight, bias))


@pytest.fixture
def tiles() -> Iterator[None]:
    """Tiles, of the CPU if it has them; no losses are left behind."""
    with using(next(name for name in UNITS if name.startswith("tdpbf16ps"))):
        yield
        _core.plant_losses(0, 0)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("every", "times"), [(1, 1), (2, 3), (1, 9), (3, 10), (1, 1000)])
def test_a_block_whose_tiles_are_lost_is_computed_again(every: int, times: int, rng: Rng) -> None:
    """With the same bits; and after ten losses in a row by the emulation, which has the same bits too."""
    dy, x, weight, bias = arrays(Linear(70, 100, 90), normals, rng)
    expected = (bf16.linear_forward(x, weight, bias), *bf16.linear_backward(dy, x, weight))
    before = _core.tile_repeats()
    _core.plant_losses(every, times)
    found = (bf16.linear_forward(x, weight, bias), *bf16.linear_backward(dy, x, weight))
    expect_same_bits(found, expected)
    # Blocks of 32 rows and columns, in tasks of 96 rows and 128 columns. y has 3 x 3 blocks, dweight and dx 3 x 4, each in one
    # task, in which every `every`-th block is lost.
    lost = sum(-(-blocks // every) for blocks in (9, 12, 12))
    assert _core.tile_repeats() - before == lost * min(times, 10)
