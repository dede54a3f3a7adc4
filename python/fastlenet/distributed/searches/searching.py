"""A search: trains each trial with several seeds on the validation split, and lets the better ones go further."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from fastlenet.distributed.results import Results, opened, read
from fastlenet.distributed.runs import about, run_all, threads_of
from fastlenet.distributed.searches.space import Space, Value
from fastlenet.distributed.searches.trials import Trials, trials_of
from fastlenet.distributed.source import Source
from fastlenet.distributed.task import Outcome, Task
from fastlenet.files import CheckpointError, shown_path
from fastlenet.training.recipe import Recipe

__all__ = ["facts_of", "read_trials", "search", "search_into"]


@dataclass(frozen=True)
class Rung:
    """A round of successive halving. trials: how many go on to it; share: of the seeds or epochs that each gets."""

    trials: int
    share: float


def rungs(space: Space, trials: int, epochs: int) -> list[Rung]:
    """The rounds: each has a part of the trials of the one before, and more seeds or epochs, up to all."""
    factor = space.halving
    if not factor or trials < 2:
        return [Rung(trials, 1.0)]
    most = space.seeds if space.resource == "seeds" else epochs
    count = 0
    while factor ** (count + 1) <= min(trials, most):
        count += 1
    return [Rung(max(1, trials // factor**number), factor ** (number - count)) for number in range(count + 1)]


def facts_of(space: Space) -> dict[str, object]:
    """What holds for all runs of a search's file, with the space itself. Raises DataError or FieldError."""
    source = _source(space)
    return about("search", source, source.load(), space.network)


def _source(space: Space) -> Source:
    return Source.of(space.data, validation=space.validation)


def search(
    space: Space | Mapping[str, object] | str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    threads: int | None = None,
    results: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
) -> Trials:
    """Search a space of recipes: train trials with several seeds, and judge them on the validation split.

    space: a Space, a mapping with the same names, or the name of a TOML or JSON file. results: a file to which each run is
    appended as soon as it is done; runs that it has are not repeated, so more trials or seeds can be added later. The other
    arguments and the errors are those of speedrun. Returns the trials, the best first.

        >>> from fastlenet.distributed import search
        >>> space = {"recipe": "fast", "data": "digits", "validation": 400, "trials": 2, "seeds": 1}
        >>> found = search(space | {"fields": {"lr": {"low": 0.01, "high": 0.1, "log": True}}}, verbose=0)
        >>> [trial.number for trial in found.trials] in ([0, 1], [1, 0]) and 0.01 <= found.best.recipe.lr <= 0.1
        True
    """
    if not isinstance(space, Space):
        space = Space.of(space) if isinstance(space, Mapping) else Space.read(space)
    with opened(results, facts_of(space), space=space.as_mapping()) as kept:
        return search_into(kept, space, executor, threads=threads, verbose=verbose)


def search_into(
    results: Results, space: Space, executor: Executor | None, *, threads: int | None, verbose: int | str
) -> Trials:
    """The same as search, for a file of runs that is open already."""
    count = threads_of(threads, executor)
    if space.sampler == "optuna":
        from fastlenet.distributed.searches.optuna_sampler import search_by_optuna

        search_by_optuna(results, space, executor, _source(space), threads=count, verbose=verbose)
    else:
        _search_by_rungs(results, space, executor, count, verbose)
    return trials_of(results, space)


def _search_by_rungs(results: Results, space: Space, executor: Executor | None, threads: int, verbose: int | str) -> None:
    chosen: dict[int, Mapping[str, Value]] = dict(enumerate(space.samples()))
    recipes = {number: space.recipe_of(trial) for number, trial in chosen.items()}
    source, fingerprint = _source(space), str(results.about["fingerprint"])
    going_on = _distinct(recipes)
    for number, rung in enumerate(rungs(space, len(going_on), min(recipe.epochs for recipe in recipes.values()))):
        going_on = going_on[: rung.trials]
        entries: dict[Recipe, Mapping[str, object]] = {}
        for trial in going_on:
            for recipe in _runs_of(space, recipes[trial], rung):
                entries[recipe] = {"trial": trial, "rung": number, "fields": chosen[trial]}
        tasks = [Task(recipe, source, fingerprint, space.network, threads) for recipe in entries]
        outcomes = run_all(tasks, executor, results, verbose=verbose, extra=entries)
        found = {run.recipe: run for run in outcomes}
        scores = {trial: _score([found[one] for one in _runs_of(space, recipes[trial], rung)], space) for trial in going_on}
        going_on.sort(key=lambda trial: (-scores[trial], trial))


def _score(runs: Sequence[Outcome], space: Space) -> float:
    """The mean by which trials are compared: the higher, the better; minus infinity if a run diverged."""
    values = [run.accuracy if space.metric == "accuracy" else run.loss for run in runs]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return -math.inf
    return statistics.mean(numbers) * (1 if space.metric == "accuracy" else -1)


def _distinct(recipes: Mapping[int, Recipe]) -> list[int]:
    """The trials, without those that repeat an earlier one."""
    first: dict[Recipe, int] = {}
    for number, recipe in recipes.items():
        first.setdefault(recipe, number)
    return sorted(first.values())


def _runs_of(space: Space, recipe: Recipe, rung: Rung) -> Sequence[Recipe]:
    """The runs of a trial in a rung: its recipe with each seed."""
    if space.resource == "seeds":
        seeds = max(1, int(space.seeds * rung.share + 1e-9))
        return [replace(recipe, seed=seed) for seed in range(seeds)]
    epochs = max(1, int(recipe.epochs * rung.share + 1e-9))
    return [replace(recipe, seed=seed, epochs=epochs) for seed in range(space.seeds)]


def read_trials(path: str | os.PathLike[str]) -> Trials:
    """Returns the trials in the file of a search, finished or not. Raises CheckpointError."""
    results = read(path)
    if results.about.get("kind") != "search":
        raise CheckpointError(f"{shown_path(path)}: not the file of a search")
    return trials_of(results, Space.of(results.about.get("space")))
