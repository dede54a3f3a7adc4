"""The results of a run: the numbers of its epochs, as a table and as a picture too."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from fastlenet.training.recipe import Recipe

__all__ = ["METRICS", "Epoch", "History"]

# What an epoch is judged by: Keras's names.
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch. Accuracies are fractions.

    epoch: its number, from 1. loss, accuracy: means over the training images. Each step computes them on its batch before it
    changes the weights, with augmentation and dropout. val_loss, val_accuracy: of the validation images after the epoch, or of
    the test images if there are no validation images; None if not evaluated. seconds, images_per_second: of training, without
    evaluation.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float

    def __str__(self) -> str:
        """The numbers in a line."""
        metrics = [f"{name} {text}" for name in METRICS if (text := _shown(name, getattr(self, name)))]
        return "   ".join([*metrics, f"{self.seconds:.2f} s", f"{self.images_per_second:,.0f} images/s"])


@dataclass(repr=False)
class History:
    """The epochs of a run, and how it ended.

    stopped: why the run ended before its last epoch, or "" if it did not. interrupted: whether Ctrl-C stopped it. recipe: the
    recipe of the run, or None if it is not known.

        >>> from fastlenet.training.history import Epoch, History
        >>> history = History([Epoch(1, 0.65, 0.80, 0.07, 0.98, 3.6, 16498.0), Epoch(2, 0.35, 0.90, 0.03, 0.99, 2.7, 21644.0)])
        >>> history.history["val_accuracy"]
        [0.98, 0.99]
        >>> history
        History(2 epochs, loss 0.3500, accuracy 90.00%, val_loss 0.0300, val_accuracy 99.00%)
    """

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False
    recipe: Recipe | None = None

    @property
    def note(self) -> str:
        """A sentence on what the loss of the training images contains and that of the others does not, or ""."""
        if self.recipe is None or not (added := self.recipe.added_to_loss):
            return ""
        words = added[0] if len(added) == 1 else f"{', '.join(added[:-1])} and {added[-1]}"
        return f"loss includes {words}. val_loss does not, so loss usually lies above it."

    @property
    def history(self) -> dict[str, list[float]]:
        """The numbers of the epochs by the keys of Keras: "loss", "accuracy", and, if any epoch was evaluated, "val_loss" and
        "val_accuracy", which are NaN for the other epochs.
        """
        columns = {name: [_number(getattr(epoch, name)) for epoch in self.epochs] for name in METRICS}
        return {name: values for name, values in columns.items() if not all(map(math.isnan, values)) or name in METRICS[:2]}

    def to_frame(self) -> pandas.DataFrame:
        """Returns a pandas DataFrame with a row for each epoch, indexed by its number, from 1. The columns are those of
        `history`, "seconds" and "images_per_second". Raises ImportError if pandas is missing.
        """
        try:
            from pandas import DataFrame, Index
        except ImportError as error:
            raise ImportError(f"History.to_frame needs pandas ({error}); pip install 'fastlenet[pandas]'") from None
        columns = self.history | {
            name: [getattr(epoch, name) for epoch in self.epochs] for name in ("seconds", "images_per_second")
        }
        return DataFrame(columns, index=Index([epoch.epoch for epoch in self.epochs], name="epoch"))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Sequence[Axes]:
        """Draw the losses and the accuracies over the epochs, side by side, with matplotlib.pyplot. Returns the two axes.

        Each curve has its name at its end. If the recipe has label smoothing, dropout or distorted images, a note says that the
        training loss includes them. path: a file for the picture, such as "history.png", .svg or .pdf. Raises PlotError if
        matplotlib is missing.
        """
        from fastlenet.training.figures import COLOURS, add_note, as_epochs, new_axes, save_figure

        figure, axes = new_axes(2)
        numbers = [epoch.epoch for epoch in self.epochs]
        for name, values in self.history.items():
            axes[int("accuracy" in name)].plot(numbers, values, marker="o", label=name, color=COLOURS[name])
        add_note(figure, self.note)
        as_epochs(figure, *axes)
        if path is not None:
            save_figure(figure, path)
        return axes

    def __repr__(self) -> str:
        count = len(self.epochs)
        words = ["1 epoch" if count == 1 else f"{count} epochs"]
        if self.epochs:
            words += [f"{name} {text}" for name in METRICS if (text := _shown(name, getattr(self.epochs[-1], name)))]
        return f"History({', '.join(words)}{self.stopped and f'; stopped: {self.stopped}'})"

    def _repr_html_(self) -> str:
        """A table of the epochs, for notebooks."""
        names = ("epoch", *self.history, "seconds")
        rows = ["".join(f"<td>{_shown(name, getattr(epoch, name))}</td>" for name in names) for epoch in self.epochs]
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        end = f"<p>stopped: {escape(self.stopped)}</p>" if self.stopped else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{end}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shown(name: str, value: float | None) -> str:
    """A number of an epoch, rounded for a reader, or "" for None."""
    if value is None:
        return ""
    if name == "epoch":
        return str(value)
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:.2f}" if name == "seconds" else f"{value:.4f}"
