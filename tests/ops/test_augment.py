"""Augmentation: kernels against the definition in NumPy, the same bits wherever an image stands, what the numbers mean."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastlenet import Augmentation, reference
from fastlenet.augment import Transform
from fastlenet.testing.gather import sampling_bound
from helpers.arrays import Array, Guarded
from helpers.backends import ops
from helpers.expect import expect_equal, expect_same_bits, expect_within

Rng = np.random.Generator

NORMAL: dict[str, float] = {"mean": 0.1307, "std": 0.3081}
SHAPES = [(28, 28), (28, 27), (5, 3), (1, 1), (17, 40), (35, 16)]
AFFINE = Augmentation(shift=2, rotation=15, scale=0.15, shear=0.2)
SIMARD = Augmentation(elastic=34, elastic_sigma=4)
ALL = replace(AFFINE, elastic=20, elastic_sigma=3, cutout=6)


def pictures(rng: Rng, shape: tuple[int, int], count: int = 20) -> Array:
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def both(images: Array, index: Any, transform: Transform, **options: Any) -> tuple[Array, Array]:
    arguments: dict[str, Any] = {**NORMAL, "transform": transform}
    return ops.gather_images(images, index, **arguments, **options), reference.gather_images(images, index, **arguments)


# --- the kernels against the definition -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend", "threads")
@pytest.mark.parametrize("n", [0, 19])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_shifts_and_holes_are_exact(shape: tuple[int, int], n: int, rng: Rng, guarded: Guarded) -> None:
    """No position is rounded, so that the table's numbers come out; past the edge too, and at the largest seed and epoch."""
    images, index = pictures(rng, shape), rng.integers(0, 20, n)
    for augmentation in (Augmentation(shift=2, cutout=9), Augmentation(shift=40, cutout=4)):
        actual, expected = both(images, index, augmentation.at(2**64 - 1, 2**32 - 1), out=guarded.output((n, 1, *shape)))
        expect_equal(actual, expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("w", [1, 2, 6, 14, 30, 62])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_past_the_lower_right_corner_are_zeros(dtype: type[np.generic], w: int) -> None:
    """And not what an op before it has left in the scratch memory: w + 2 fills whole vectors at one level or another."""
    nan = np.full((40, 17, 6, 7), np.nan, np.float32)
    ops.conv2d_relu_max_pool2d_forward(nan, np.ones((18, 17, 3, 3), np.float32))
    images = np.ones((3, 5, w), dtype)
    matrices = np.tile(np.array([[1, 0, 7], [0, 1, w + 2]], np.float32), (3, 1, 1))
    x = ops.gather_images(images, np.arange(3), mean=0, std=1, transform=matrices)
    expect_equal(x, np.zeros((3, 1, 5, w), np.float32))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(rotation=180),
        Augmentation(scale=0.9, shear=1),
        AFFINE,
        SIMARD,
        replace(SIMARD, elastic_sigma=0.01, cutout=5),
        replace(SIMARD, elastic=2000, elastic_sigma=900),
        ALL,
    ],
    ids=str,
)
def test_samples(augmentation: Augmentation, shape: tuple[int, int], rng: Rng, guarded: Guarded) -> None:
    images, index = pictures(rng, shape), rng.integers(0, 20, 6)
    transform = augmentation.at(3, 4)
    actual, expected = both(images, index, transform, out=guarded.output((6, 1, *shape)))
    bound = np.stack([sampling_bound(transform, int(number), *shape, **NORMAL)[None] for number in index])
    expect_within(actual, expected.astype(np.float64), bound)
    if min(shape) > 3:
        assert np.ptp(expected) > 1, "an even picture proves nothing"


@pytest.mark.usefixtures("backend")
def test_places_without_an_image(rng: Rng) -> None:
    """NaN, infinities and what lies far outside are black, in matrices that the caller made."""
    images = pictures(rng, (9, 20), 1)
    for wrong in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e6, -20.0, 20.0):
        for entry in (2, 5):
            transform = np.float32([[1, 0, 0], [0, 1, 0]])
            transform.flat[entry] = wrong
            x, expected = both(images, [0], transform[None])
            black = np.float32(-NORMAL["mean"] / NORMAL["std"])
            assert (x == black).all() and (expected == black).all()


# --- the same bits --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("augmentation", [Augmentation(shift=2, cutout=5), AFFINE, SIMARD, ALL], ids=str)
def test_an_image_wherever_it_stands(augmentation: Augmentation, rng: Rng) -> None:
    """Alone, in a batch, twice in it, in another order: its number decides."""
    images = pictures(rng, (28, 28), 50)
    index = rng.integers(0, 50, 70)
    options: dict[str, Any] = {**NORMAL, "transform": augmentation.at(1, 2)}
    x = ops.gather_images(images, index, **options)
    expect_same_bits(ops.gather_images(images, index[::-1], **options), x[::-1])
    for i in range(0, 70, 9):
        expect_same_bits(ops.gather_images(images, [index[i]], **options), x[i : i + 1])


@pytest.mark.usefixtures("backend")
def test_nothing_to_do(rng: Rng) -> None:
    images, index = pictures(rng, (28, 28)), rng.integers(0, 20, 30)
    nothing = Augmentation(elastic_sigma=7)
    assert not nothing and not Augmentation()
    plain = ops.gather_images(images, index, **NORMAL)
    expect_same_bits(ops.gather_images(images, index, **NORMAL, transform=nothing.at(1, 2)), plain)
    for one in ({"shift": 1}, {"rotation": 1}, {"scale": 0.1}, {"shear": 0.1}, {"elastic": 1}, {"cutout": 1}):
        assert Augmentation(**one)


@pytest.mark.usefixtures("device_kind")
def test_each_its_own(rng: Rng) -> None:
    """Another seed, epoch or image is another distortion; seeds count modulo 2^64."""
    images = np.tile(pictures(rng, (28, 28), 1), (3, 1, 1))

    def distorted(seed: int, epoch: int) -> Array:
        return ops.gather_images(images, [0, 1, 2], **NORMAL, transform=ALL.at(seed, epoch))

    batches = [distorted(seed, epoch) for seed, epoch in ((0, 0), (1, 0), (2**32, 0), (0, 1), (0, 2**31))]
    assert len({image.tobytes() for batch in batches for image in batch}) == 15
    expect_same_bits(distorted(2**64, 0), batches[0])


# --- what the numbers mean ------------------------------------------------------------------------------------------------


def centroid(image: Array) -> Array:
    """Its centre of mass, (row, column), above black."""
    weight = image - image.min()
    rows, columns = np.indices(weight.shape)
    return np.array([(weight * rows).sum(), (weight * columns).sum()]) / weight.sum()


@pytest.mark.parametrize("number", range(6))
def test_directions(number: int) -> None:
    """Of a spot right of and below the centre, by the kernels: whatever the twins agree on, this is what the words say."""
    images = np.zeros((6, 29, 29), np.uint8)
    images[:, 13:16, 19:22] = 255  # right
    below = np.zeros_like(images)
    below[:, 19:22, 13:16] = 255

    def moved(augmentation: Augmentation, images: Array) -> tuple[Transform, Array]:
        transform = augmentation.at(5, 6)
        before, after = (ops.gather_images(images, [number], **NORMAL, transform=t)[0, 0] for t in (None, transform))
        return transform, centroid(after.astype(np.float64)) - centroid(before.astype(np.float64))

    transform, move = moved(Augmentation(shift=3), images)
    np.testing.assert_allclose(move, transform.shift(number), atol=1e-9)
    transform, move = moved(Augmentation(rotation=60), images)
    counter_clockwise = math.asin(transform.affine(number)[0, 1])
    assert move[0] * counter_clockwise < 0 and move[1] < 0  # a positive angle moves it up
    transform, move = moved(Augmentation(scale=0.4), images)
    assert move[1] * (1 / transform.affine(number)[1, 1] - 1) > 0  # a wider image moves it right
    transform, move = moved(Augmentation(shear=0.8), below)
    assert move[1] * -transform.affine(number)[1, 0] > 0  # a positive slant moves what is below to the right


def expect_uniform(values: Array, most: float) -> None:
    """In +-most, past 99 % of it on both sides, with mean and variance within 5 standard errors of a uniform variable's."""
    count = len(values)
    assert -most <= values.min() < -0.99 * most and 0.99 * most < values.max() <= most
    assert abs(values.mean()) < 5 * most / math.sqrt(3 * count)
    # The square has mean most^2 / 3 and variance most^4 * (1/5 - 1/9).
    assert abs((values**2).mean() - most**2 / 3) < 5 * most**2 * math.sqrt(4 / 45 / count)


def test_spread_of_affine_maps() -> None:
    numbers = range(1500)
    maps = np.stack([Augmentation(rotation=20).at(0, 0).affine(i) for i in numbers])
    np.testing.assert_allclose(np.linalg.det(maps), 1)
    expect_uniform(np.degrees(np.arcsin(maps[:, 0, 1])), 20)
    maps = np.stack([Augmentation(scale=0.2).at(0, 0).affine(i) for i in numbers])
    tall, wide = 1 / maps[:, 0, 0] - 1, 1 / maps[:, 1, 1] - 1
    expect_uniform(tall, 0.2)
    expect_uniform(wide, 0.2)
    assert abs(np.corrcoef(tall, wide)[0, 1]) < 5 / math.sqrt(1500)
    maps = np.stack([Augmentation(shear=0.3).at(0, 0).affine(i) for i in numbers])
    expect_uniform(-maps[:, 1, 0], 0.3)


def test_spread_of_shifts_and_holes() -> None:
    """Each of 5 x 5 shifts as often as the others: the sum of squares is chi-square of 24 degrees, below 24 + 5 * sqrt(48)."""
    transform = Augmentation(shift=2, cutout=3).at(0, 0)
    shifts = np.array([transform.shift(i) for i in range(1400)]) + 2
    counts = np.bincount(shifts @ [5, 1], minlength=25)
    assert len(counts) == 25 and ((counts - 56) ** 2 / 56).sum() < 24 + 5 * math.sqrt(48)
    holes = [transform.hole(i, 4, 7) for i in range(1400)]
    centres = np.array([(rows.stop - 2, columns.stop - 2) for rows, columns in holes])
    counts = np.bincount(centres @ [7, 1], minlength=28)
    assert len(counts) == 28 and ((counts - 50) ** 2 / 50).sum() < 27 + 5 * math.sqrt(54)


def test_spread_of_displacements() -> None:
    """Far from the borders each has variance alpha^2 / 3 * (sum of squared taps)^2, about alpha / (sigma sqrt(12 pi)) squared.

    Of 400 nearly normal numbers the mean square errs by sqrt(2 / 400), 5 times as much at most.
    """
    fields = np.stack([SIMARD.at(0, 0).displacement(i, 41, 41)[:, 20, 20] for i in range(200)])
    expected = (34 / 4) ** 2 / (12 * math.pi)
    assert abs((fields**2).mean() / expected - 1) < 5 * math.sqrt(2 / 400)
    assert abs(fields.mean()) < 5 * math.sqrt(expected / 400)
    assert abs(np.corrcoef(fields.T)[0, 1]) < 5 / math.sqrt(200)


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shift": -1}, ValueError, r"Augmentation: shift expects pixels in 0\.\.32000, got -1"),
        ({"shift": 1.0}, TypeError, "Augmentation: shift expects an integer, got 1.0"),
        ({"cutout": True}, TypeError, "cutout expects an integer, got True"),
        ({"cutout": 10**6}, ValueError, r"cutout expects pixels in 0\.\.32000"),
        ({"rotation": -5}, ValueError, r"rotation expects degrees in \[0, 180\], got -5"),
        ({"rotation": "5"}, TypeError, "rotation expects a number, got '5'"),
        ({"rotation": math.nan}, ValueError, "rotation expects degrees"),
        ({"scale": 1.0}, ValueError, r"scale expects a number in \[0, 1\), got 1.0"),
        ({"shear": 1.5}, ValueError, r"shear expects a number in \[0, 1\]"),
        ({"elastic": math.inf}, ValueError, "elastic expects pixels"),
        ({"elastic_sigma": 1e-200}, ValueError, r"elastic_sigma expects pixels in \[0.001, 1000\], got 1e-200"),
    ],
)
def test_wrong_fields(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Augmentation(**options)


@pytest.mark.parametrize("epoch", [-1, 2**32])
def test_wrong_epoch(epoch: int) -> None:
    with pytest.raises(ValueError, match=r"Augmentation.at: epoch expects an integer in 0\.\.2\^32-1"):
        ALL.at(0, epoch)


def test_wrong_arguments() -> None:
    images, transform = np.zeros((5, 4, 4), np.uint8), ALL.at(0, 0)
    for module in (ops, reference):
        with pytest.raises(ValueError, match=r"gather_images: index expects values in 0\.\.4"):
            module.gather_images(images, [5], mean=0.0, std=1.0, transform=transform)
        with pytest.raises(ValueError, match="gather_images: std expects a positive number"):
            module.gather_images(images, [0], mean=0.0, std=0.0, transform=transform)
        with pytest.raises(ValueError, match="gather_images: transform expects shape"):
            module.gather_images(images, [0], mean=0.0, std=1.0, transform=np.zeros((2, 2, 3), np.float32))
    with pytest.raises(ValueError, match="images expects at most 32000 pixels a side for a transform"):
        ops.gather_images(np.zeros((1, 1, 32001), np.uint8), [0], mean=0.0, std=1.0, transform=transform)
    with pytest.raises(TypeError, match="transform expects a numpy array of float32, got Augmentation"):
        ops.gather_images(images, [0], mean=0.0, std=1.0, transform=ALL)
