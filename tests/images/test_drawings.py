"""Pictures that a program drew: the ink is exact, so the 28x28 pixels are the same bytes on every CPU."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastlenet import LeNet, predict_image
from fastlenet.images.ink import find_ink
from helpers.pages import draw_page

TWO = ((60, 90), (110, 40), (190, 45), (215, 105), (160, 175), (70, 250), (140, 235), (240, 245))


def drawing(width: int, side: int = 300) -> np.ndarray:
    """A 2 in black on white, with soft edges."""
    large = Image.new("L", (4 * side, 4 * side), 255)
    pen = ImageDraw.Draw(large)
    places = [(4 * x, 4 * y) for x, y in TWO]
    pen.line(places, 0, 4 * width, "curve")
    for x, y in places:
        pen.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), 0)
    return np.asarray(large.resize((side, side), Image.Resampling.BOX))


@pytest.mark.parametrize("width", [3, 12, 24, 40])
def test_ink_on_even_paper_is_exact(width: int) -> None:
    """On estimated light, a wide stroke was taken for paper in part."""
    page = drawing(width)
    density = find_ink(page[:, :, None].astype(np.float32) / 255).density
    assert (density[page == 255] == 0).all()
    assert len(np.unique(density[page == 0])) == 1 and density[page == 0][0] == density.max()


def test_the_same_drawing_in_any_channels_gives_the_same_bytes() -> None:
    page, model = drawing(20), LeNet.pretrained()
    expected = predict_image(model, page)
    assert expected.label == 2
    rgba = np.dstack([page] * 3 + [np.full_like(page, 255)])
    for same in (rgba[:, :, :3], rgba, Image.fromarray(page), Image.fromarray(rgba)):
        np.testing.assert_array_equal(predict_image(model, same).image, expected.image)


def test_a_photograph_is_not_taken_for_a_drawing() -> None:
    """Its paper has many values, which are estimated: the light on it is uneven."""
    page = draw_page(drawing(20)[10:290:10, 10:290:10] ^ 255, "uneven light", 0)
    ink = find_ink(page.astype(np.float32) / 255)
    assert len(np.unique(ink.density)) > 1000
