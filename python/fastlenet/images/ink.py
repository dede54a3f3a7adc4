"""From a picture to its ink: what differs from the paper, whatever the light, the colours and the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlenet.backend import Array

__all__ = ["Ink", "find_ink", "ink_level"]

_GRID = 96  # squares along the picture's longer side, on which light and paper are estimated
_WINDOW = 25  # squares: what is wider is paper, not a stroke
_BEYOND = 0.1  # of white: how far light may be above the brightest square, and below the darkest
_EVEN = 1  # squares over which the paper is smoothed: the edges of shadows stay
_FAINTEST = 0.06  # of the paper's brightness: what differs by less is no ink
_NOISE = 4.5  # standard deviations of the noise: what differs by less is no ink
_QUIET = 10  # standard deviations of the noise: where ink differs by more, no more smoothing is needed
_NOISE_LEFT = (0.375, 0.273, 0.226, 0.196)  # of white noise, after 1, 2, ... times _blurred: C(4n, 2n) / 16^n
_FULL = 0.9  # of the strongest ink: what differs from the paper by less is a half-tone
_FEWEST = 12  # pixels of the strongest ink, from which its level is found


@dataclass(frozen=True, eq=False)
class Ink:
    """density (h, w): 0 on paper, about 1 in the middle of a stroke. smooth: the same with less noise. strength: how much ink
    differs from paper, as a fraction of the brightest. clear: whether that is more than noise, so that there is ink at all.
    """

    density: Array
    smooth: Array
    strength: float
    clear: bool


def find_ink(pixels: Array) -> Ink:
    """The ink of a picture float32 (h, w, channels) in 0..1.

    The picture's border is paper; whether ink is darker or lighter is what differs most from it. The light on paper is
    divided out, that on a dark ground is subtracted.
    """
    gray = pixels @ _ink_axis(pixels)
    paper = _even_paper(gray)
    if paper is not None:
        return _drawn(gray, paper)
    light = _full_size(_fitted_light(_squares(gray)), gray.shape)
    darker = _tail(light - gray) >= _tail(gray - light)
    flat = 1 - gray / np.maximum(light, 0.1) if darker else gray - light
    flat = flat - _full_size(_floor(_squares(flat)), flat.shape)
    noise, smooth = _noise(flat), flat
    for share in _NOISE_LEFT:
        smooth = _blurred(smooth)
        level = ink_level(smooth)
        if level > _QUIET * share * noise:
            break
    clear = level > max(_FAINTEST, _NOISE * share * noise)
    level = max(level, 1e-6)
    return Ink(flat / level, smooth / level, level, clear)


def _even_paper(gray: Array) -> float | None:
    """The gray of the paper where a program drew the picture.

    It is exactly one value on most of the border and most of the picture, and most of the rest is full ink. There is nothing
    to estimate then, and the ink is exact. exports/page/figures.js computes the same in a browser.
    """
    border = np.concatenate((gray[0], gray[-1], gray[:, 0], gray[:, -1]))
    paper = np.partition(border, len(border) // 2)[len(border) // 2]
    away = np.abs(gray - paper)
    inked, full = np.count_nonzero(away), np.count_nonzero(away >= _FULL * away.max())
    even = 2 * np.count_nonzero(border == paper) > len(border) and 2 * inked < away.size
    return float(paper) if even and 2 * full >= inked else None


def _drawn(gray: Array, paper: float) -> Ink:
    """The ink on paper of one value."""
    darker = _tail(paper - gray) >= _tail(gray - paper)
    flat = (paper - gray) / max(paper, 0.1) if darker else gray - paper
    smooth = _blurred(flat)
    level = ink_level(smooth)
    clear = level > _FAINTEST
    level = max(level, 1e-6)
    return Ink(flat / level, smooth / level, level, clear)


def _ink_axis(pixels: Array) -> Array:
    """The weights of the channels, adding to 1, for which edges are strongest: gray in which no colour of ink vanishes.

    The principal axis of the differences between neighbours: slow changes of light and noise have no part in it.
    """
    channels = pixels.shape[2]
    if (pixels == pixels[:, :, :1]).all():  # gray, in however many channels: the first has it exactly
        return np.asarray(np.arange(channels) == 0, np.float32)
    steps = [np.diff(pixels, axis=axis).reshape(-1, channels) for axis in (0, 1)]
    moments = sum(step.T @ step for step in steps)
    axis = np.linalg.eigh(moments)[1][:, -1]
    axis = np.maximum(axis * np.sign(axis.sum() or 1), 0)
    weights = axis / axis.sum() if axis.sum() > 0 else np.full(channels, 1 / channels)
    return np.asarray(weights, np.float32)


def _squares(gray: Array) -> Array:
    """The means of squares, at most _GRID of them along a side."""
    side = -(-max(gray.shape) // _GRID)
    h, w = gray.shape
    padded = np.pad(gray, ((0, -h % side), (0, -w % side)), "edge")
    means: Array = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side).mean((1, 3))
    return means


def _full_size(squares: Array, shape: tuple[int, ...]) -> Array:
    """Values on squares, interpolated linearly at each pixel."""
    h, w = shape
    side = -(-max(h, w) // _GRID)
    if side == 1:
        return squares
    return np.asarray(_interpolated(_interpolated(squares, h, side).T, w, side).T)


def _interpolated(rows: Array, size: int, side: int) -> Array:
    """`size` rows between the middles of squares, constant beyond the outer ones."""
    place = np.clip((np.arange(size, dtype=np.float32) + 0.5) / side - 0.5, 0, len(rows) - 1)
    low = place.astype(int)
    share = (place - low)[:, None]
    high = np.minimum(low + 1, len(rows) - 1)
    return np.asarray(rows[low] * (1 - share) + rows[high] * share)


def _fitted_light(squares: Array) -> Array:
    """The light on the paper: a smooth surface of second degree, or a plane where that cannot be light, or one value."""
    h, w = squares.shape
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).reshape(6, -1)
    values = squares.reshape(-1).astype(np.float64)
    border = (np.maximum(np.abs(x), np.abs(y)) > 0.9).reshape(-1)
    for count in (6, 3, 1):
        fitted = _through_paper(terms[:count], values, border)
        # Light is not brighter than all that it falls on. Where ink fills the picture, a surface bends through the ink.
        if fitted.max() < values.max() + _BEYOND and fitted.min() > values.min() - _BEYOND:
            break
    return np.asarray(fitted.reshape(h, w), np.float32)


def _through_paper(terms: Array, values: Array, border: Array) -> Array:
    """The sum of terms (k, n) that fits the values (n,) on the border, and then all values near it, best."""
    fitted = np.full_like(values, np.median(values[border]))
    trusted = border
    for turn in range(8):
        away = np.abs(values - fitted)
        scale = max(0.01, 2 * float(np.median(away[trusted])))
        weighted = terms * (trusted / (1 + (away / scale) ** 2))
        # The normal equations: 6x6, where a large system would wake all threads of NumPy's library for little work.
        moments = np.einsum("in,jn->ij", weighted, terms)
        fitted = np.linalg.lstsq(moments, np.einsum("in,n->i", weighted, values), rcond=1e-12)[0] @ terms
        if turn == 3:
            trusted = np.ones_like(border)
    return fitted


def _tail(values: Array) -> float:
    """How much lies far above zero."""
    above = np.maximum(values, 0)
    return float((above * above * above).mean())


def _floor(squares: Array) -> Array:
    """The level from which ink rises: a morphological opening, whose window no stroke fills, smoothed."""
    window = _WINDOW
    low = _windows(squares, window).min(-1)
    low = _windows(low.T, window).min(-1).T
    high = _windows(low, window).max(-1)
    high = _windows(high.T, window).max(-1).T
    mean = _windows(high, _EVEN).mean(-1)
    return np.asarray(_windows(mean.T, _EVEN).mean(-1).T, np.float32)


def _windows(values: Array, window: int) -> Array:
    """Each value's neighbours along the last axis, as another axis."""
    window |= 1
    padded = np.pad(values, ((0, 0), (window // 2, window // 2)), "edge")
    return np.lib.stride_tricks.sliding_window_view(padded, window, axis=1)


def _noise(gray: Array) -> float:
    """The standard deviation of noise between neighbours: Immerkaer 1996, by the median, which edges do not move."""
    if min(gray.shape) < 3:
        return 0.0
    curved = gray[:-2] - 2 * gray[1:-1] + gray[2:]
    curved = curved[:, :-2] - 2 * curved[:, 1:-1] + curved[:, 2:]
    return float(np.median(np.abs(curved))) / (0.6745 * 6)


def _blurred(gray: Array) -> Array:
    """Weights 1 2 1 along both axes."""
    framed = np.pad(gray, 1, "edge")
    rows = framed[:-2] + 2 * framed[1:-1] + framed[2:]
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16)


def ink_level(smooth: Array) -> float:
    """The mean of ink: of what lies above half of that mean (Ridler and Calvard 1978), begun at the strongest pixels.

    Unlike Otsu's threshold it does not depend on how much paper there is around. smooth: float32. The sums in float64 are
    exact, so their order does not matter.
    """
    flat = smooth.reshape(-1)
    fewest = min(_FEWEST, flat.size)
    level = float(np.partition(flat, -fewest)[-fewest])
    for _ in range(50):
        above = flat[flat > level / 2]
        before, level = level, float(above.mean(dtype=np.float64)) if above.size else 0.0
        if abs(level - before) < 1e-4:
            break
    return level
