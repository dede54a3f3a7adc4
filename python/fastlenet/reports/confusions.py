"""The section on what is taken for what: the confusion matrix, and the most frequent mistakes."""

from __future__ import annotations

import math

import numpy as np

from fastlenet.inference.facts import Label
from fastlenet.inference.scores import Evaluation
from fastlenet.reports.findings import Findings
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.pictures import signed_address
from fastlenet.reports.tables import scrolled, table

__all__ = ["confusions"]

_CELLS, _PAIRS = 30, 10  # classes of which the matrix is a table of numbers; the most frequent mistakes that are listed
_CELL, _SIDE = 9.0, 1000  # of the picture of a matrix: pixels of a cell, and of its side, at most
_LETTERS, _LETTER = 24, 4.9  # the most letters of a name there, and the width of one


def confusions(findings: Findings) -> Markup:
    """The confusion matrix: a table of numbers, or with many classes a picture; and the most frequent mistakes."""
    result = findings.evaluation
    note = "A row has the images of one class, a column those taken for one class. Orange cells are mistakes, "
    if len(result.class_names) <= _CELLS:
        note, matrix = f"{note}dots are zeros.", _matrix_table(result)
    else:
        note, matrix = f"{note}blue ones right answers.", _matrix_picture(result)
    return join(tag("p", note, class_="note"), tag("div", matrix, _most_frequent(result), class_="flow"))


def _matrix_table(result: Evaluation) -> Markup:
    matrix = result.confusion_matrix
    most = int((matrix - np.diag(np.diag(matrix))).max(initial=0)) or 1
    upright = any(len(str(name)) > 4 for name in result.class_names)
    corner = tag("td", "true \N{DOWNWARDS ARROW} taken for \N{RIGHTWARDS ARROW}", class_="corner")
    names = [tag("th", tag("span", name), scope="col") for name in result.class_names]
    rows = []
    for number, (name, row) in enumerate(zip(result.class_names, matrix.tolist(), strict=True)):
        cells = [_cell(count, number == column, most) for column, count in enumerate(row)]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    caption = "confusion matrix"
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", corner, *names)),
        tag("tbody", *rows),
        class_="matrix upright" if upright else "matrix",
    )
    return scrolled(whole, label=caption)


def _cell(count: int, right: bool, most: int) -> Markup:
    if right:
        return tag("td", count, class_="right")
    if not count:
        return tag("td", "\N{MIDDLE DOT}", class_="none")
    return tag("td", count, class_="wrong", style=f"--part:{0.15 + 0.4 * math.sqrt(count / most):.2f}")


def _matrix_picture(result: Evaluation) -> Markup:
    """A cell of a few pixels for each pair of classes: the stronger the orange, the more mistakes; blue, the recall."""
    matrix, count = result.confusion_matrix.astype(np.float64), len(result.class_names)
    wrong = matrix - np.diag(np.diag(matrix))
    shades = np.sqrt(wrong / (wrong.max(initial=0) or 1)) - 0.5 * np.diag(np.nan_to_num(result.recall))
    cell = max(1.0, min(_CELL, _SIDE / count))
    side, every = round(cell * count), math.ceil(_CELL / cell)
    names = [_short(name) for name in result.class_names]
    room = math.ceil(_LETTER * max(map(len, names))) + 10
    picture = tag("image", href=signed_address(shades), x=room, y=room, width=side, height=side, class_="pixels")
    frame = tag("rect", x=room, y=room, width=side, height=side, class_="frame")
    words, lines = [], []
    for number in range(0, count, every):
        at = f"{room + cell * (number + 0.5) + 3:.1f}"  # the middle of the cell is that of a letter
        words.append(tag("text", names[number], class_="small", x=room - 4, y=at, text_anchor="end"))
        words.append(tag("text", names[number], class_="small", transform=f"translate({at} {room - 4}) rotate(-90)"))
    for number in range(10 * every, count, 10 * every):
        at = f"{room + cell * number:.1f}"
        lines.append(tag("line", class_="grid", x1=at, x2=at, y1=room, y2=room + side))
        lines.append(tag("line", class_="grid", x1=room, x2=room + side, y1=at, y2=at))
    whole = room + side + 2
    label = f"confusion matrix of {count} classes; the table below has the most frequent mistakes"
    svg = tag(
        "svg",
        *lines,
        picture,
        frame,
        *words,
        viewBox=f"0 0 {whole} {whole}",
        width=whole,
        height=whole,
        role="img",
        aria_label=label,
    )
    return scrolled(svg, label="confusion matrix")


def _short(name: Label) -> str:
    text = str(name)
    half = _LETTERS // 2
    return text if len(text) <= _LETTERS else f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[1 - half :]}"


def _most_frequent(result: Evaluation) -> Markup:
    found = result.confusions()
    if not found:
        return tag("p", "No image was taken for another class.")
    rows: list[list[object]] = [[name, other, f"{count:,}"] for name, other, count in found[:_PAIRS]]
    listed = table(["true class", "taken for", "images"], rows, class_="pairs", caption="the most frequent mistakes")
    rest = len(found) - _PAIRS
    words = "One other pair of classes was mistaken." if rest == 1 else f"{rest:,} other pairs of classes were mistaken."
    more = tag("p", words, class_="note") if rest > 0 else None
    return tag("div", listed, more)
