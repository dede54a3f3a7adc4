"""The trials of a search, of the lines of its file: a table, and a picture."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastlenet.distributed.results import Results
from fastlenet.distributed.searches.space import Space, Value
from fastlenet.distributed.task import Outcome
from fastlenet.training.recipe import Recipe

__all__ = ["Trial", "Trials", "trials_of"]


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried. number: counted from 0. fields: those that the search chose. recipe: of its last rung, with seed
    0. rung: how far halving let it go.

    runs: those of its last rung; earlier ones had fewer epochs, or are among them.
    """

    number: int
    fields: Mapping[str, Value]
    recipe: Recipe
    rung: int
    runs: Sequence[Outcome]

    def _mean(self, name: str, without: float) -> float:
        values = [getattr(run, name) for run in self.runs]
        return statistics.mean(values) if all(value is not None for value in values) else without

    @property
    def accuracy(self) -> float:
        """The mean accuracy on the validation images, a fraction; 0 if a run diverged."""
        return self._mean("accuracy", 0.0)

    @property
    def deviation(self) -> float:
        """The standard deviation of the accuracies (over n - 1); 0 for a single run."""
        values = [run.accuracy for run in self.runs if run.accuracy is not None]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    @property
    def loss(self) -> float:
        """The mean loss on the validation images; infinite if a run diverged."""
        return self._mean("loss", math.inf)

    @property
    def diverged(self) -> int:
        """The number of runs that diverged."""
        return sum(bool(run.diverged) for run in self.runs)

    def score(self, metric: str) -> float:
        """Returns what the trials are compared by: the higher, the better."""
        return self.accuracy if metric == "accuracy" else -self.loss


@dataclass(frozen=True)
class Trials:
    """All trials of a search: those that went furthest first, of these the best first. space: what they were chosen from."""

    space: Space
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        """The best of the trials that went furthest. Raises ValueError if there are none."""
        if not self.trials:
            raise ValueError("search: no trial is finished")
        return self.trials[0]

    def _names(self) -> list[str]:
        """The fields that vary."""
        return sorted({name for trial in self.trials for name in trial.fields} or {"lr"})

    def table(self, most: int | None = None) -> str:
        """Returns the trials as text, a line each. most: the number of lines."""
        names = self._names()
        rows = [["trial", *names, "runs", "accuracy", "loss"]]
        for trial in self.trials[:most]:
            cells = [str(getattr(trial.recipe, name)) for name in names]
            runs = f"{len(trial.runs)}" + (f", {trial.diverged} diverged" if trial.diverged else "")
            rows.append(
                [str(trial.number), *cells, runs, f"{trial.accuracy:.3%} ± {100 * trial.deviation:.3f}", f"{trial.loss:.5f}"]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.rjust(wide) for cell, wide in zip(row, widths, strict=True)) for row in rows)

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw each field against the accuracy, a point for each trial, and write the picture. Raises PlotError."""
        from fastlenet.training.figures import new_figure, save_figure

        figure = new_figure()
        names = self._names()
        columns = min(3, len(names))
        rows = math.ceil(len(names) / columns)
        figure.set_size_inches(4.5 * columns, 3.4 * rows)
        shown = [trial for trial in self.trials if not trial.diverged]
        rungs = [trial.rung for trial in shown]
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, names, strict=False):
            of = self.space.ranges.get(name)
            places, words = _places([getattr(trial.recipe, name) for trial in shown])
            axis.errorbar(
                places, [100 * t.accuracy for t in shown], [100 * t.deviation for t in shown], fmt="none", ecolor="0.8"
            )
            points = axis.scatter(places, [100 * trial.accuracy for trial in shown], c=rungs, cmap="viridis", vmin=0, zorder=2)
            axis.set(xlabel=name, ylabel="validation accuracy, %")
            if words:
                axis.set_xticks(range(len(words)), words)
            elif of is not None and of.log:
                axis.set_xscale("log")
            elif isinstance(getattr(Recipe(), name), int):
                axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        if max(rungs, default=0):
            figure.colorbar(points, ax=list(axes), label="rung", ticks=range(max(rungs) + 1))
        save_figure(figure, path)


def _places(values: Sequence[Value]) -> tuple[list[float], list[str]]:
    """Where values lie on an axis; and its labels, if they are words or switches."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], []
    words = sorted(set(map(str, values)))
    return [float(words.index(str(value))) for value in values], words


def trials_of(results: Results, space: Space) -> Trials:
    """Returns the trials of the lines of a search, each with the runs of its last rung."""
    runs: dict[tuple[int, Recipe], dict[int, list[Outcome]]] = {}
    chosen: dict[tuple[int, Recipe], Mapping[str, Value]] = {}
    for outcome, extra in zip(results.outcomes, results.extras, strict=True):
        number, rung, given = extra.get("trial"), extra.get("rung"), extra.get("fields")
        if isinstance(number, int) and isinstance(rung, int) and isinstance(given, dict):
            key = number, replace(outcome.recipe, seed=0, epochs=1)  # another space may have had a trial of that number
            runs.setdefault(key, {}).setdefault(rung, []).append(outcome)
            chosen[key] = given
    trials = []
    for key, by_rung in runs.items():
        recipe = replace(by_rung[max(by_rung)][0].recipe, seed=0)
        counted = [run for of in by_rung.values() for run in of if run.recipe.epochs == recipe.epochs]
        trials.append(Trial(key[0], chosen[key], recipe, max(by_rung), sorted(counted, key=lambda run: run.seed)))
    trials.sort(key=lambda trial: (-trial.rung, -trial.score(space.metric), trial.number))
    return Trials(space, trials)
