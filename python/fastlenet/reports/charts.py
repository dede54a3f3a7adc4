"""Charts as SVG, which suits a light page and a dark one: its colours are classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fastlenet.reports.calibration import Calibration
from fastlenet.reports.markup import Markup, join, tag
from fastlenet.training.history import Epoch, History

__all__ = ["interval_chart", "learning_curves", "marks", "reliability_diagram", "share_axis", "strip"]

_WIDTH = 340  # of a chart, in units that are pixels on a phone; a wide page shows charts beside each other
_LABEL = 13  # the least distance of two labels
_POINTS, _MARKED = 3000, 40  # points of all curves of one name; epochs that are marked by circles

Place = Callable[[float], float]


@dataclass(frozen=True)
class _Frame:
    """The rectangle that a chart's points lie in, and the functions that place numbers in it."""

    left: float
    top: float
    right: float
    bottom: float
    x: Place
    y: Place

    def axes(self, across: Iterable[tuple[float, str]], up: Iterable[tuple[float, str]], below: str, above: str) -> Markup:
        """Grid, ticks and the names of both axes; the name of the upright one stands above it, to be read without turning."""
        parts = [
            join(
                tag("line", class_="grid", x1=self.left, x2=self.right, y1=_n(self.y(at)), y2=_n(self.y(at))),
                tag("text", word, class_="tick", x=self.left - 6, y=_n(self.y(at) + 4), text_anchor="end"),
            )
            for at, word in up
        ]
        parts += [
            tag("text", word, class_="tick", x=_n(self.x(at)), y=self.bottom + 16, text_anchor="middle") for at, word in across
        ]
        middle = (self.left + self.right) / 2
        parts.append(tag("text", below, class_="tick", x=_n(middle), y=self.bottom + 33, text_anchor="middle"))
        parts.append(tag("text", above, class_="name", x=0, y=12))
        return join(*parts)


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _linear(low: float, high: float, start: float, end: float) -> Place:
    return lambda value: start + (value - low) / (high - low or 1) * (end - start)


def _svg(height: float, description: str, *children: object, width: float = _WIDTH) -> Markup:
    return tag("svg", *children, viewBox=f"0 0 {width} {_n(height)}", role="img", aria_label=description)


def _polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return tag("polyline", points=" ".join(f"{_n(x)},{_n(y)}" for x, y in points), class_=f"line {class_}")


def _percent(value: float) -> str:
    return f"{100 * value:g} %"


# --- accuracy ------------------------------------------------------------------------------------------------------------


def share_axis(lows: Iterable[float]) -> tuple[float, list[float]]:
    """Returns where an axis of shares up to 1 begins, a round number below the smallest one, and its ticks."""
    least = min((low for low in lows if math.isfinite(low)), default=0.0)
    start = next((edge for edge in (0.999, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.2) if edge <= least), 0.0)
    return start, [start, (start + 1) / 2, 1.0]


def interval_chart(share: float, interval: tuple[float, float]) -> Markup:
    """The accuracy as a point on its interval."""
    start, ticks = share_axis([interval[0]])
    x = _linear(start, 1, 8, _WIDTH - 24)
    words = [
        tag("text", _percent(at), class_="tick", x=_n(x(at)), y=44, text_anchor="start" if at == start else "middle")
        for at in ticks
    ]
    line = tag("line", class_="grid", x1=_n(x(start)), x2=_n(x(1)), y1=26, y2=26)
    low, high = interval
    description = f"accuracy {share:.2%}, 95 % interval {low:.2%} to {high:.2%}"
    return _svg(48, description, line, marks(x, 18, share, interval, "a"), *words)


def strip(start: float, shares: Sequence[tuple[float, tuple[float, float], str, str]], width: float) -> Markup:
    """Shares from `start` to 1 as points with their intervals, one below the other. shares: share, interval, class, name."""
    x = _linear(start, 1, 5, width - 5)
    drawn = [
        marks(x, 6 + 9 * number, share, interval, class_, f"{name} {share:.2%}, {interval[0]:.2%} to {interval[1]:.2%}")
        for number, (share, interval, class_, name) in enumerate(shares)
        if math.isfinite(share)
    ]
    grid = [tag("line", class_="grid", x1=_n(x(at)), x2=_n(x(at)), y1=0, y2=21) for at in (start, (start + 1) / 2, 1.0)]
    words = ", ".join(f"{name} {share:.2%}" for share, _, _, name in shares)
    return tag("svg", *grid, *drawn, viewBox=f"0 0 {width} 21", width=width, height=21, role="img", aria_label=words)


def marks(x: Place, y: float, share: float, interval: tuple[float, float], class_: str, title: str = "") -> Markup:
    """A share as a point with its interval as a line."""
    low, high = interval
    line = tag("line", x1=_n(x(low)), x2=_n(x(high)), y1=y, y2=y, class_=f"line {class_}")
    return tag("g", tag("title", title) if title else None, line, tag("circle", cx=_n(x(share)), cy=y, r=3.5, class_=class_))


# --- calibration ---------------------------------------------------------------------------------------------------------


def reliability_diagram(calibration: Calibration) -> Markup:
    """The accuracy of each bin over its mean confidence, with intervals, and below it the number of images in each bin."""
    frame = _Frame(44, 24, _WIDTH - 12, 224, _linear(0, 1, 44, _WIDTH - 12), _linear(0, 1, 224, 24))
    ticks = [(share, _percent(share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    diagonal = _polyline([(frame.x(0), frame.y(0)), (frame.x(1), frame.y(1))], "ideal")
    points = []
    bins = len(calibration.counts)
    rows = zip(calibration.counts.tolist(), calibration.confidence, calibration.accuracy, calibration.intervals, strict=True)
    for number, (count, confidence, accuracy, (low, high)) in enumerate(rows):
        if count:
            edges = f"{number / bins:.0%} to {(number + 1) / bins:.0%}"
            title = f"{edges}: {count:,} images, {accuracy:.2%} right, mean probability {confidence:.2%}"
            x = _n(frame.x(confidence))
            line = tag("line", x1=x, x2=x, y1=_n(frame.y(low)), y2=_n(frame.y(high)), class_="line a")
            circle = tag("circle", cx=x, cy=_n(frame.y(accuracy)), r=4, class_="a")
            points.append(tag("g", tag("title", title), line, circle))
    axes = frame.axes(ticks, ticks, "probability of the predicted class", "share that is right")
    description = f"reliability diagram; expected calibration error {calibration.expected_error:.2%}"
    return _svg(350, description, axes, diagonal, *points, _histogram(calibration, frame.x))


def _histogram(calibration: Calibration, x: Place) -> Markup:
    """Bars of the bins' numbers of images, each with its number."""
    top, bottom = 294, 344
    counts = calibration.counts.tolist()
    most, bins = max(counts), len(counts)
    parts = [tag("text", "images in each bin", class_="name", x=0, y=274)]
    for number, count in enumerate(counts):
        height = (bottom - top) * count / most
        left, right = x(number / bins), x((number + 1) / bins)
        parts.append(
            tag("rect", x=_n(left + 1), width=_n(right - left - 2), y=_n(bottom - height), height=_n(height), class_="a")
        )
        middle = _n((left + right) / 2)
        parts.append(tag("text", _short(count), class_="count", x=middle, y=_n(bottom - height - 3), text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=_n(x(0)), x2=_n(x(1)), y1=bottom, y2=bottom))
    return join(*parts)


def _short(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


# --- learning curves -----------------------------------------------------------------------------------------------------


def learning_curves(histories: Sequence[History]) -> list[Markup]:
    """Two charts over the epochs, the losses and the accuracies, with a curve for each network and the names at their ends."""
    return [_curves(histories, name) for name in ("loss", "accuracy")]


def _curves(histories: Sequence[History], name: str) -> Markup:
    names = [name, f"val_{name}"]
    curves = [
        (
            key,
            [
                (epoch.epoch, value)
                for epoch in _some(history.epochs, max(20, _POINTS // len(histories)))
                if (value := getattr(epoch, key)) is not None and math.isfinite(value) and (value > 0 or name == "accuracy")
            ],
        )
        for history in histories
        for key in names
    ]
    curves = [(key, points) for key, points in curves if points]
    values = [value for _, points in curves for _, value in points]
    last = max((epoch.epoch for history in histories for epoch in history.epochs), default=1)
    first = min((epoch.epoch for history in histories for epoch in history.epochs), default=1)
    if not values:
        return _svg(40, f"no {name}", tag("text", f"no finite {name}", class_="name", x=0, y=24))
    y, ticks = _log_scale(values, 220, 28) if name == "loss" else _share_scale(values, 220, 28)
    right = _WIDTH - (86 if name == "accuracy" else 58)
    frame = _Frame(44, 28, right, 220, _linear(first, last, 50, right - 6), y)
    lines, ends = [], dict[str, list[float]]()
    for key, points in curves:
        class_ = "b" if key.startswith("val_") else "a"
        placed = [(frame.x(epoch), y(value)) for epoch, value in points]
        if len(histories) == 1 and len(placed) <= _MARKED:
            lines += [tag("circle", cx=_n(px), cy=_n(py), r=2.5, class_=class_) for px, py in placed]
        lines.append(_polyline(placed, class_ if len(histories) == 1 else f"{class_} thin"))
        ends.setdefault(key, []).append(placed[-1][1])
    labels = _labels({key: sum(at) / len(at) for key, at in ends.items()}, right + 6)
    across = [(float(epoch), str(epoch)) for epoch in _epoch_ticks(first, last)]
    end = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in curves[:2])
    description = f"{name} over the epochs; at the end {end}"
    return _svg(256, description, frame.axes(across, ticks, "epoch", name), *lines, *labels)


def _some(epochs: Sequence[Epoch], most: int) -> Sequence[Epoch]:
    """All epochs; or of more than `most`, every second, third, ... one, and the last one."""
    step = max(1, math.ceil(len(epochs) / most))
    return [*epochs[:-1:step], *epochs[-1:]]


def _labels(ends: dict[str, float], x: float) -> list[Markup]:
    """The names of curves at the heights where they end, moved apart where they would overlap."""
    labels, free = [], -math.inf
    for key, at in sorted(ends.items(), key=lambda end: end[1]):
        free = max(at, free)
        class_ = "label b" if key.startswith("val_") else "label a"
        labels.append(tag("text", key, class_=class_, x=_n(x), y=_n(free + 4)))
        free += _LABEL
    return labels


def _log_scale(values: Sequence[float], bottom: float, top: float) -> tuple[Place, list[tuple[float, str]]]:
    """A scale of logarithms, and ticks at 1, 2 and 5 times powers of ten within it."""
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)
    place = _linear(low, high, bottom, top)
    every = (1,) if high - low > 3 else (1, 2, 5)
    ticks = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in every]
    step = max(1, round((high - low) / 6)) if every == (1,) else 1
    within = [at for at in ticks if low <= math.log10(at) <= high][::step]
    return (lambda value: place(math.log10(value))), [(at, f"{at:g}") for at in within or [min(values)]]


def _share_scale(values: Sequence[float], bottom: float, top: float) -> tuple[Place, list[tuple[float, str]]]:
    """A scale of shares from a round number below the values to 1, and its ticks."""
    start, _ = share_axis(values)
    ticks = [start + (1 - start) * part / 4 for part in range(5)]
    return _linear(start, 1, bottom, top), [(at, f"{round(100 * at, 4):g} %") for at in ticks]


def _epoch_ticks(first: int, last: int) -> list[int]:
    """At most eight whole epochs, evenly spaced."""
    step = next(step for step in _steps() if (last - first) / step <= 7)
    return list(range(first, last + 1, step)) if step == 1 else [at for at in range(0, last + 1, step) if at >= first]


def _steps() -> Iterable[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
