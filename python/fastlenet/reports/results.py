"""The sections on how good the model is: accuracy, classes, confusions, calibration."""

from __future__ import annotations

import math

import numpy as np

from fastlenet.data.dataset import PART_WORDS
from fastlenet.inference.scores import wilson_interval
from fastlenet.reports.charts import interval_chart, reliability_diagram, share_axis, strip
from fastlenet.reports.findings import Findings
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.reports.tables import percent, table

__all__ = ["accuracy", "calibration", "classes"]

_ROWS, _STRIP = 30, 130  # classes that are shown at once; the width of a class's chart


# --- accuracy ------------------------------------------------------------------------------------------------------------


def accuracy(findings: Findings) -> Markup:
    """The page's first lines: the accuracy with its interval, the model and the data."""
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
        "weighted by its number of images (Guo et al. 2017). On the dashed diagonal the two are equal. Below it the "
        "probabilities are too high, above it too low. The lines are 95 % intervals; they are long for bins with few images.",
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
