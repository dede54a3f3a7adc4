"""Measures what is read on pictures: digits of MNIST on pages of ten styles, letters, blank pages, pages of lines.

    python benchmarks/bench_pictures.py                    the package's weights, on MNIST's test images
    python benchmarks/bench_pictures.py --calibrate best   the limits of warnings, on images that no network was trained on

The pages are those of tests/helpers/pages.py. With --calibrate RECIPE a LeNet is trained on the first 55,000 training images,
as the detector was (tools/detector.py), and the digits on the pages are from the other 5,000. No test image has part in it.
Letters are those of Pillow's own font, or of the .ttf files in --fonts FOLDER; the detector was trained on other fonts.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageFont

from fastlenet import RECIPES, LeNet, fit, predict_image
from fastlenet.data import load_mnist
from fastlenet.images.detector import how_likely_a_digit
from measuring import print_machine, print_table, save

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.pages import ALIKE, LINES, STYLES, draw_blank, draw_letter, draw_lines, draw_page

Array = np.ndarray[Any, Any]
HELD_OUT = 5000  # the last training images of MNIST
DIGIT_LIMITS, LABEL_LIMITS = (0.0, 0.1, 0.3, 0.5), (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
SHARE = 7  # with several fonts, one of so many letters is drawn, except the A


@dataclass(frozen=True)
class Seen:
    """What was read on a page. likely: that the shape is a digit at all. other: whether it had a warning without a limit."""

    label: object
    probability: float
    likely: float
    warned: bool
    other: bool

    def passes(self, digit_limit: float, label_limit: float) -> bool:
        """Whether it has no warning by these limits."""
        return not self.other and self.likely >= digit_limit and self.probability >= label_limit


def look(model: LeNet, page: Array) -> Seen:
    seen = predict_image(model, page)
    likely = float(how_likely_a_digit(seen.image[None])[0])
    other = seen.label is None or any(warning.startswith("several") for warning in seen.warnings)
    return Seen(seen.label, seen.probability, likely, bool(seen.warnings), other)


def percent(flags: Iterable[bool]) -> str:
    return f"{100 * float(np.mean(list(flags))):.2f} %"


def letters(model: LeNet, fonts: Sequence[Any]) -> list[tuple[str, Seen]]:
    """Letters of the fonts, each with what was read."""
    drawn = [(x, font, style) for font in fonts for x in string.ascii_letters for style in STYLES]
    if len(fonts) > 1:
        drawn = [one for number, one in enumerate(drawn) if number % SHARE == 0 or one[0] == "A"]
    return [(x, look(model, draw_letter(x, font, style, number))) for number, (x, font, style) in enumerate(drawn)]


def fonts_of(folder: str | None) -> list[Any]:
    if folder is None:
        return [ImageFont.load_default(150)]
    return [ImageFont.truetype(path, 150) for path in sorted(Path(folder).rglob("*.ttf"))]


def measure(model: LeNet, count: int, fonts: Sequence[Any]) -> dict[str, Any]:
    """The shipped weights: each style, and what is no digit."""
    mnist, results = load_mnist(), {}
    rows = []
    for style in STYLES:
        seen = [look(model, draw_page(mnist.test_images[index], style, index)) for index in range(count)]
        right = [one.label == label for one, label in zip(seen, mnist.test_labels.tolist(), strict=False)]
        wrong = sum(not is_right and not one.warned for one, is_right in zip(seen, right, strict=True))
        warned = percent(one.warned for one, is_right in zip(seen, right, strict=True) if is_right)
        rows.append([style, percent(right), warned, f"{wrong} of {count}"])
        print(*rows[-1], sep="   ", flush=True)
    print_table(["style", "read rightly", "of these with a warning", "wrong without one"], rows)
    results["styles"] = {row[0]: row[1:] for row in rows}
    others = {"letters": letters(model, fonts)}
    others["letters without look-alikes"] = [(x, one) for x, one in others["letters"] if x not in ALIKE]
    others["the letter A"] = [(x, one) for x, one in others["letters"] if x == "A"]
    others["blank pages"] = [("", look(model, draw_blank(style, seed))) for style in STYLES for seed in range(20)]
    for kind in LINES:
        others[f"pages of lines, {kind}"] = [("", look(model, draw_lines(kind, seed))) for seed in range(50)]
    rows = [[name, str(len(seen)), percent(not one.warned for _, one in seen)] for name, seen in others.items()]
    print_table(["what", "pages", "read without a warning"], rows)
    return results | {"no digits": {row[0]: row[1:] for row in rows}}


def calibrate(recipe: str, count: int, fonts: Sequence[Any]) -> dict[str, Any]:
    """What each pair of limits would do on images and fonts that no network was trained on."""
    data = load_mnist().hold_out(HELD_OUT)
    model = LeNet.of(RECIPES[recipe])
    fit(model, data, recipe)
    right, wrong = [], []
    for place, style in enumerate(STYLES):
        for index in range(place * count, (place + 1) * count):
            seen = look(model, draw_page(data.validation_images[index % HELD_OUT], style, index))
            (right if seen.label == data.validation_labels[index % HELD_OUT] else wrong).append(seen)
    others = letters(model, fonts)
    rows = []
    for limits in ((a, b) for a in DIGIT_LIMITS for b in LABEL_LIMITS):
        passed = [(x, one.passes(*limits)) for x, one in others]
        rows.append(
            [
                *map(str, limits),
                percent(not one.passes(*limits) for one in right),
                f"{sum(one.passes(*limits) for one in wrong)} of {len(wrong)}",
                percent(passes for _, passes in passed),
                percent(passes for x, passes in passed if x not in ALIKE),
                percent(passes for x, passes in passed if x == "A"),
            ]
        )
    titles = ["digit at least", "label at least", "right, but warned", "wrong, not warned", "letters not warned"]
    titles += ["without look-alikes", "the A"]
    print_table(titles, rows)
    return {"recipe": recipe, "pages": len(right) + len(wrong), "letters": len(others), "limits": [titles, *rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibrate", choices=RECIPES, metavar="RECIPE", help="train it without the last 5,000 images")
    parser.add_argument("--fonts", metavar="FOLDER", help="a folder of .ttf files (default: Pillow's own font)")
    parser.add_argument("--digits", type=int, default=300, help="in each style (default: 300)")
    given = parser.parse_args()
    fonts = fonts_of(given.fonts)
    print_machine()
    if given.calibrate:
        save(f"pictures_{given.calibrate}", calibrate(given.calibrate, given.digits, fonts))
    else:
        save("pictures", measure(LeNet.pretrained(), given.digits, fonts))


if __name__ == "__main__":
    main()
