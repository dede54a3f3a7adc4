"""`fastlenet train --ensemble N --workers M`: the networks of an ensemble are trained on workers, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from fastlenet.backend import Array
from fastlenet.cli.command import UsageError
from fastlenet.cli.data import SHARE
from fastlenet.cli.parser import flag_of
from fastlenet.cli.settings import Arguments, Settings
from fastlenet.cli.workers import Workers, kept
from fastlenet.data import Dataset
from fastlenet.distributed.runs import about, expect_none_diverged, model_of, run_all, tasks_of
from fastlenet.distributed.source import Source, checksum
from fastlenet.distributed.task import made_of
from fastlenet.training.callbacks.console import Console
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.history import Epoch
from fastlenet.training.trainer import Trainer

__all__ = ["check_workers", "train_on_workers"]

# What a run on a worker does not do: those of the options, and those of the settings.
_NOT_WITH_WORKERS = ("resume", "checkpoint", "log_json", "plot", "profile", "find_lr", "log_interval")
_NOT_SETTINGS = ("load_model", "sample_weight", "teacher", "teacher_cache", "dry_run", "device")


def check_workers(workers: Workers, arguments: Arguments) -> None:
    """UsageError for what the networks of an ensemble cannot be told on workers."""
    if not workers.asked_for and workers.results is None:
        return
    if not workers.asked_for:
        raise UsageError(f"--results {workers.results}: keeps the networks that workers train; give --workers N too")
    if int(arguments.changes.get("ensemble", 1)) < 2:
        raise UsageError("--workers and --cluster train the networks of an ensemble; give --ensemble N, or leave them out")
    undone = [name for name in _NOT_WITH_WORKERS if getattr(arguments.options, name)]
    undone += [name for name in _NOT_SETTINGS if name in arguments.changes]
    if undone:
        names = ", ".join(map(flag_of, undone))
        raise UsageError(
            f"{names}: not on workers; leave out --workers and --cluster, or {names} (--results keeps what is done)"
        )


def train_on_workers(
    run: EnsembleRun,
    make: Callable[[int], Trainer],
    settings: Settings,
    workers: Workers,
    threads: int,
    command: Sequence[str],
    console: Console,
    write: Callable[[str], None],
) -> list[dict[str, Array]]:
    """Train all members. Returns their parameters; the run is then as if it had trained them one after the other.

    make: a function from a member's number to its Trainer. command: the command line, for the line that says how to go on.
    write: takes each line, unless the console is quiet.
    """
    state = run.trainer.state
    source = _source(settings, state.data)
    facts = about("ensemble", source, state.data, settings.network) | {"recipe": asdict(replace(state.recipe, seed=0))}
    facts["looks"] = [str(look) for look in run.looks]
    recipes = [run.recipe_of(member) for member in range(run.count)]
    with kept(workers.results, facts, command) as results, workers.executor() as executor:
        tasks = tasks_of(recipes, source, facts, threads, weights=True)
        outcomes = run_all(tasks, executor, results, verbose=0 if console.quiet else "auto", write=write)
        expect_none_diverged(outcomes)
    run.training_seconds += sum(outcome.seconds["training"] for outcome in outcomes)
    run.member, run.trainer = run.count - 1, make(run.count - 1)
    run.trainer.state.tell_model()
    run.trainer.state.history.epochs.extend(made_of(Epoch, dict(row)) for row in outcomes[-1].epochs)
    models = [model_of(outcome, state.data, settings.network) for outcome in outcomes]
    return [{name: np.array(array) for name, array in model.state_dict().items()} for model in models]


def _source(settings: Settings, data: Dataset) -> Source:
    """Where a worker gets the same data set; if not by itself, then with every run."""
    source = Source(settings.data, settings.data_dir, settings.image_size, settings.validation).absolute()
    if settings.validation or len(data.test_labels):
        return source
    source = replace(source, share=SHARE)
    return source if checksum(source.load()) == checksum(data) else Source.of(data)
