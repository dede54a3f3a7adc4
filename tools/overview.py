"""Draws docs/static/overview.png, the picture at the top of the README: a training, digits that were read, filters, a page.

python tools/overview.py [FILE]     needs the extra test, and Chromium with its driver, as tools/browser installs them
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import fastlenet
from fastlenet.data import load_mnist

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.browser import Browser
from helpers.pages import Array, Page, draw_strokes
from helpers.strokes import DIGITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "static" / "overview.png"
INK, FAINT, ACCENT, DOUBT = "#1f2933", "#7b8794", "#1565c0", "#c2410c"

LINES = ("3142", "607A")
# The letter A, as helpers.strokes has the digits.
LETTER = (
    *(((0.2, 0.86), (0.36, 0.5), (0.5, 0.14)), ((0.5, 0.14), (0.64, 0.5), (0.8, 0.86))),
    ((0.3, 0.6), (0.5, 0.59), (0.7, 0.6)),
)


def page() -> Array:
    """Handwriting as a photograph, uint8 (h, w, 3): seven digits and a letter, which is none."""
    strokes = [
        [(20 + 142 * column + 130 * x, 25 + 205 * row + 8 * (column % 2) + 180 * y) for x, y in points]
        for row, line in enumerate(LINES)
        for column, glyph in enumerate(line)
        for points in (LETTER if glyph == "A" else DIGITS[int(glyph)])
    ]
    colours, light = ((0.9, 0.88, 0.8), (0.12, 0.2, 0.5)), (0.4, 0.15)
    paper = Page(450, 600, paper=colours[0], ink=colours[1], light=light[0], shadow=light[1], blur=0.007, noise=0.005)
    return draw_strokes(strokes, 8, paper, seed=3)


def draw_training(axes: Axes) -> None:
    """The accuracy on the test images after each epoch of the default recipe."""
    history = fastlenet.fit(fastlenet.LeNet(), load_mnist(), verbose=False)
    accuracies = [100 * value for value in history.history["val_accuracy"]]
    epochs = range(1, len(accuracies) + 1)
    axes.plot(epochs, accuracies, color=ACCENT, linewidth=2.5, marker="o", markersize=7)
    for epoch, accuracy in zip(epochs, accuracies, strict=True):
        axes.annotate(
            f"{accuracy:.2f} %", (epoch, accuracy), (-7, 8), textcoords="offset points", ha="right", fontsize=13, color=INK
        )
    axes.set(xticks=list(epochs), xlim=(0.1, len(accuracies) + 0.4), ylim=(98.8, 99.75), xlabel="epoch")
    axes.set_yticks([99.0, 99.25, 99.5, 99.75], ["99", "99.25", "99.5", "99.75 %"])


def draw_reading(axes: Axes) -> None:
    """The page, with a frame and a verdict for each shape that was read."""
    picture = page()
    axes.imshow(picture)
    for digit in fastlenet.predict_page(fastlenet.LeNet.pretrained(), picture).digits:
        assert digit.box is not None
        top, left, bottom, right = digit.box
        colour = DOUBT if digit.warnings else ACCENT
        words = "not a digit" if digit.warnings else f"{digit.label}  {digit.probability:.0%}"
        x, y = [left - 9, right + 9, right + 9, left - 9, left - 9], [top - 9, top - 9, bottom + 9, bottom + 9, top - 9]
        axes.plot(x, y, color=colour, linewidth=1.8)
        axes.text((left + right) / 2, bottom + 16, words, ha="center", va="top", fontsize=13, fontweight="bold", color=colour)
    axes.axis("off")


def draw_filters(axes: Axes) -> None:
    """The filters of conv1, five in a row, each scaled to its own largest weight; blue is positive, orange negative."""
    filters = fastlenet.LeNet.pretrained().state_dict()["conv1.weight"][:, 0]
    sheet = np.full((4 * 6 - 1, 5 * 6 - 1), np.nan)
    for number, weights in enumerate(filters):
        top, left = 6 * (number // 5), 6 * (number % 5)
        sheet[top : top + 5, left : left + 5] = weights / np.abs(weights).max()
    axes.imshow(sheet, cmap="RdBu", vmin=-1.1, vmax=1.1)
    axes.axis("off")


def draw_overview(browser: Array) -> Figure:
    """The four pictures. browser: a screenshot, uint8 (h, w, 3 or 4)."""
    figure = Figure(figsize=(13, 9.4), dpi=120, layout="constrained", facecolor="white")
    training, reading, filters, page_axes = figure.subplots(2, 2).flat
    draw_training(training)
    draw_reading(reading)
    draw_filters(filters)
    page_axes.imshow(browser, interpolation="lanczos")
    page_axes.axis("off")
    titles = {
        training: "Train in seconds: accuracy on MNIST's test images",
        reading: "Read handwriting, and warn of what is no digit",
        filters: "Look inside: the 20 filters of conv1",
        page_axes: "Use it elsewhere: a browser page in one file",
    }
    for axes, title in titles.items():
        axes.set_title(title, fontsize=15, color=INK, pad=12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=12, colors=FAINT)
        axes.xaxis.label.set(fontsize=13, color=FAINT)
    return figure


def drawn_page() -> Array:
    """A screenshot of the exported page with a digit on it, uint8 (h, w, 3)."""
    browser = Browser()
    try:
        with tempfile.TemporaryDirectory() as folder:
            page = fastlenet.export(fastlenet.LeNet.pretrained(), Path(folder) / "lenet.html").path
            browser.open(page, 1180, 900)
            for stroke in DIGITS[3]:
                browser.stroke("#canvas", stroke)
            browser.screenshot(shot := Path(folder) / "page.png")
            with Image.open(shot) as picture:
                return np.asarray(picture.convert("RGB"))
    finally:
        browser.close()


def main(path: Path = PICTURE) -> None:
    path.parent.mkdir(exist_ok=True)
    draw_overview(drawn_page()).savefig(path)
    with Image.open(path) as picture:  # in 256 colours: a third of the size
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
