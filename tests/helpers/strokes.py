"""Digits as a hand draws them: strokes, each a list of places in fractions of the drawing area, right and down."""

from __future__ import annotations

from math import cos, pi, sin

__all__ = ["DIGITS"]

Strokes = tuple[tuple[tuple[float, float], ...], ...]


def _round(
    middle: tuple[float, float], reach: tuple[float, float], start: float, turns: float
) -> tuple[tuple[float, float], ...]:
    """Places on an ellipse. start: where it begins, in turns from the top, clockwise; turns: how far it goes."""
    count = max(6, round(24 * abs(turns)))
    angles = [2 * pi * (start + turns * step / count) for step in range(count + 1)]
    return tuple((middle[0] + reach[0] * sin(angle), middle[1] - reach[1] * cos(angle)) for angle in angles)


DIGITS: dict[int, Strokes] = {
    0: (_round((0.5, 0.5), (0.22, 0.34), 0.02, -1.0),),
    1: (((0.42, 0.27), (0.54, 0.15), (0.53, 0.4), (0.51, 0.62), (0.5, 0.86)),),
    2: ((*_round((0.48, 0.34), (0.2, 0.19), -0.2, 0.55), (0.5, 0.62), (0.38, 0.74), (0.27, 0.84), (0.5, 0.82), (0.75, 0.83)),),
    3: ((*_round((0.47, 0.31), (0.19, 0.17), -0.2, 0.65), *_round((0.47, 0.66), (0.22, 0.19), 0.02, 0.7)),),
    4: (((0.37, 0.15), (0.33, 0.34), (0.27, 0.53), (0.5, 0.53), (0.74, 0.51)), ((0.61, 0.3), (0.6, 0.56), (0.58, 0.86))),
    5: (
        ((0.34, 0.16), (0.32, 0.3), (0.31, 0.45), *_round((0.46, 0.64), (0.21, 0.21), -0.04, 0.7)),
        ((0.34, 0.16), (0.52, 0.16), (0.7, 0.14)),
    ),
    6: (((0.62, 0.14), (0.46, 0.28), (0.35, 0.48), *_round((0.49, 0.66), (0.18, 0.19), -0.25, -1.0)),),
    7: (((0.25, 0.2), (0.5, 0.19), (0.74, 0.17), (0.62, 0.4), (0.53, 0.62), (0.46, 0.87)),),
    8: (
        (
            *_round((0.5, 0.32), (0.15, 0.17), 0.1, -0.75),
            *_round((0.5, 0.68), (0.19, 0.19), 0.05, 0.95),
            (0.55, 0.46),
            (0.63, 0.38),
        ),
    ),
    9: ((*_round((0.49, 0.34), (0.17, 0.19), 0.2, -1.0), (0.65, 0.44), (0.62, 0.66), (0.56, 0.86)),),
}
