"""Figures by matplotlib, which is an extra: makes them and saves them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastlenet.files import CheckpointError, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PlotError", "expect_plottable", "new_axes", "new_figure", "save_figure"]


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


def new_axes(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Returns a figure of pyplot, which notebooks show, and axes side by side in it. Raises PlotError as new_figure does."""
    with _importing():
        from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, count, figsize=(5 * count, 4), layout="constrained")
    return figure, list(axes)


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
