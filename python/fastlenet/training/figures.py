"""Pictures by matplotlib, an extra: a figure to draw in, and a file of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from fastlenet.files import CheckpointError, write_atomically

__all__ = ["PlotError", "expect_plottable", "new_figure", "save_figure"]


class PlotError(CheckpointError):
    """A plot that cannot be drawn; one line that says what to do."""


def new_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(f"a plot needs matplotlib ({error}); pip install 'fastlenet[plot]'") from None
    except Exception as error:  # of a configuration that makes no sense, as MPLBACKEND
        raise PlotError(f"a plot needs matplotlib, which cannot be imported ({_first_line(error)})") from None
    return Figure(figsize=(8, 4.5), layout="constrained")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def expect_plottable(path: str | os.PathLike[str]) -> None:
    """PlotError, before hours of work, if matplotlib is missing or does not know the file's ending."""
    known = new_figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise PlotError(f"{path}: the name of a plot expects one of the endings {', '.join(sorted(known))}")


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=150)
    except Exception as error:  # matplotlib, which reads fonts and a configuration, raises what it pleases
        raise PlotError(f"{path}: cannot be drawn ({_first_line(error)})") from None
    write_atomically(path, picture.getvalue())
