"""Makes python/fastlenet/images/detector.safetensors: trains the small network that tells digits from other shapes.

    python tools/detector.py                     trains and writes it; six minutes on two cores
    python tools/detector.py --look sheet.png    draws a sheet of the shapes that are no digits, and ends

Digits are the first 55,000 training images of MNIST, some of them drawn again with other pens, and the printed digits of
matplotlib's fonts. What is no digit are letters of three alphabets, signs, scribbles, boxes, grids, and two digits that touch.
Letters that look like digits (O and 0, I and 1, S and 5) are left out. The same seed gives the same weights at the same level,
if nothing changed that draws or frames the shapes. The package's file is older than a change of the framing's last digits; a
new one differs from it as with another seed (99.5 % of MNIST's test images are digits to it, 99.4 % to the file). If you
replace the file, measure anew what docs/predict.md states, by benchmarks/bench_pictures.py.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastlenet import RECIPES, fit
from fastlenet.data import Dataset, load_mnist
from fastlenet.data.mnist import MEAN_STD
from fastlenet.images.detector import WEIGHTS, build_detector
from fastlenet.images.framing import frame
from fastlenet.images.ink import Ink
from fastlenet.images.shapes import Shape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.pages import Page, glyph, stroke
from weights import save_bfloat16

Array = np.ndarray[Any, Any]
Random = np.random.Generator

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "cmr10", "cmb10", "cmmi10", "cmss10", "cmti10", "cmtt10"),
)
FAMILY_OF_ALL = "DejaVu"  # has the signs and the other alphabets
ALIKE = "OoIlSsZzqgb"
LETTERS = "".join(letter for letter in string.ascii_letters if letter not in ALIKE)
SIGNS = "?#&@%+*=<>~^$€§ΓΔΛΞΠΣΦΨΩαγεζηλμξπφψωЖИЛФЦЧШЩЭЮЯджя"
CHANGES: dict[str, Any] = {
    "epochs": 6,
    "shift": 1,
    "rotation": 8.0,
    "scale": 0.1,
    "shear": 0.1,
    "elastic": 10.0,
    "label_smoothing": 0.02,
}
VALIDATION = 5000  # the last training images of MNIST, which thresholds are chosen on


def framed(alpha: Array) -> Array:
    """A drawing, as ink of 0..1, as the network sees it: uint8 (28, 28)."""
    density = np.pad(alpha, 4).astype(np.float32)
    mask = density > 0.5
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    shape = Shape(int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return np.rint(frame(Ink(density, density, 1.0, True), shape) * 255).astype(np.uint8)


def drawn(image: Array, random: Random) -> Array:
    """A glyph or a digit, in white on black, drawn by some pen, slanted and turned a little."""
    pen = float(random.choice([0, 0, 0.03, 0.05, 0.07, 0.09, 0.12, 0.15]))
    slant, turn = float(random.uniform(-0.25, 0.3)), float(random.uniform(-12, 12))
    small = Image.fromarray(image)
    small.thumbnail((40, 40))
    return stroke(np.asarray(small), Page(size=80, pen=pen, slant=slant, turn=turn))


def letter(fonts: Sequence[Any], digits: Array, random: Random) -> Array:
    sign = random.random() < 0.4
    chosen = [font for font in fonts if font.getname()[0].startswith(FAMILY_OF_ALL)] if sign else fonts
    text = SIGNS if sign else LETTERS
    return drawn(glyph(text[random.integers(len(text))], chosen[random.integers(len(chosen))]), random)


def scribble(fonts: Sequence[Any], digits: Array, random: Random) -> Array:
    """A line with corners, or several lines, or a grid, or blots, or an outline."""
    canvas = Image.new("L", (120, 120))
    draw, width, kind = ImageDraw.Draw(canvas), int(random.integers(4, 16)), random.integers(5)
    if kind == 0:
        draw.line(points(random, int(random.integers(5, 10))), fill=255, width=width, joint="curve")
    elif kind == 1:
        for _ in range(random.integers(3, 8)):
            draw.line(points(random, 2), fill=255, width=width)
    elif kind == 2:
        lines = np.linspace(10, 110, random.integers(3, 8))
        for at in lines[random.random(len(lines)) < 0.9]:
            draw.line((at, 10, at, 110), fill=255, width=max(2, width // 2))
        for at in lines:
            draw.line((10, at, 110, at), fill=255, width=max(2, width // 2))
    elif kind == 3:
        for x, y in random.uniform(20, 80, (int(random.integers(1, 5)), 2)):
            round_or_not = draw.ellipse if random.random() < 0.5 else draw.rectangle
            round_or_not((x, y, x + random.uniform(15, 45), y + random.uniform(15, 45)), fill=255)
    elif random.random() < 0.5:
        draw.polygon(points(random, 3), outline=255, width=width)
    else:
        draw.rectangle((15, 15, random.uniform(55, 110), random.uniform(55, 110)), outline=255, width=width)
    return np.asarray(canvas, np.float32) / 255


def points(random: Random, count: int) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in random.uniform(10, 110, (count, 2))]


def two_digits(fonts: Sequence[Any], digits: Array, random: Random) -> Array:
    """Two digits that touch, or nearly."""
    pair = [digit[np.ix_(digit.any(1), digit.any(0))] for digit in digits[random.integers(len(digits), size=2)]]
    height = max(len(digit) for digit in pair)
    left, right = (np.pad(digit, ((height - len(digit), 0), (0, 0))) for digit in pair)
    both = np.zeros((height, left.shape[1] + right.shape[1] - int(random.integers(0, 3))), np.uint8)
    both[:, : left.shape[1]] = left
    both[:, -right.shape[1] :] = np.maximum(both[:, -right.shape[1] :], right)
    return drawn(both, random)


def digit(fonts: Sequence[Any], digits: Array, random: Random) -> Array:
    """A digit of MNIST drawn again, or a printed one."""
    if random.random() < 0.75:
        return drawn(digits[random.integers(len(digits))], random)
    return drawn(glyph(string.digits[random.integers(10)], fonts[random.integers(len(fonts))]), random)


Kind = Callable[[Sequence[Any], Array, Random], Array]


def shapes(kinds: Sequence[tuple[Kind, int]], fonts: Sequence[Any], digits: Array, random: Random) -> Array:
    """So many of each kind, as the network sees them."""
    return np.stack([framed(kind(fonts, digits, random)) for kind, count in kinds for _ in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--look", metavar="FILE", help="draw a sheet of shapes that are no digits, and end")
    look = parser.parse_args().look
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 150) for name in FONTS]
    mnist, random = load_mnist().hold_out(VALIDATION), np.random.default_rng(0)
    share = 20 if look else 1
    kinds = [(letter, 12000 // share), (scribble, 2400 // share), (two_digits, 1600 // share)]
    others = shapes(kinds, fonts, mnist.train_images, random)
    if look:
        rows = random.permutation(others)[:800].reshape(20, 40, 28, 28).transpose(0, 2, 1, 3).reshape(560, 1120)
        Image.fromarray(rows).save(look)
        return
    drawn_again = shapes([(digit, 6000)], fonts, mnist.train_images, random)
    images = np.concatenate([mnist.train_images, *[drawn_again] * 3, *[others] * 4])
    labels = np.arange(len(images)) < len(images) - 4 * len(others)
    data = Dataset(
        "digits and other shapes", images, labels.astype(np.uint8), images[:0], labels[:0].astype(np.uint8), 2, *MEAN_STD
    )
    detector = build_detector()
    fit(detector, data, replace(RECIPES["default"], algorithm="direct", **CHANGES))
    save_bfloat16(WEIGHTS, detector.state_dict(), {"made_by": "tools/detector.py"})


if __name__ == "__main__":
    main()
