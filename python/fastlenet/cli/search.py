"""The command `fastlenet search`: tries recipes on the validation split, on any number of workers."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import add_flags
from fastlenet.cli.parser import Parser, file_name
from fastlenet.cli.settings import Options, build, flags_for
from fastlenet.cli.workers import ERRORS, StoppedRuns, Workers, add_worker_flags, kept
from fastlenet.data import DataError
from fastlenet.distributed.searches import Space, Trials, cross_validate, read_trials
from fastlenet.distributed.searches.folding import expect_foldable, fold_facts, fold_file, run_fold
from fastlenet.distributed.searches.searching import facts_of, search_into
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError, expect_writable
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.training.figures import PlotError, expect_plottable

__all__ = ["main", "make_parser"]

_SHOWN = 20  # trials of the table


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Search for a better recipe: train trials with several seeds, and judge them on the last training images. "
        "Every run is kept in one file. If a search was stopped or killed, the same line continues it.",
        [
            (f"{prog} space.toml", "do the trials of space.toml; keep them in space.jsonl"),
            (f"{prog} space.toml --workers 2 --plot trials.png", "two at a time; draw them at the end"),
            (f"{prog} space.toml --folds 10", "cross-validation: differences to the recipe, with confidence intervals"),
            (f"{prog} space.jsonl", "list the trials of a file, the best first"),
            (f"{prog} --plot space.jsonl", "draw them to space.png"),
        ],
        "docs/distributed.md has an example of a space. Exit codes: 0 success, 2 wrong usage or input, or a failed run, 70 a "
        "fault in fastlenet, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, 141 the output was closed (SIGPIPE).",
    )
    what = "a TOML or JSON file: the recipe, the ranges of its fields, the numbers of trials and seeds; or a file of trials"
    parser.add_argument("space", nargs="?", type=file_name, metavar="SPACE", help=what)
    picture = "draw the trials to FILE (.png, .svg, .pdf; extra plot); alone with a file of trials, draw that"
    parser.add_argument("--plot", type=file_name, metavar="FILE", help=picture)
    parts = "judge each trial K times, on each of K parts of the training images, beside the recipe without changes"
    parser.add_argument("--folds", type=int, metavar="K", help=parts)
    named = "with --folds: write every run and the statistics of every trial to FILE (default: SPACE.folds.json)"
    parser.add_argument("--json", type=file_name, metavar="FILE", help=named)
    add_flags(parser, Options, ("threads",))
    add_worker_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet search") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    given = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        with StopSignals(*STOP_SIGNALS):
            try:
                return _search(make_parser(prog).parse(given), [*prog.split(), *given])
            except StoppedRuns as stopped:
                return stopped.code

    return run_command(prog, command, DataError, CheckpointError, PlotError, *ERRORS)


def _search(given: argparse.Namespace, command: Sequence[str]) -> int:
    flags = {name: value for name, value in vars(given).items() if name not in ("space", "plot", "folds", "json")}
    workers = Workers.of(flags)
    with flags_for():
        threads = build(Options, flags).threads
    if given.json is not None and given.folds is None:
        raise UsageError("--json: holds a cross-validation; give --folds K too")
    if given.folds is not None:
        return _cross_validate(given, workers, threads, command)
    if given.space is None or given.space.endswith(".jsonl"):
        return _show(given.space or workers.results, given.plot, workers)
    path = workers.results or str(Path(given.space).with_suffix(".jsonl"))
    picture = given.plot
    if picture is not None:
        _expect_plottable(picture)
    space = _read(given.space)
    with kept(path, facts_of(space), command, space=space.as_mapping()) as results, workers.executor() as executor:
        found = search_into(results, space, executor, threads=threads, verbose="auto")
    _report(found, path, picture)
    return 0


def _read(path: str) -> Space:
    try:
        return Space.read(path)
    except (FieldError, TypeError) as error:
        raise UsageError(f"{path}: {str(error).removeprefix('search: ').removeprefix('search() ')}") from None


def _cross_validate(given: argparse.Namespace, workers: Workers, threads: int | None, command: Sequence[str]) -> int:
    if given.space is None or given.space.endswith(".jsonl") or given.plot is not None:
        raise UsageError("--folds: expects SPACE, a TOML or JSON file that describes the search, and no --plot")
    space, path = _read(given.space), given.json or str(Path(given.space).with_suffix(".folds.json"))
    expect_writable(path)
    stem = workers.results or str(Path(given.space).with_suffix(".jsonl"))
    try:
        expect_foldable(space, given.folds)
    except FieldError as error:
        raise UsageError(error.worded("--folds") if error.field == "folds" else f"{given.space}: {error}") from None
    with workers.executor() as executor:
        for fold in range(given.folds):
            with kept(fold_file(stem, fold), fold_facts(space, given.folds, fold), command) as results:
                run_fold(results, space, given.folds, fold, executor, threads=threads, verbose="auto")
        found = cross_validate(space, given.folds, executor=executor, threads=threads, results=stem, verbose=0)
    found.save(path)
    print(f"\n{found.table()}\n\n{path} holds every run", flush=True)
    return 0


def _show(path: str | None, plot: str | None, workers: Workers) -> int:
    """The trials of a file, without any run."""
    if path is None and plot is not None and plot.endswith(".jsonl"):
        path, plot = plot, str(Path(plot).with_suffix(".png"))
    if path is None or workers.asked_for:
        raise UsageError("expects SPACE, a TOML or JSON file that describes the search, or a file of trials (.jsonl) to list")
    if plot is not None:
        _expect_plottable(plot)
    _report(read_trials(path), path, plot)
    return 0


def _expect_plottable(path: str) -> None:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its warnings about a cache folder do not concern the user
    expect_plottable(path)


def _report(found: Trials, path: str, picture: str | None) -> None:
    print(f"\n{found.table(_SHOWN)}")
    if len(found.trials) > _SHOWN:
        print(f"and {len(found.trials) - _SHOWN} more")
    if found.trials:
        print(f"\nbest: {found.best.recipe!r}", flush=True)
    if picture is not None:
        found.plot(picture)
        print(f"{path} is drawn in {picture}", flush=True)
