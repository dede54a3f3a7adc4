"""Figures by matplotlib, which is an extra: makes them and saves them."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastlenet.files import CheckpointError, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "PlotError",
    "add_note",
    "as_epochs",
    "expect_plottable",
    "label_ends",
    "new_axes",
    "new_figure",
    "new_panels",
    "save_figure",
]

# Of the training images, and of those that the network is judged by. Okabe and Ito's blue and vermilion, the latter darker,
# so that text in it is readable; people who do not see all colours can tell them apart.
COLOURS = {"loss": "#0072b2", "accuracy": "#0072b2", "val_loss": "#b34700", "val_accuracy": "#b34700"}
_LINE = 1.25  # the distance of two lines of text, over the size of the font
_NOTE_WIDTH = 110  # letters


class PlotError(CheckpointError):
    """A plot cannot be drawn. The message is one line with the cure."""


@contextmanager
def _importing() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise PlotError(f"a plot needs matplotlib ({error}); pip install 'fastlenet[plot]'") from None
    except Exception as error:  # a wrong configuration, such as MPLBACKEND
        raise PlotError(f"a plot needs matplotlib, which cannot be imported ({_first_line(error)})") from None


def new_figure() -> Figure:
    """Returns an empty figure for a file. Raises PlotError if matplotlib is missing or cannot be imported."""
    with _importing():
        from matplotlib import figure
    return figure.Figure(figsize=(8, 4.5), layout="constrained")


def new_panels() -> tuple[Figure, Axes, Axes]:
    """Returns an empty figure for a file, and in it the axes of the losses and those of the accuracies, side by side. Raises
    PlotError as new_figure does.
    """
    figure = new_figure()
    figure.set_size_inches(10, 4)
    losses, accuracies = figure.subplots(1, 2)
    return figure, losses, accuracies


def new_axes(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Returns a figure of pyplot, which notebooks show, and axes side by side in it. Raises PlotError as new_figure does."""
    with _importing():
        from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, count, figsize=(5 * count, 4), layout="constrained")
    return figure, list(axes)


def as_epochs(figure: Figure, losses: Axes, accuracies: Axes) -> None:
    """Finish the two axes of a training's curves: whole epochs below, and each curve's name at its end."""
    from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter  # which new_figure has found

    if losses.get_yscale() == "log":
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axes, what in ((losses, "loss"), (accuracies, "accuracy")):
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        label_ends(figure, axes)


def label_ends(figure: Figure, axes: Axes) -> None:
    """Write the label of each labelled line to the right of the axes, at the height of its last point and in its colour.

    Nothing is drawn there, so no label covers a line. Labels of lines that end near each other are moved apart.
    """
    from matplotlib.font_manager import FontProperties

    figure.draw_without_rendering()  # so that heights are known
    ends = []
    for line in axes.lines:
        given = np.asarray(line.get_ydata(), np.float64)
        heights = given[np.isfinite(given)].tolist()
        if heights and not str(line.get_label()).startswith("_"):
            ends.append((axes.transData.transform((0.0, heights[-1]))[1] * 72 / figure.dpi, heights[-1], line))
    ends.sort(key=lambda end: end[0])
    least = -math.inf
    for at, height, line in ends:
        moved = max(at, least)
        least = moved + _LINE * FontProperties().get_size_in_points()
        axes.annotate(
            str(line.get_label()),
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(6, moved - at),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )


def add_note(figure: Figure, note: str) -> None:
    """Write a note below the axes, if there is one."""
    if note:
        text = "\n".join(textwrap.wrap(note, _NOTE_WIDTH))
        figure.supxlabel(text, x=0.01, ha="left", fontsize="small", color="#555555")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def expect_plottable(path: str | os.PathLike[str]) -> None:
    """Check before hours of work that a plot can be drawn. Raises PlotError without matplotlib or for an unknown suffix."""
    known = new_figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise PlotError(f"{path}: the name of a plot expects one of the endings {', '.join(sorted(known))}")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file as a whole. Raises PlotError if it cannot be drawn, CheckpointError if it cannot be written."""
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=150)
    except Exception as error:  # matplotlib reads fonts and a configuration, and may raise anything
        raise PlotError(f"{path}: cannot be drawn ({_first_line(error)})") from None
    write_atomically(path, picture.getvalue())
