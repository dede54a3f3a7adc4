"""The command `fastlenet train`: trains a network and reports its accuracy."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from signal import SIGUSR1
from typing import TYPE_CHECKING

from fastlenet._core import DeviceError
from fastlenet.cli.checks import check_arguments
from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.data import SHARE, load_data
from fastlenet.cli.flags import make_parser as make_flags
from fastlenet.cli.job import Job
from fastlenet.cli.parser import Parser, flag_of
from fastlenet.cli.ranks import Prepared, RankRun, counted, join, launched, only_first_speaks, share_run, silent
from fastlenet.cli.result import Result
from fastlenet.cli.resuming import resumed_run
from fastlenet.cli.sample_weight import read_weights
from fastlenet.cli.settings import Arguments, Options, Settings, flags_for
from fastlenet.cli.teacher import read_teacher
from fastlenet.cli.train_run import COMMAND, finish, run_and_save
from fastlenet.cli.train_workers import check_workers, train_on_workers
from fastlenet.cli.workers import ERRORS, StoppedRuns, Workers, add_worker_flags
from fastlenet.config import config, set_num_threads
from fastlenet.data import DataError, Dataset
from fastlenet.data.dataset import PART_WORDS, PARTS
from fastlenet.devices import DEVICES
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError, reserve
from fastlenet.profiling import Profiler
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.streams import one_line, tell
from fastlenet.training.callbacks.base import Callback, Writer
from fastlenet.training.callbacks.console import Console
from fastlenet.training.callbacks.json_log import JsonLog, LogError
from fastlenet.training.callbacks.plot import Plot
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.callbacks.step_times import StepProfile
from fastlenet.training.checkpoint import OtherLevelError
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.evaluation import has_images
from fastlenet.training.figures import PlotError
from fastlenet.training.lr_finder import find_lr
from fastlenet.training.ranks import RanksError
from fastlenet.training.recipe import RECIPES
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import Trainer

if TYPE_CHECKING:
    from fastlenet.distributed.mpi import MpiRanks

__all__ = ["main", "make_parser"]

# The options that name a file to be written along the way, and what writes it; in this order, so that a picture that cannot be
# drawn costs no checkpoint.
_WRITERS: Mapping[str, Callable[[str, Options], Writer]] = {
    "log_json": lambda path, options: JsonLog(path, options.resume is not None),
    "state_file": lambda path, options: Saver(path),
    "plot": lambda path, options: Plot(path),
}


def _load_data(settings: Settings) -> Dataset:
    data = load_data(settings)
    if settings.validation:
        with flags_for(count="validation"):
            data = data.hold_out(settings.validation)
    elif not has_images(data):
        data = _with_some_for_validation(data, settings)
    return data


def _with_some_for_validation(data: Dataset, settings: Settings) -> Dataset:
    """With a tenth of the training images, always the same ones, as the validation part of a data set without test images."""
    if settings.sample_weight is not None:
        cure = f"hold out the last N images by {flag_of('validation')} N"
        raise UsageError(f"{flag_of('sample_weight')} {settings.sample_weight}: {data.name} has no test images; {cure}")
    try:
        return data.split(SHARE)
    except FieldError as error:
        raise DataError(f"{one_line(data.name)}: no test images, and too few images to hold some out, {error.got}") from None


def _announce(console: Console, job: Job, trainer: Trainer) -> None:
    state, settings = trainer.state, job.settings
    recipe, data = state.recipe, state.data
    sizes = {part: len(data.part(part).labels) for part in reversed(PARTS)}  # what is reported on stands first
    counts = [f"{size} {PART_WORDS[part]} images" for part, size in sizes.items() if size]
    device = DEVICES[settings.device].words(state.model.level())
    console.say(
        f"fastlenet {config()['version']}   {device}   seed {recipe.seed}{counted(job.ranks)}\n"
        f"{one_line(data.name)}: {', '.join(counts)}\n"
    )
    held_out = data.validation_labels
    if settings.validation > 1 and len(set(data.train_labels.tolist())) > 1 and (held_out == held_out[0]).all():
        name = one_line(data.class_names[held_out[0]])
        why = f"all {len(held_out)} validation images are of class {name}, because the images are sorted by class"
        console.say(f"{why}; leave {flag_of('validation')} out to evaluate images of every class\n")
    if len(data.validation_labels) and not len(data.test_labels) and not settings.validation:
        console.say("there are no test images: the accuracy is that of the validation images, held out from training\n")
    for name, array in state.model.parameters().items():
        console.say(f"  {name:<13} {array.shape}")
    console.say(f"  {state.model.parameter_buffer.size} parameters\n")
    changed = replace(recipe, seed=0) != RECIPES[settings.recipe]
    console.say(textwrap.fill(f"recipe {settings.recipe}{' with changes' if changed else ''}: {recipe}", 100))
    if state.teaching is not None:
        networks, files = len(state.teaching.teacher), ", ".join(map(one_line, settings.teacher))
        how = f"temperature {recipe.temperature}, mix {recipe.mix}"
        console.say(f"learns from {networks} network{'s' * (networks > 1)} too, in {files}: {how}")
    if recipe.tta:
        console.say("test-time augmentation: predictions are averaged over each test image and its four shifts by one pixel")
    if job.options.resume is not None and settings.load_model is not None:
        console.say(f"{settings.load_model} is not read: {job.options.resume} holds the weights")


_EXPECTED = (DataError, CheckpointError, PlotError, LogError, DivergedError, DeviceError, RanksError, *ERRORS)


def make_parser(prog: str) -> Parser:
    parser = make_flags(prog)
    add_worker_flags(parser)
    return parser


@dataclass(frozen=True)
class _Command:
    """A command line. given: its words; ranks: the processes that share its run, or None."""

    arguments: Arguments
    workers: Workers
    given: Sequence[str]
    ranks: MpiRanks | None

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.ranks is None or self.ranks.rank == 0


def _train(command: _Command, name: str, signals: StopSignals) -> int:
    options = command.arguments.options

    def prepare() -> Prepared:
        if command.ranks is not None and (options.find_lr or command.workers.asked_for):
            asked = "--find-lr" if options.find_lr else "--workers and --cluster"
            raise UsageError(f"{asked}: start this without mpiexec, or pass --mpi off")
        if command.is_first:
            check_arguments(command.arguments)
            check_workers(command.workers, command.arguments)
            if options.state_file is not None:
                reserved.enter_context(reserve(options.state_file, options.resume))
        job, run, seconds = _prepare(command)
        return job.settings, run, lambda: _finish(command, job, run, seconds, signals)

    with ExitStack() as reserved:
        if command.ranks is None:
            return prepare()[2]()
        return share_run(command.ranks, name, _EXPECTED, signals, prepare)


def _prepare(command: _Command) -> tuple[Job, EnsembleRun, dict[str, float]]:
    """All that comes before the first step. Returns the run and the seconds spent. The file of the training state must be
    reserved for this run.
    """
    arguments, ranks = command.arguments, command.ranks
    options = arguments.options
    settings, recipe = arguments.new_run() if options.resume is None else resumed_run(options.resume, arguments)
    if options.threads is not None:
        set_num_threads(options.threads)
    if options.profile and settings.device != "cpu":
        raise UsageError("--profile measures the CPU's kernels; leave it out, and see a GPU's by nsys profile python -m ...")
    DEVICES[settings.device].load()  # which may not be there
    start = time.perf_counter()
    data = _load_data(settings)
    seconds = {"data": time.perf_counter() - start}
    evaluates = not options.quiet or options.log_json is not None or options.plot is not None
    if not command.is_first:
        options = silent(options)
    if settings.weigh and not len(data.validation_labels):
        raise UsageError(f"{flag_of('weigh')}: chooses weights on validation images; give {flag_of('validation')} N too")
    if settings.looks and arguments.changes.keys() & {"width", "deskew"}:
        raise UsageError(f"{flag_of('looks')} says the width and deskew of every network; leave out --width and --deskew")
    job = Job(options, settings, recipe, data, Profiler() if options.profile else None, evaluates, ranks)
    if settings.sample_weight is not None:
        job.sample_weight = read_weights(settings.sample_weight, settings.validation)
    if settings.teacher:
        job.teacher = read_teacher(settings.teacher, DEVICES[settings.device].load())
    if settings.load_model is not None and options.resume is None:
        job.load_networks(settings.load_model, arguments.changes)
        for note in job.notes if command.is_first else ():
            tell(one_line(f"{settings.load_model}: {note}"))
    run = (EnsembleRun if ranks is None else RankRun)(
        job.trainer, max(settings.ensemble, len(job.loaded)), job.looks, job.weights
    )
    if options.resume is not None:
        _restore(run, options.resume, job)
    return job, run, seconds


def _finish(command: _Command, job: Job, run: EnsembleRun, seconds: dict[str, float], signals: StopSignals) -> int:
    """Train, and report."""
    options, settings, workers = job.options, job.settings, command.workers
    write = tell if options.json else _print
    console = Console(options.quiet, options.log_interval, write=write)
    _announce(console, job, run.trainer)
    if options.find_lr:
        return _find_lr(run.trainer, console, options)
    result = Result.of(settings, run, seconds)
    if workers.asked_for:
        how = workers, options.threads or 1, [*COMMAND, *command.given]
        states = train_on_workers(run, job.trainer, settings, *how, console, write)
        return finish(run, states, console, [], options, result, settings.weigh)
    return run_and_save(run, console, _callbacks(job, console, write), options, result, signals, settings.weigh)


def _print(text: str) -> None:
    print(text, flush=True)


def _callbacks(job: Job, console: Console, write: Callable[[str], None]) -> list[Callback]:
    """What is called back, the console first."""
    options = job.options
    paths = {name: getattr(options, name) for name in _WRITERS}
    writers = [_WRITERS[name](path, options) for name, path in paths.items() if path is not None]
    for writer in writers:
        writer.tell = console.warn
    return [console, *writers, *([StepProfile(job.profiler, write)] if job.profiler is not None else [])]


def _restore(run: EnsembleRun, path: str, job: Job) -> None:
    try:
        run.restore(path, job.recipe.seed, allow_level_change=job.options.allow_level_change)
    except OtherLevelError as error:
        raise CheckpointError(error.worded("--allow-level-change")) from None


def _find_lr(trainer: Trainer, console: Console, options: Options) -> int:
    state = trainer.state
    sweep = find_lr(state.model, state.data, state.recipe, sample_weight=state.sample_weight)
    console.say(sweep.table())
    if options.json:
        _print(json.dumps({"lr": sweep.suggestion, "rates": sweep.rates, "losses": sweep.losses}))
    else:
        _print(f"suggested --lr {sweep.suggestion:.2g}")
    if options.plot is not None:  # after the line, which a picture that cannot be written would cost
        sweep.plot(options.plot)
    return 0


def main(arguments: Sequence[str] | None = None, prog: str = "python -m fastlenet.train") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    given = sys.argv[1:] if arguments is None else arguments
    name = prog.removeprefix("python -m ")

    def command() -> int:
        with StopSignals(*(STOP_SIGNALS if launched() == 1 else (*STOP_SIGNALS, SIGUSR1))) as signals:
            with only_first_speaks():
                flags = vars(make_parser(prog).parse(given))
                workers = Workers.of(flags)
                read = Arguments.of(flags)
                ranks = join(read.options.mpi)
            try:
                return _train(_Command(read, workers, given, ranks), name, signals)
            except StoppedRuns as stopped:
                return stopped.code

    return run_command(name, command, *_EXPECTED)
