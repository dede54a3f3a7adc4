"""Digits on pages in ten styles are read; a picture without one says what is wrong with it."""

from __future__ import annotations

import string

import numpy as np
import pytest
from PIL import ImageFont

import fastlenet
from fastlenet import LeNet, predict_image, predict_page
from fastlenet.data import Dataset, load_mnist
from fastlenet.images.detector import how_likely_a_digit
from fastlenet.training.evaluation import evaluate
from helpers.pages import ALIKE, STYLES, Page, draw_blank, draw_letter, draw_lines, draw_page, draw_row, stroke


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_mnist()


@pytest.fixture(scope="module")
def model() -> LeNet:
    return LeNet.pretrained()


def right(model: LeNet, data: Dataset, style: str, count: int) -> int:
    """How many of the first test digits are read rightly from pages."""
    pages = (draw_page(data.test_images[index], style, index) for index in range(count))
    return sum(predict_image(model, page).label == label for page, label in zip(pages, data.test_labels[:count], strict=True))


@pytest.mark.parametrize("style", STYLES)
def test_a_few_digits_in_each_style(model: LeNet, mnist: Dataset, style: str) -> None:
    assert right(model, mnist, style, 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_many_digits_in_each_style(model: LeNet, mnist: Dataset, style: str) -> None:
    assert right(model, mnist, style, 250) >= 0.97 * 250


def test_the_weights_of_the_package(model: LeNet, mnist: Dataset) -> None:
    """Two images of 10,000 may change with the order of sums, which the CPU's level decides."""
    assert evaluate(model, mnist)[0] == pytest.approx(0.9962, abs=0.00021)


def test_images_of_mnist_stay_what_they_are(model: LeNet, mnist: Dataset) -> None:
    seen = [predict_image(model, image) for image in mnist.test_images[:40]]
    assert sum(one.label == label for one, label in zip(seen, mnist.test_labels[:40], strict=True)) >= 39
    assert np.abs(np.stack([one.image for one in seen]).astype(float) - mnist.test_images[:40]).mean() < 10
    for one in seen:
        assert one.image.shape == (28, 28) and one.probability == one.probabilities.max()
        assert one.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_blank_pages(model: LeNet, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0.8, 0.1 * seed, (200, 160))
    for page in (np.full((60, 40, 3), 255 * (seed % 2)), np.clip(noise, 0, 1)):
        seen = predict_image(model, page)
        assert seen.label is None and seen.probability == 0 and seen.warnings[0].startswith("blank: ")
        assert predict_page(model, page).number == ""


@pytest.mark.parametrize("seed", [2, 6, 7, 15])
def test_the_edge_of_a_shadow_is_no_digit(model: LeNet, seed: int) -> None:
    """On a page with nothing on it, it is the strongest there is."""
    assert doubted(model, draw_blank("uneven light", seed))


@pytest.mark.parametrize("index", [15, 17, 58, 136])
def test_digits_that_fill_the_picture(model: LeNet, mnist: Dataset, index: int) -> None:
    """A surface of second degree, taken for the light on the paper, went through their ink."""
    ink = np.pad(stroke(mnist.test_images[2000 + index], Page(size=110)), 1)
    assert predict_image(model, 1 - 0.85 * ink).label == mnist.test_labels[2000 + index]


def test_what_the_border_cuts_off_is_uncertain(model: LeNet, mnist: Dataset) -> None:
    """But not what is cropped tightly."""
    page = draw_page(mnist.test_images[0], "size", 0)
    top, left, bottom, right = predict_image(model, page).box or ()
    assert not doubted(model, page) and not doubted(model, page[top:bottom, left:right])
    cut = predict_image(model, page[: (top + bottom) // 2])
    assert any(warning.startswith(("uncertain: the border", "no digit: ")) for warning in cut.warnings)


def doubted(model: LeNet, page: np.ndarray) -> bool:
    return bool(predict_image(model, page).warnings)


def test_letters(model: LeNet) -> None:
    """In Pillow's own font, which the detector was not trained on."""
    font, styles = ImageFont.load_default(150), list(STYLES)
    letters = "AFHKMRX"
    sure = [x for seed, x in enumerate(letters) if not doubted(model, draw_letter(x, font, styles[seed], seed))]
    assert not sure


@pytest.mark.slow
def test_few_digits_and_most_letters_are_doubted(model: LeNet, mnist: Dataset) -> None:
    font = ImageFont.load_default(150)
    letters = [letter for letter in string.ascii_letters if letter not in ALIKE]
    sure = sum(not doubted(model, draw_letter(x, font, style, 7)) for x in letters for style in STYLES)
    assert sure <= 0.05 * len(letters) * len(STYLES)
    digits = [draw_page(mnist.test_images[index], style, index) for index in range(100) for style in STYLES]
    assert sum(doubted(model, page) for page in digits) <= 0.04 * len(digits)


@pytest.mark.parametrize("kind", ["squared", "hatched", "scribbles", "text"])
def test_pages_of_lines(model: LeNet, kind: str) -> None:
    assert doubted(model, draw_lines(kind, 0))


def test_digits_are_told_from_other_shapes(mnist: Dataset) -> None:
    assert (how_likely_a_digit(mnist.test_images[:1000]) >= 0.3).mean() > 0.98
    upside_down = mnist.test_images[:1000][np.isin(mnist.test_labels[:1000], (3, 4, 7))][:, ::-1]
    assert np.median(how_likely_a_digit(np.ascontiguousarray(upside_down))) < 0.3


def test_ruled_paper(model: LeNet) -> None:
    seen = predict_image(model, draw_lines("ruled", 0))
    assert seen.label is None and seen.warnings[0].startswith("no digit: ")


def test_a_number_on_a_page(model: LeNet, mnist: Dataset) -> None:
    page = draw_row(mnist.test_images[:5], "uneven light", 1)
    assert predict_page(model, page).number == "72104"
    seen = predict_image(model, page)
    assert seen.warnings[0].startswith("several shapes: 5 ") and seen.label in (7, 2, 1, 0, 4)


def test_a_model_that_knows_nothing_is_uncertain(mnist: Dataset) -> None:
    (warning,) = predict_image(LeNet(seed=1), draw_page(mnist.test_images[0], "size", 0)).warnings
    assert warning.startswith("uncertain: ")


def test_shifts_are_averaged(model: LeNet, mnist: Dataset) -> None:
    page = draw_page(mnist.test_images[4], "size", 0)
    plain, shifted = (predict_image(model, page, tta=tta) for tta in (False, True))
    np.testing.assert_array_equal(shifted.image, plain.image)
    np.testing.assert_allclose(shifted.probabilities, model.predict_proba(plain.image, tta=True), atol=1e-12)
    assert np.abs(shifted.probabilities - plain.probabilities).max() > 1e-4
    np.testing.assert_array_equal(predict_page(model, page, tta=True).digits[0].probabilities, shifted.probabilities)


def test_wrong_models() -> None:
    with pytest.raises(TypeError, match="model expects a Sequential such as LeNet, got str"):
        predict_image("model", np.zeros((28, 28)))  # type: ignore[arg-type]
    assert fastlenet.predict_image is predict_image
