"""Looks at figures of matplotlib."""

from __future__ import annotations

from typing import Any


def overlaps(figure: Any) -> list[str]:
    """The texts and legends that lie on a line of any axes, or on each other."""
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in [*axes.texts, *([axes.get_legend()] if axes.get_legend() else [])]]
    boxes = [(text, text.get_window_extent()) for text in [*texts, *figure.legends]]
    found = []
    for number, (text, box) in enumerate(boxes):
        for axes in figure.axes:
            for line in axes.lines:
                path = line.get_transform().transform_path(line.get_path())
                if path.intersects_bbox(box, filled=False):
                    found.append(f"{text} on {line}")
        found += [f"{text} on {other}" for other, box_of_other in boxes[:number] if box.overlaps(box_of_other)]
    return found
