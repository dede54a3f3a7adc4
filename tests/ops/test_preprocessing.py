"""Preprocessing: one width, upright digits; the views against a plain twin, and what gathering makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import Augmentation, reference
from fastlenet.preprocessing import Preprocessing
from helpers.arrays import Array
from helpers.backends import ops
from helpers.expect import expect_same_bits

Rng = np.random.Generator

BOTH = Preprocessing(width=14, deskew=True)
KINDS = [Preprocessing(width=10), Preprocessing(width=20), Preprocessing(deskew=True), BOTH]
SHAPES = [(28, 28), (1, 40), (40, 1), (9, 33), (3, 16, 20), (1, 1)]


def view_of(image: Array, kind: Preprocessing) -> Array:
    """The docstring of fastlenet.preprocessing, pixel by pixel, for one image (h, w) or (c, h, w)."""
    ink = image.astype(np.float64) if image.ndim == 2 else image.astype(np.float64).sum(axis=0)
    h, w = ink.shape
    slope = row0 = 0.0
    total = ink.sum()
    if kind.deskew and total > 0:
        row0 = sum(r * ink[r, c] for r in range(h) for c in range(w)) / total
        column0 = sum(c * ink[r, c] for r in range(h) for c in range(w)) / total
        m11 = sum(ink[r, c] * (r - row0) * (c - column0) for r in range(h) for c in range(w))
        m02 = sum(ink[r, c] * (r - row0) ** 2 for r in range(h) for c in range(w))
        slope = min(max(m11 / m02, -1), 1) if m02 > 1e-9 * total else 0.0
    level = 0.25 * ink.max()
    edges = []
    for r in range(h):
        bright = [c for c in range(w) if ink[r, c] > level]
        for c, step in [(bright[0], -1), (bright[-1], 1)] if bright else []:
            beyond = ink[r, c + step] if 0 <= c + step < w else 0.0
            edges.append(c + step * (ink[r, c] - level) / (ink[r, c] - beyond) - slope * (r - row0))
    scale, offset = 1.0, -slope * row0
    if kind.width and edges:
        wide = kind.width * min(h, w) / 28
        scale, centre = (max(edges) - min(edges)) / wide, (max(edges) + min(edges)) / 2
        placed = min(max(centre, (wide - 1) / 2), w - (wide + 1) / 2)
        offset = centre - scale * placed - slope * row0
    return np.array([[1, 0, 0], [slope, scale, offset]])


def seen(images: Array, kind: Preprocessing) -> Array:
    """The preprocessed images, float64 in 0..255, by the kernels."""
    x = ops.gather_images(images, np.arange(len(images)), mean=0.0, std=1 / 255, transform=kind.views(images))
    return x.astype(np.float64)


def width_of(image: Array) -> int:
    columns = np.flatnonzero((image > 0.25 * image.max()).any(axis=0))
    return int(columns[-1] - columns[0] + 1)


def stroke(slant: float, thick: int = 2, h: int = 28, w: int = 28) -> Array:
    """A straight line from top to bottom, slant columns to the right for each row upwards, drawn without rounding."""
    rows, columns = np.mgrid[:h, :w]
    middle = (w - 1) / 2 - slant * (rows - (h - 1) / 2)
    inside = np.clip(thick / 2 + 0.5 - np.abs(columns - middle), 0, 1) * ((rows >= h // 6) & (rows < h - h // 6))
    return np.rint(255 * inside).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("floats", [False, True])
def test_views_are_those_of_the_definition(kind: Preprocessing, shape: tuple[int, ...], floats: bool, rng: Rng) -> None:
    images: Array = (rng.integers(0, 256, (7, *shape)) * (rng.random((7, *shape)) < 0.3)).astype(np.uint8)
    images[0] = 0
    if floats:
        images = (images / 255).astype(np.float32)
    expected = np.stack([view_of(image, kind) for image in images])
    np.testing.assert_allclose(kind.views(images), expected, rtol=1e-5, atol=1e-5)


def test_views_do_not_depend_on_the_other_images(rng: Rng) -> None:
    images = rng.integers(0, 256, (700, 28, 28), dtype=np.uint8)  # more than a piece
    views = BOTH.views(images)
    for i in (0, 333, 334, 699):
        expect_same_bits(BOTH.views(images[i : i + 1])[0], views[i])


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("width", [10, 14, 20])
@pytest.mark.parametrize("deskew", [False, True])
def test_widths_come_out_as_asked(width: int, deskew: bool) -> None:
    """From thin strokes and broad blocks, in the middle and at the borders; the whole digit stays inside the image."""
    images = np.zeros((5, 28, 28), np.uint8)
    images[0] = stroke(0.3)
    images[1, 4:24, 0:3] = 255
    images[2, 4:24, 25:28] = 200
    images[3, 2:26, 1:27] = 90
    images[4, 5:20, 9:12] = images[4, 18:20, 9:19] = 255
    for image in seen(images, Preprocessing(width, deskew))[:, 0]:
        assert abs(width_of(image) - width) <= 1


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("h", "w"), [(56, 56), (14, 40), (40, 21)])
def test_widths_of_other_sizes_are_in_proportion(h: int, w: int) -> None:
    images = np.zeros((1, 2, h, w), np.uint8)
    images[:, 1, h // 4 : -h // 4, w // 3 : w // 3 + 4] = 255
    x = seen(images, Preprocessing(width=14))[0]
    assert abs(width_of(x[1]) - 14 * min(h, w) / 28) <= 1
    assert not x[0].any()  # a black channel


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("slant", [-0.6, -0.2, 0.35, 0.7])
def test_a_slanted_digit_becomes_upright(slant: float) -> None:
    before = stroke(slant)
    after = seen(before[None], Preprocessing(deskew=True))[0, 0]
    rows = np.flatnonzero(before.any(axis=1))
    centres = (after[rows] @ np.arange(28)) / after[rows].sum(axis=1)
    assert np.ptp(centres) < 0.1
    assert np.array_equal(np.flatnonzero(after.any(axis=1)), rows)  # the height stays
    slopes = Preprocessing(deskew=True).views(before[None])[0, 1, 0]
    assert slopes == pytest.approx(-slant, abs=0.02)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_images_without_a_slant_or_a_width(kind: Preprocessing) -> None:
    """No image divides by zero: none at all, black, one pixel, one column, one row, white, no pixels, not finite."""
    images = np.zeros((6, 28, 28), np.uint8)
    images[1, 13, 5] = 255
    images[2, :, 27] = 255
    images[3, 27, :] = 1
    images[4] = 255
    with np.errstate(all="raise"):
        views = kind.views(images)
        assert kind.views(images[:0]).shape == (0, 2, 3)
        assert kind.views(np.zeros((3, 0, 5), np.uint8)).shape == (3, 2, 3)
        odd = kind.views(np.full((1, 4, 4), np.nan, np.float32))
    assert np.isfinite(views).all()
    identity = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    expect_same_bits(views[0], identity)
    expect_same_bits(odd[0], identity)
    if kind.width:
        assert [width_of(x) for x in seen(images[1:5], kind)[:, 0]] == pytest.approx([kind.width] * 4, abs=1)


def test_nothing_is_the_identity(rng: Rng) -> None:
    images = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    nothing = Preprocessing()
    assert not nothing
    assert nothing.kept_views(images) is None
    expect_same_bits(nothing.views(images), np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (3, 1, 1)))


def test_views_are_kept_as_long_as_the_images(rng: Rng) -> None:
    images = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    first = BOTH.kept_views(images)
    assert first is not None
    assert BOTH.kept_views(images) is first
    assert Preprocessing(width=10).kept_views(images) is not first
    other = images.copy()
    del images
    again = BOTH.kept_views(other)
    assert again is not None
    expect_same_bits(again, first)


@pytest.mark.usefixtures("backend", "threads")
@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(shift=2, cutout=5)], ids=str)
def test_views_that_move_nothing_change_no_value(augmentation: Augmentation, rng: Rng) -> None:
    images, index = rng.integers(0, 256, (20, 28, 27), dtype=np.uint8), rng.integers(0, 20, 33)
    identity = Preprocessing().views(images)
    x, plain = (
        ops.gather_images(images, index, mean=0.0, std=1 / 255, transform=augmentation.at(3, 4, views))
        for views in (identity, None)
    )
    assert np.array_equal(x, plain)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(shift=3, rotation=12, elastic=20, cutout=5)], ids=str)
def test_distorting_the_preprocessed_image_is_one_map(augmentation: Augmentation, rng: Rng) -> None:
    """Against sampling twice, of images that are linear in row and column, where two samples are one."""
    rows, columns = np.mgrid[:60, :60]
    image = (rows / 200 + columns / 120).astype(np.float32)[None]
    view = np.array([[[1, 0, 0], [0.2, 1.3, -12]]], np.float32)
    made = ops.gather_images(image, [0], mean=0.0, std=1.0, transform=view)[:, 0]
    inner = (slice(15, 45), slice(20, 40))
    once, twice = (
        reference.gather_images(source, [0], mean=0.0, std=1.0, transform=augmentation.at(1, 2, views))[0, 0]
        for source, views in ((image, view), (made, None))
    )
    np.testing.assert_allclose(once[inner], twice[inner], atol=1e-5)
    np.testing.assert_allclose(
        ops.gather_images(image, [0], mean=0.0, std=1.0, transform=augmentation.at(1, 2, view))[0, 0], once, atol=1e-4
    )


@pytest.mark.usefixtures("backend")
def test_wrong_views_are_refused(rng: Rng) -> None:
    images: Any = rng.integers(0, 256, (4, 5, 5), dtype=np.uint8)
    wrong = np.zeros((3, 2, 3), np.float32)
    for module in (ops, reference):
        with pytest.raises(ValueError, match=r"^gather_images: views expects shape \(4, 2, 3\), got \(3, 2, 3\)"):
            module.gather_images(images, [0], mean=0.0, std=1.0, transform=Augmentation().at(0, 0, wrong))


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("width", 9, "Preprocessing: width expects 0, or pixels in 10..20, got 9"),
        ("width", 21, "Preprocessing: width expects 0, or pixels in 10..20, got 21"),
        ("width", -1, "Preprocessing: width expects 0, or pixels in 10..20, got -1"),
        ("width", True, "Preprocessing: width expects an integer, got True"),
        ("width", 12.5, "Preprocessing: width expects an integer, got 12.5"),
        ("deskew", 1, "Preprocessing: deskew expects True or False, got 1"),
    ],
)
def test_wrong_fields_are_refused(field: str, value: object, error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Preprocessing(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value) == error


@pytest.mark.parametrize("images", [[[1]], np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), "U1")], ids=["list", "rank", "type"])
def test_wrong_images_are_refused(images: Any) -> None:
    expected = "^Preprocessing.views: images expects an array of images"
    with pytest.raises((TypeError, ValueError), match=expected):
        BOTH.views(images)
