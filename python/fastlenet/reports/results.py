"""The sections on how good the model is: accuracy, classes, confusions, calibration."""

from __future__ import annotations

import math

import numpy as np

from fastlenet.data.dataset import PART_WORDS
from fastlenet.inference.facts import Label
from fastlenet.inference.scores import Evaluation, wilson_interval
from fastlenet.reports.charts import interval_chart, reliability_diagram, share_axis, strip
from fastlenet.reports.findings import Findings
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.pictures import signed_address

__all__ = ["accuracy", "calibration", "classes", "confusions", "percent", "scrolled", "table"]

_CELLS = 30  # classes of which the matrix is a table of numbers
_ROWS, _PAIRS = 30, 10  # classes that are shown at once, and the most frequent mistakes
_STRIP = 150  # the width of a class's chart
_CELL, _NAMES = 9, 120  # of the picture of a matrix: the side of a cell, and the most names
_LETTERS, _LETTER = 24, 4.9  # the most letters of a name there, and the width of one


def percent(share: float) -> str:
    """A share for a reader; a dash for NaN."""
    return "\N{EN DASH}" if math.isnan(share) else f"{share:.2%}".replace("%", " %")


def scrolled(*children: object, label: str) -> Markup:
    """A box that scrolls by itself, by the keyboard too, where its contents are wider than the page."""
    return tag("div", *children, class_="scroll", tabindex="0", role="region", aria_label=label)


def table(head: list[object], rows: list[list[object]], *, class_: str = "", caption: str) -> Markup:
    """A table in a box that scrolls. The first cell of a row is its heading."""
    top = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *body), class_=class_ or None)
    return scrolled(whole, label=caption)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# --- accuracy ------------------------------------------------------------------------------------------------------------


def accuracy(findings: Findings) -> Markup:
    """The page's first lines: the accuracy with its interval, and what was judged by what."""
    subject, result = findings.subject, findings.evaluation
    low, high = result.interval
    kind = f"{PART_WORDS[subject.part]} images" if subject.part else "images"
    wrong = result.count - result.correct
    sentence = f"{result.correct:,} of {result.count:,} {kind} classified correctly, {wrong:,} not."
    interval = f"95 % interval {percent(low)} to {percent(high)} (Wilson)"
    facts = {
        "loss": f"{result.loss:.4f}",
        "expected calibration error": percent(findings.calibration.expected_error),
        "parameters": f"{sum(layer.parameters for layer in findings.layers):,}",
        "classes": f"{len(result.class_names):,}",
        "image": " x ".join(map(str, subject.input_shape)),
    }
    if subject.networks > 1:
        facts = {"networks, averaged": f"{subject.networks}"} | facts
    if subject.tta:
        facts["test-time augmentation"] = "each image and its four shifts"
    terms = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()))
    number = tag("p", tag("strong", percent(result.accuracy), class_="number"), " accuracy")
    chart = tag("div", interval_chart(result.accuracy, result.interval), class_="chart")
    return tag("div", tag("div", number, tag("p", sentence), chart, tag("p", interval, class_="note")), terms, class_="pair")


# --- classes -------------------------------------------------------------------------------------------------------------


def classes(findings: Findings) -> Markup:
    """Precision and recall of each class, as numbers and as points with their intervals."""
    result = findings.evaluation
    matrix = result.confusion_matrix
    correct, images, taken = (np.asarray(numbers).tolist() for numbers in (np.diag(matrix), matrix.sum(1), matrix.sum(0)))
    spans = [
        [wilson_interval(right, count) if count else (math.nan, math.nan) for right, count in zip(correct, counts, strict=True)]
        for counts in (images, taken)
    ]
    start, _ = share_axis(low for span in spans for low, _ in span)
    rows: list[list[object]] = []
    for number, name in enumerate(result.class_names):
        recall, precision = float(result.recall[number]), float(result.precision[number])
        chart = strip(
            start, [(recall, spans[0][number], "a", "recall"), (precision, spans[1][number], "b", "precision")], _STRIP
        )
        rows.append([name, f"{images[number]:,}", percent(recall), percent(precision), chart])
    axis = tag("span", tag("span", _axis(start)), tag("span", "100 %"), class_="ends")
    head: list[object] = [
        "class",
        "images",
        join(tag("i", class_="key a"), "recall"),
        join(tag("i", class_="key b"), "precision"),
        axis,
    ]
    note = tag(
        "p",
        "Recall is the share of a class's images that were taken for it. Precision is the share of the images taken for a "
        "class that belong to it. The lines are 95 % intervals.",
        class_="note",
    )
    if len(rows) <= _ROWS:
        return join(note, table(head, rows, class_="classes", caption="precision and recall of each class"))
    least = [np.nanmin([r, p, 2.0]) for r, p in zip(result.recall, result.precision, strict=True)]
    order = np.argsort(least, kind="stable").tolist()
    worst = table(
        head,
        [rows[number] for number in order[:_ROWS]],
        class_="classes",
        caption=f"the {_ROWS} classes with the lowest precision or recall",
    )
    others = table(head, [rows[number] for number in sorted(order[_ROWS:])], class_="classes", caption="the other classes")
    more = tag("details", tag("summary", f"the other {len(rows) - _ROWS} classes"), others)
    return join(note, worst, more)


def _axis(start: float) -> str:
    return f"{round(100 * start, 2):g} %"


# --- confusions ----------------------------------------------------------------------------------------------------------


def confusions(findings: Findings) -> Markup:
    """The confusion matrix: a table of numbers, or with many classes a picture; and the most frequent mistakes."""
    result = findings.evaluation
    note = "A row has the images of one class, a column those taken for one class. Orange cells are mistakes, dots are zeros."
    small = len(result.class_names) <= _CELLS
    matrix = _matrix_table(result) if small else _matrix_picture(result)
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
        return tag("td", f"{count:,}", class_="right")
    if not count:
        return tag("td", "\N{MIDDLE DOT}", class_="none")
    return tag("td", f"{count:,}", class_="wrong", style=f"--part:{0.15 + 0.4 * math.sqrt(count / most):.2f}")


def _matrix_picture(result: Evaluation) -> Markup:
    """A cell of a few pixels for each pair of classes: the stronger the orange, the more mistakes; blue, the recall."""
    matrix, count = result.confusion_matrix.astype(np.float64), len(result.class_names)
    wrong = matrix - np.diag(np.diag(matrix))
    shades = np.sqrt(wrong / (wrong.max(initial=0) or 1)) - 0.5 * np.diag(np.nan_to_num(result.recall))
    side, every = _CELL * count, max(1, math.ceil(count / _NAMES))
    names = [_short(name) for name in result.class_names]
    room = math.ceil(_LETTER * max(map(len, names))) + 10
    picture = tag("image", href=signed_address(shades), x=room, y=room, width=side, height=side, class_="pixels")
    frame = tag("rect", x=room, y=room, width=side, height=side, class_="frame")
    words = []
    for number in range(0, count, every):
        at = room + _CELL * number + _CELL - 1.5
        words.append(tag("text", names[number], class_="small", x=room - 4, y=at, text_anchor="end"))
        words.append(tag("text", names[number], class_="small", transform=f"translate({at} {room - 4}) rotate(-90)"))
    whole = room + side + 2
    lines = [
        tag("line", class_="grid", x1=room + at, x2=room + at, y1=room, y2=room + side)
        for at in range(10 * _CELL, side, 10 * _CELL)
    ]
    lines += [
        tag("line", class_="grid", y1=room + at, y2=room + at, x1=room, x2=room + side)
        for at in range(10 * _CELL, side, 10 * _CELL)
    ]
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
    more = tag("p", f"{_counted(rest, 'other pair')} of classes were mistaken.", class_="note") if rest > 0 else None
    return tag("div", listed, more)


# --- calibration ---------------------------------------------------------------------------------------------------------


def calibration(findings: Findings) -> Markup:
    """The reliability diagram, the expected calibration error and its definition, and the numbers of each bin."""
    found = findings.calibration
    bins = len(found.counts)
    error = tag("p", tag("strong", percent(found.expected_error)), " expected calibration error")
    definition = tag(
        "p",
        f"The images are sorted into {bins} bins by the probability of their predicted class. In each bin, compare the mean "
        "probability with the share of right answers. The expected calibration error is the mean of these differences, each "
        "weighted by its number of images (Guo et al. 2017). The dashed diagonal is where the two are equal: points below it "
        "are too sure, points above it not sure enough. The lines are 95 % intervals: a bin with few images says little.",
        class_="note",
    )
    rows: list[list[object]] = [
        [
            f"{100 * number / bins:g} to {100 * (number + 1) / bins:g} %",
            f"{count:,}",
            percent(float(found.confidence[number])),
            percent(float(found.accuracy[number])),
        ]
        for number, count in enumerate(found.counts.tolist())
    ]
    head: list[object] = ["bin", "images", "mean probability", "right"]
    numbers = tag("details", tag("summary", "the numbers"), table(head, rows, caption="bins of the calibration"))
    chart = tag("div", reliability_diagram(found), class_="chart")
    return tag("div", chart, tag("div", error, definition, numbers), class_="pair")
