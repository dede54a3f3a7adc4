"""A recipe over many seeds, on any Executor: its accuracy, and its networks as an ensemble."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

import numpy as np

from fastlenet import ops
from fastlenet.config import THREADS, config, get_num_threads
from fastlenet.data import Dataset
from fastlenet.distributed.progress import Progress, spread
from fastlenet.distributed.results import Results, opened
from fastlenet.distributed.scheduling import Here, RunError, completed
from fastlenet.distributed.source import Source, checksum
from fastlenet.distributed.task import Outcome, Task
from fastlenet.fields import FieldTypeError, FieldValueError, Values, integer
from fastlenet.models import NETWORKS
from fastlenet.models.ensemble import Ensemble
from fastlenet.nn import Sequential
from fastlenet.training.ensemble import expect_seeds
from fastlenet.training.recipe import Recipe, named_recipe
from fastlenet.training.trainer import Trainer

__all__ = [
    "Runs",
    "about",
    "expect_none_diverged",
    "model_of",
    "recipe_of",
    "run_all",
    "seeds_of",
    "speedrun",
    "tasks_of",
    "threads_of",
    "train_ensemble",
]

Data = str | os.PathLike[str] | Dataset


@dataclass(frozen=True)
class Runs:
    """The runs of a recipe, in the order of their seeds. Accuracies are fractions, and may be pooled over hosts.

    runs: an Outcome for each seed.
    """

    runs: tuple[Outcome, ...]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each seed."""
        return [run.accuracy for run in self.runs if run.accuracy is not None]

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return statistics.mean(self.accuracies)

    @property
    def deviation(self) -> float:
        """The standard deviation of the sample (over n - 1) of the accuracies; 0 for a single run."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    @property
    def lowest(self) -> float:
        """The lowest accuracy."""
        return min(self.accuracies)

    def share_at(self, target: float) -> float:
        """Returns the share of the seeds that reach this accuracy, a fraction."""
        return sum(accuracy >= target for accuracy in self.accuracies) / len(self.accuracies)

    def seconds_by_host(self) -> dict[str, dict[str, float]]:
        """Returns the number of runs of each host, its threads, and the median of their seconds of data, training and
        evaluation. Times of different hosts are not averaged, because they measure different machines.
        """
        hosts: dict[str, list[Outcome]] = {}
        for run in self.runs:
            hosts.setdefault(f"{run.host}, {run.cpu}, {run.threads} threads", []).append(run)
        return {
            host: {"runs": len(runs)}
            | {part: statistics.median(run.seconds.get(part, 0.0) for run in runs) for part in runs[0].seconds}
            for host, runs in sorted(hosts.items())
        }

    def __str__(self) -> str:
        return f"{len(self.runs)} runs, accuracy {spread(self.accuracies)}"


def recipe_of(recipe: str | Recipe) -> Recipe:
    """A recipe, or the one of a name. Raises FieldTypeError or FieldValueError."""
    if isinstance(recipe, str):
        return named_recipe(recipe)
    if not isinstance(recipe, Recipe):
        raise FieldTypeError("recipe", recipe, "a Recipe, or the name of one")
    return recipe


def seeds_of(recipe: Recipe, seeds: int | Iterable[int]) -> list[int]:
    """The seeds: a number of them, counted from the recipe's, or these. Raises FieldTypeError or FieldValueError."""
    if isinstance(seeds, Iterable):
        listed = [Values(int, "seeds in 0..2^64-1", 0, 2**64 - 1).convert("seeds", seed) for seed in seeds]
        if not listed or len(set(listed)) < len(listed):
            raise FieldValueError("seeds", listed, "at least one seed, each once")
        return listed
    count = integer("seeds", seeds, 1)
    expect_seeds(recipe, count)
    return list(range(recipe.seed, recipe.seed + count))


def threads_of(threads: int | None, executor: Executor | None) -> int:
    """The threads of each run: as given, or one on workers, which share a machine, and those of this process without them."""
    if threads is not None:
        return THREADS.convert("threads", threads)
    return get_num_threads() if executor is None else 1


def about(kind: str, source: Source, data: Dataset, network: str) -> dict[str, object]:
    """What holds for all runs of a file of results: see Results."""
    facts = config()
    return {
        "kind": kind,
        "version": facts["version"],
        "level": facts["level"],
        "data": data.name,
        "fingerprint": checksum(data),
        "network": Values(str, choices=tuple(NETWORKS)).convert("network", network),
        "validation": source.validation,
    }


def run_all(
    tasks: Sequence[Task],
    executor: Executor | None,
    results: Results,
    *,
    verbose: int | str = "auto",
    write: Callable[[str], None] | None = None,
    extra: Mapping[Recipe, Mapping[str, object]] = MappingProxyType({}),
) -> list[Outcome]:
    """Do the tasks that the results do not have yet. Returns the outcomes in the order of the tasks. write: takes each line.

    extra: what the line of a run in the file has beside its outcome.
    """
    executor = Here() if executor is None else executor
    if not isinstance(executor, Executor):
        raise FieldTypeError("executor", executor, "a concurrent.futures.Executor")
    found = {outcome.recipe: outcome for outcome in results.outcomes if _serves(outcome, tasks)}
    waiting = [task for task in tasks if task.recipe not in found]
    before = [found[task.recipe] for task in tasks if task.recipe in found]
    with closing(Progress(executor, len(tasks), before, verbose=verbose, write=write)) as progress:
        if before:
            progress.say(f"{len(before)} of {len(tasks)} runs are in {results.path}, and are not repeated")
        for task, outcome in completed(executor, waiting, tell=progress.warn, tick=progress.tick):
            more = extra.get(task.recipe, {})
            results.append(outcome, **more)
            found[task.recipe] = outcome
            progress.finished(outcome, more.get("trial"))
    return [found[task.recipe] for task in tasks]


def _serves(outcome: Outcome, tasks: Sequence[Task]) -> bool:
    """Whether it has the weights, if the tasks ask for them."""
    return outcome.weights is not None or not tasks or not tasks[0].weights or bool(outcome.diverged)


def tasks_of(
    recipes: Iterable[Recipe], source: Source, facts: Mapping[str, object], threads: int, *, weights: bool = False
) -> list[Task]:
    """A task for each recipe. facts: those of `about`. weights: whether the outcomes have the parameters."""
    fingerprint, network = str(facts["fingerprint"]), str(facts["network"])
    return [Task(one, source, fingerprint, network, threads, weights) for one in recipes]


def with_seeds(recipe: Recipe, seeds: Iterable[int]) -> list[Recipe]:
    """The recipe with each of the seeds."""
    return [replace(recipe, seed=seed) for seed in seeds]


def expect_none_diverged(outcomes: Sequence[Outcome]) -> None:
    """RunError, with the seed and the step, if a run diverged."""
    for outcome in outcomes:
        if outcome.diverged:
            raise RunError(f"seed {outcome.seed}: {outcome.diverged}")


def speedrun(
    recipe: str | Recipe = "default",
    seeds: int | Iterable[int] = 20,
    *,
    data: Data | Source = "mnist",
    network: str = "lenet",
    executor: Executor | None = None,
    threads: int | None = None,
    results: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
) -> Runs:
    """Train a recipe once for each seed, on the workers of an Executor. Returns the accuracies and times of the final weights.

    recipe: a Recipe, or the name of one. seeds: how many, counted from the recipe's seed, or the seeds themselves.
    data: the name of a data set or a path, which each worker reads by itself and compares by a checksum; or a Dataset, which is
    sent with every run. A run is evaluated on the validation images, or on the test images if there are none.
    executor: any concurrent.futures.Executor: LocalWorkers(2), dask's client.get_executor(), MPIPoolExecutor(). None does the
    runs here, one after the other. threads: of each run; None is one with an executor, and those of this process without one.
    The results are the same to the bit for any number.
    results: a file to which each run is appended as soon as it is done. Runs that it has are not repeated.
    verbose: "auto" or 2 for a line for each run, with a bar and a table of the workers on a terminal; 0 for no output.

    A run whose worker died or was refused (another version, level or data) goes to another. Raises RunError, in one line, if a
    run fails, CheckpointError if the file cannot be used, and FieldError for a wrong argument.
    """
    full = recipe_of(recipe)
    listed = seeds_of(full, seeds)
    source = data if isinstance(data, Source) else Source.of(data)
    facts = about("speedrun", source, source.load(), network) | {"recipe": asdict(replace(full, seed=0))}
    with opened(results, facts) as kept:
        outcomes = run_all(
            tasks_of(with_seeds(full, listed), source, facts, threads_of(threads, executor)), executor, kept, verbose=verbose
        )
    expect_none_diverged(outcomes)
    return Runs(tuple(outcomes))


def train_ensemble(
    recipe: str | Recipe = "default",
    count: int = 5,
    *,
    data: Data | Source = "mnist",
    network: str = "lenet",
    executor: Executor | None = None,
    threads: int | None = None,
    results: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
) -> tuple[Ensemble, Runs]:
    """Train `count` networks with the seeds S, S+1, ... on the workers of an Executor. Returns the ensemble and its runs.

    The networks have the same bits as those that `fastlenet train --ensemble` trains one after the other. results: the file
    holds the parameters too. The other arguments and the errors are those of speedrun.
    """
    full = recipe_of(recipe)
    seeds = seeds_of(full, integer("count", count, 1))
    source = data if isinstance(data, Source) else Source.of(data)
    loaded = source.load()
    facts = about("ensemble", source, loaded, network) | {"recipe": asdict(replace(full, seed=0)), "looks": []}
    with opened(results, facts) as kept:
        tasks = tasks_of(with_seeds(full, seeds), source, facts, threads_of(threads, executor), weights=True)
        outcomes = run_all(tasks, executor, kept, verbose=verbose)
    expect_none_diverged(outcomes)
    return Ensemble([model_of(outcome, loaded, network) for outcome in outcomes]), Runs(tuple(outcomes))


def model_of(outcome: Outcome, data: Dataset, network: str) -> Sequential:
    """The network of a run. Raises RunError if its parameters are those of another network."""
    model = NETWORKS[network].of(outcome.recipe, input_shape=data.input_shape, classes=data.classes, ops=ops)
    parameters = np.frombuffer(outcome.weights or b"", "<f4")
    if parameters.shape != model.parameter_buffer.shape or not np.isfinite(parameters).all():
        expected = f"{model.parameter_buffer.size} finite parameters"
        raise RunError(f"seed {outcome.seed}: its weights expect {expected}, got {parameters.size}")
    Trainer(model, data, outcome.recipe).state.tell_model()
    model.parameter_buffer[...] = parameters
    model.eval()
    return model
