"""A search that Optuna drives: it chooses the next trial by the results of those before, and prunes the worse ones."""

from __future__ import annotations

import statistics
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlenet.distributed.progress import Progress
from fastlenet.distributed.results import Results
from fastlenet.distributed.scheduling import Here, RunError, completed
from fastlenet.distributed.searches.space import Range, Space, Value
from fastlenet.distributed.searches.trials import trials_of
from fastlenet.distributed.source import Source
from fastlenet.distributed.task import Outcome, Task
from fastlenet.training.recipe import Recipe

if TYPE_CHECKING:
    import optuna

__all__ = ["search_by_optuna"]

_SLOTS = 8  # trials at a time, for an Executor that does not say how many workers it has


def search_by_optuna(
    results: Results, space: Space, executor: Executor | None, source: Source, *, threads: int, verbose: int | str
) -> None:
    """Do the trials that the results do not have yet. Raises RunError without Optuna."""
    executor = Here() if executor is None else executor
    slots = getattr(executor, "slots", None) or _SLOTS
    study = _Study(
        results, space, lambda recipe: Task(recipe, source, str(results.about["fingerprint"]), space.network, threads)
    )
    with closing(Progress(executor, None, results.outcomes, verbose=verbose)) as progress:
        for _, outcome in completed(executor, study, slots=slots, tell=progress.warn, tick=progress.tick):
            progress.finished(outcome, study.tell(outcome, is_new=True))


class _Study:
    """The study, as an iterator of tasks: it stops where there is none for now, and goes on after `tell`."""

    def __init__(self, results: Results, space: Space, task: Callable[[Recipe], Task]) -> None:
        self._results, self._space, self._task = results, space, task
        self._found = {outcome.recipe: outcome for outcome in results.outcomes}
        self._trials: dict[Recipe, tuple[optuna.Trial, Mapping[str, Value], list[Outcome]]] = {}  # by recipe without its seed
        self._ready: deque[Task] = deque()
        before = sorted(trials_of(results, space).trials, key=lambda trial: trial.number)
        # The same seed would choose the same values again, which are in the file.
        self._study, self._fail, self._prune = _create(space, space.seed + len(before))
        self._given = deque(dict(fields) for fields in [trial.fields for trial in before] or space.listed)
        self._left = len(space.listed) + space.trials

    def __iter__(self) -> _Study:
        return self

    def __next__(self) -> Task:
        while not self._ready and self._left:
            self._ask()
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def _ask(self) -> None:
        self._left -= 1
        fields: dict[str, Value] = self._given.popleft() if self._given else {}
        if fields:
            self._study.enqueue_trial(fields)
        trial = self._study.ask()
        ranges = {name: of for name, of in self._space.ranges.items() if not fields or name in fields}
        fields |= {name: _suggest(trial, name, of) for name, of in ranges.items()}
        recipe = replace(self._space.recipe_of(fields), seed=0)
        if recipe in self._trials:  # the same values again
            self._study.tell(trial, state=self._prune)
            return
        self._trials[recipe] = trial, fields, []
        self._next_run(recipe)

    def _next_run(self, recipe: Recipe) -> None:
        """Hand out the next seed of a trial, or take its result from the file."""
        run = replace(recipe, seed=len(self._trials[recipe][2]))
        if run in self._found:
            self.tell(self._found[run], is_new=False)
        else:
            self._ready.append(self._task(run))

    def tell(self, outcome: Outcome, *, is_new: bool) -> int:
        """Take the outcome of a run: the trial goes on with another seed, is finished, or pruned. Returns its number."""
        recipe = replace(outcome.recipe, seed=0)
        trial, fields, runs = self._trials[recipe]
        if is_new:
            self._results.append(outcome, trial=trial.number, rung=0, fields=dict(fields))
        runs.append(outcome)
        values = [run.accuracy if self._space.metric == "accuracy" else run.loss for run in runs]
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(values):
            self._study.tell(trial, state=self._fail)
        else:
            self._judge(trial, recipe, statistics.mean(numbers))
        return int(trial.number)

    def _judge(self, trial: optuna.Trial, recipe: Recipe, mean: float) -> None:
        """End a trial, or go on with it."""
        count = len(self._trials[recipe][2])
        trial.report(mean, count)
        if count == self._space.seeds:
            self._study.tell(trial, mean)
        elif self._space.halving and trial.should_prune():
            self._study.tell(trial, state=self._prune)
        else:
            self._next_run(recipe)


def _create(space: Space, seed: int) -> tuple[optuna.Study, optuna.trial.TrialState, optuna.trial.TrialState]:
    """The study, and the states of a trial that failed and of one that was pruned."""
    try:
        import optuna
    except ImportError as error:
        raise RunError(f"sampler optuna needs Optuna ({error}); pip install 'fastlenet[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about arguments that Optuna may still change
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=max(2, space.halving))
    pruner = halving if space.halving else optuna.pruners.NopPruner()
    direction = "maximize" if space.metric == "accuracy" else "minimize"
    study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
    return study, optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED


def _suggest(trial: optuna.Trial, name: str, of: Range) -> Value:
    value: Value
    if of.choices:
        value = trial.suggest_categorical(name, of.choices)
    elif of.whole:
        value = trial.suggest_int(name, int(of.low), int(of.high), step=int(of.step) or 1, log=of.log)
    else:
        value = trial.suggest_float(name, of.low, of.high, step=of.step or None, log=of.log)
    return value
