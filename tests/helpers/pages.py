"""Pages as a user photographs them: digits of MNIST, letters, lines and nothing, in ten styles; the same for a seed.

python tests/helpers/pages.py sheet.png      a sheet of all styles, to look at
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

__all__ = [
    "ALIKE",
    "LINES",
    "STYLES",
    "Page",
    "draw_blank",
    "draw_letter",
    "draw_lines",
    "draw_page",
    "draw_row",
    "draw_strokes",
    "glyph",
    "stroke",
]

Array = npt.NDArray[Any]
Colour = tuple[float, float, float]

WHITE: Colour = (0.96, 0.95, 0.93)
BLACK: Colour = (0.1, 0.1, 0.12)
ALIKE = "OoIilSsZzqgbj"  # letters that look like digits
LINES = ("ruled", "squared", "hatched", "scribbles", "text")  # pages without a digit


@dataclass(frozen=True)
class Page:
    """What is drawn: a digit `size` pixels high on paper of `height` x `width`, and what happened to the picture of it."""

    height: int = 300
    width: int = 240
    size: float = 110
    pen: float = 0.0  # the stroke's width, as a fraction of size; 0: as written
    place: tuple[float, float] = (0.5, 0.5)  # of the free room, down and right
    slant: float = 0.0  # pixels to the left for each pixel down
    turn: float = 0.0  # degrees
    paper: Colour = WHITE
    ink: Colour = BLACK
    light: float = 0.0  # how much darker the darkest corner is
    shadow: float = 0.0  # how much darker one side of an edge is
    blur: float = 0.0  # the radius, as a fraction of size
    noise: float = 0.0  # standard deviation
    specks: int = 0
    jpeg: int = 0  # quality; 0: none


def _pen_width(rng: np.random.Generator) -> Page:
    return Page(pen=float(rng.choice([0.015, 0.03, 0.05, 0.09, 0.13, 0.16])))


def _colour(rng: np.random.Generator) -> Page:
    papers: Sequence[Colour] = (WHITE, (1, 1, 1), (0.98, 0.95, 0.7), (0.8, 0.9, 0.97), (0.96, 0.8, 0.84), (0.75, 0.75, 0.72))
    inks: Sequence[Colour] = (
        (0.1, 0.2, 0.7),
        (0.8, 0.1, 0.15),
        (0.1, 0.5, 0.2),
        (0.45, 0.1, 0.5),
        (0.9, 0.45, 0.05),
        (0.35, 0.35, 0.4),
    )
    return Page(paper=papers[rng.integers(len(papers))], ink=inks[rng.integers(len(inks))])


def _size(rng: np.random.Generator) -> Page:
    size = float(np.exp(rng.uniform(np.log(24), np.log(420))))
    return Page(height=600, width=500, size=size)


def _place(rng: np.random.Generator) -> Page:
    return Page(height=400, width=500, size=70, place=(float(rng.uniform(0.02, 0.98)), float(rng.uniform(0.02, 0.98))))


def _slant(rng: np.random.Generator) -> Page:
    return Page(slant=float(rng.uniform(-0.25, 0.35)), turn=float(rng.uniform(-12, 12)))


def _noise(rng: np.random.Generator) -> Page:
    return Page(noise=float(rng.uniform(0.04, 0.16)), specks=int(rng.integers(0, 40)))


def _uneven_light(rng: np.random.Generator) -> Page:
    return Page(light=float(rng.uniform(0.3, 0.75)), shadow=float(rng.uniform(0, 0.45)), ink=(0.2, 0.2, 0.25))


def _photo_blur(rng: np.random.Generator) -> Page:
    return Page(
        blur=float(rng.uniform(0.015, 0.045)), noise=0.015, light=0.25, paper=(0.78, 0.75, 0.7), ink=(0.22, 0.22, 0.3), size=80
    )


def _inverted(rng: np.random.Generator) -> Page:
    boards: Sequence[Colour] = ((0, 0, 0), (0.12, 0.2, 0.16), (0.15, 0.15, 0.2), (0.1, 0.12, 0.4))
    return Page(paper=boards[rng.integers(len(boards))], ink=(0.9, 0.9, 0.85), noise=0.02, light=float(rng.uniform(0, 0.3)))


def _jpeg(rng: np.random.Generator) -> Page:
    return Page(jpeg=int(rng.integers(6, 30)), size=float(rng.uniform(40, 110)), ink=(0.15, 0.2, 0.5))


STYLES: Mapping[str, Callable[[np.random.Generator], Page]] = {
    "pen width": _pen_width,
    "colour": _colour,
    "size": _size,
    "place": _place,
    "slant": _slant,
    "noise": _noise,
    "uneven light": _uneven_light,
    "photo-like blur": _photo_blur,
    "inverted": _inverted,
    "JPEG": _jpeg,
}


def draw_page(digit: Array, style: str, seed: int) -> Array:
    """A page uint8 (h, w, 3) with one image of MNIST, uint8 (28, 28), on it."""
    rng = np.random.default_rng([seed, list(STYLES).index(style)])
    page = STYLES[style](rng)
    return _photographed(_on_paper([(stroke(digit, page), page.place)], page), page, rng)


def draw_row(digits: Sequence[Array], style: str, seed: int) -> Array:
    """A page with several images of MNIST in a row, of slightly different sizes and heights."""
    rng = np.random.default_rng([seed, list(STYLES).index(style), 1])
    page = replace(STYLES[style](rng), size=80, height=220, width=90 + 100 * len(digits), pen=0.0)
    parts = []
    for number, digit in enumerate(digits):
        size = replace(page, size=float(rng.uniform(70, 90)))
        down, right = rng.uniform(0.4, 0.6), (number + 0.5 + rng.uniform(-0.1, 0.1)) / len(digits)
        parts.append((stroke(digit, size), (down, right)))
    return _photographed(_on_paper(parts, page), page, rng)


def draw_letter(letter: str, font: Any, style: str, seed: int) -> Array:
    """A page with a letter of a font of Pillow's."""
    rng = np.random.default_rng([seed, list(STYLES).index(style), 2])
    page = STYLES[style](rng)
    return _photographed(_on_paper([(stroke(glyph(letter, font), page), page.place)], page), page, rng)


def draw_blank(style: str, seed: int) -> Array:
    """A page with nothing on it."""
    rng = np.random.default_rng([seed, list(STYLES).index(style), 4])
    page = replace(STYLES[style](rng), specks=0)
    return _photographed(_on_paper([], page), page, rng)


def draw_strokes(strokes: Sequence[Sequence[tuple[float, float]]], pen: float, page: Page, seed: int) -> Array:
    """A page with strokes of a round pen so many pixels wide, each through points (x, y), joined by smooth curves."""
    fine = 3
    canvas = Image.new("L", (page.width * fine, page.height * fine))
    draw, reach = ImageDraw.Draw(canvas), pen * fine / 2
    for stroke_points in strokes:
        for x, y in _curve(np.asarray(stroke_points, float) * fine).tolist():
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    alpha = np.asarray(canvas.resize((page.width, page.height), Image.Resampling.BOX), np.float32) / 255
    return _photographed(_inked(alpha, page), page, np.random.default_rng([seed, 5]))


def _curve(points: Array) -> Array:
    """A smooth curve through points (n, 2): the spline of Catmull and Rom 1974."""
    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 60)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        pieces.append((2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2)
    return np.concatenate(pieces)


def glyph(letter: str, font: Any) -> Array:
    """A letter, uint8 in white on black, without a border."""
    canvas = Image.new("L", (600, 400))
    ImageDraw.Draw(canvas).text((300, 200), letter, font=font, fill=255, anchor="mm")
    box = canvas.getbbox()
    assert box is not None, f"{letter!r} has no ink in this font"
    return np.asarray(canvas.crop(box))


def draw_lines(kind: str, seed: int) -> Array:
    """A page without a digit, of a kind of LINES: paper that is ruled or squared, hatched by hand, scribbles, or words."""
    rng = np.random.default_rng([seed, 3])
    canvas = Image.new("L", (480, 640))
    draw = ImageDraw.Draw(canvas)
    step, width = int(rng.integers(18, 60)), int(rng.integers(1, 5))
    if kind in ("ruled", "squared"):
        for y in range(step, 640, step):
            draw.line((0, y, 480, y + int(rng.integers(-3, 4))), fill=255, width=width)
        for x in range(step, 480, step) if kind == "squared" else ():
            draw.line((x, 0, x + int(rng.integers(-3, 4)), 640), fill=255, width=width)
    elif kind == "hatched":
        for _ in range(int(rng.integers(4, 20))):
            x, y = rng.uniform(60, 400), rng.uniform(80, 520)
            draw.line((x, y, x + rng.uniform(-60, 60), y + rng.uniform(60, 110)), fill=255, width=width + 2)
    elif kind == "text":
        font, letters = ImageFont.load_default(step), np.array(list("abcdefghijklmnopqrstuvwxyz    "))
        for y in range(step, 600 - step, 2 * step):
            draw.text((30, y), "".join(rng.choice(letters, 700 // step)), font=font, fill=255)
    else:
        points = rng.uniform((60, 80), (420, 560), (int(rng.integers(8, 25)), 2))
        draw.line([tuple(point) for point in points], fill=255, width=width + 3, joint="curve")
    alpha = np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.7)), np.float32) / 255
    page = Page(height=640, width=480, noise=0.01)
    return _photographed(_inked(alpha, page), page, rng)


def stroke(digit: Array, page: Page) -> Array:
    """The opacity of the ink of one digit, (h, w) in 0..1, its longer side page.size."""
    rows, columns = np.nonzero(digit.max(1))[0], np.nonzero(digit.max(0))[0]
    tight = Image.fromarray(np.ascontiguousarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
    scale = page.size / max(tight.size)
    w, h = (max(1, round(side * scale)) for side in tight.size)
    if page.pen:
        alpha = _with_pen(tight, (h, w), page.pen * page.size)
    else:
        soft = np.asarray(tight.resize((w, h), Image.Resampling.BICUBIC), np.float32) / 255
        sharpness = max(1.0, scale / 3)
        alpha = np.clip((soft - 0.5) * sharpness + 0.5, 0, 1)
    return _tilted(alpha, page)


def _with_pen(tight: Image.Image, shape: tuple[int, int], width: float) -> Array:
    """The middle lines of the strokes, drawn again by a round pen."""
    fine = 4
    large = np.asarray(tight.resize((tight.width * fine, tight.height * fine), Image.Resampling.BICUBIC)) > 127
    y, x = np.nonzero(_thinned(large))
    scale = shape[0] / large.shape[0]
    margin = int(np.ceil(width)) + 1
    canvas = Image.new("L", ((shape[1] + 2 * margin) * 2, (shape[0] + 2 * margin) * 2))
    draw = ImageDraw.Draw(canvas)
    reach = max(width, 1.0)  # half the width, on a canvas of twice the size
    for row, column in zip(y, x, strict=True):
        down, right = ((place + 0.5) * scale * 2 + 2 * margin for place in (row, column))
        draw.ellipse((right - reach, down - reach, right + reach, down + reach), fill=255)
    return np.asarray(canvas.resize((canvas.width // 2, canvas.height // 2), Image.Resampling.BOX), np.float32) / 255


def _thinned(mask: Array) -> Array:
    """The mask's middle lines: Zhang and Suen 1984."""
    mask = np.pad(mask, 1)
    while True:
        before = mask.copy()
        for turn in (0, 1):
            n = [
                np.roll(mask, (down, right), (0, 1))
                for down, right in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]
            around = sum(part.astype(int) for part in n)
            rises = sum((~n[k] & n[(k + 1) % 8]).astype(int) for k in range(8))
            up, right, down, left = n[0], n[2], n[4], n[6]
            ends = ~(up & right & down) & ~(right & down & left) if turn == 0 else ~(up & right & left) & ~(up & down & left)
            mask = mask & ~((around >= 2) & (around <= 6) & (rises == 1) & ends)
        if (mask == before).all():
            return mask[1:-1, 1:-1]


def _tilted(alpha: Array, page: Page) -> Array:
    if not (page.slant or page.turn):
        return alpha
    h, w = alpha.shape
    room = int(max(h, w) * 0.6)
    image = Image.fromarray(np.rint(np.pad(alpha, room) * 255).astype(np.uint8))
    image = image.transform(
        image.size, Image.Transform.AFFINE, (1, page.slant, -page.slant * image.height / 2, 0, 1, 0), Image.Resampling.BICUBIC
    )
    image = image.rotate(page.turn, Image.Resampling.BICUBIC)
    box = image.getbbox()
    return np.asarray(image.crop(box), np.float32) / 255


def _on_paper(parts: Sequence[tuple[Array, tuple[float, float]]], page: Page) -> Array:
    """Strokes at their places on the paper, as colours in 0..1."""
    alpha = np.zeros((page.height, page.width), np.float32)
    for part, (down, right) in parts:
        part = part[: page.height, : page.width]
        top = round((page.height - part.shape[0]) * down)
        left = round((page.width - part.shape[1]) * right)
        room = alpha[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(room, part, out=room)
    return _inked(alpha, page)


def _inked(alpha: Array, page: Page) -> Array:
    return np.asarray(page.paper) * (1 - alpha[:, :, None]) + np.asarray(page.ink) * alpha[:, :, None]


def _photographed(picture: Array, page: Page, rng: np.random.Generator) -> Array:
    """Light, blur, noise, specks and compression."""
    h, w = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    across = (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    light = 1 - page.light * (0.6 * (across + 1) / 2 + 0.2 * (x * x + y * y))
    edge = rng.uniform(-0.6, 0.6)
    light *= 1 - page.shadow / (1 + np.exp((across - edge) * 40))
    picture = picture * light[:, :, None]
    if page.specks:
        picture[rng.integers(0, h, page.specks), rng.integers(0, w, page.specks)] = rng.random((page.specks, 1))
    if page.blur:
        blurred = Image.fromarray(_bytes(picture)).filter(ImageFilter.GaussianBlur(page.blur * page.size))
        picture = np.asarray(blurred) / 255
    picture = picture + rng.normal(0, page.noise, picture.shape[:2])[:, :, None] * 0.8
    picture = picture + rng.normal(0, page.noise, picture.shape) * 0.6
    if page.jpeg:
        file = io.BytesIO()
        Image.fromarray(_bytes(picture)).save(file, "JPEG", quality=page.jpeg)
        return np.asarray(Image.open(file))
    return _bytes(picture)


def _bytes(picture: Array) -> Array:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _sheet(path: str, columns: int = 9) -> None:
    from fastlenet.data import load_mnist

    digits = load_mnist().test_images
    rows = []
    for style in STYLES:
        row = Image.new("RGB", (160 * columns, 160), "gray")
        for column in range(columns):
            page = Image.fromarray(draw_page(digits[column], style, column))
            page.thumbnail((156, 156))
            row.paste(page, (160 * column + 2, 2))
        rows.append(np.asarray(row))
    Image.fromarray(np.vstack(rows)).save(path)


if __name__ == "__main__":
    _sheet(sys.argv[1])
