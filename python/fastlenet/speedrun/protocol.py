"""The command `fastlenet speedrun`: trains a recipe over and over, and reports how accurate and how fast it is."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import add_flags, add_recipe_flags
from fastlenet.cli.parser import Parser, flag_of
from fastlenet.cli.settings import Arguments, Options, Settings, Value, a_path, build, flags_for
from fastlenet.cli.teacher import read_teacher
from fastlenet.cli.workers import ERRORS, StoppedRuns, Workers, add_worker_flags, kept
from fastlenet.config import config, get_num_threads
from fastlenet.data import DataError, Dataset, named
from fastlenet.devices import DEVICES
from fastlenet.distributed.results import Results
from fastlenet.distributed.runs import Runs, about, expect_none_diverged, run_all, tasks_of, with_seeds
from fastlenet.distributed.source import Source
from fastlenet.distributed.task import Outcome
from fastlenet.distributed.working import cpu_model
from fastlenet.fields import INT64_MAX, Values, a_field, expect_fields
from fastlenet.files import CheckpointError, expect_writable
from fastlenet.models.ensemble import Ensemble
from fastlenet.models.loading import read_model
from fastlenet.nn import Sequential
from fastlenet.reports.repeating import training_of
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.speedrun.checking import check_file
from fastlenet.speedrun.contenders import Contender, PyTorch, Run, SpeedrunError
from fastlenet.speedrun.report import Accuracies, machine, report, report_workers, write
from fastlenet.training.ensemble import expect_seeds
from fastlenet.training.recipe import RECIPES, Recipe
from fastlenet.training.weights import class_weights

__all__ = ["main", "make_parser"]


@dataclass(frozen=True)
class Protocol:
    """What the command was told beside what a training command is told."""

    seeds: int = a_field(20, Values(int, "a positive integer", 1, INT64_MAX), "train with N seeds: S, S+1, ...")
    target: float = a_field(99.25, Values(float, "a finite number", -1e9, 1e9), "accuracy to reach, in per cent")
    json: str | None = a_path("FILE", "write all measurements to FILE")
    pytorch: str | None = a_path(
        "PYTHON",
        "also run the same recipe in PyTorch, in turns; PYTHON is an interpreter that has it (default: this one)",
        sys.executable,
    )
    check: str | None = a_path("FILE", "train nothing; check a result file, by the schema and the rules of docs/speedrun.md")
    teacher_seconds: float | None = field(
        default=None,
        metadata={
            "values": Values(float, "a positive number", 0, 1e9, above=True),
            "help": "with --teacher: the seconds in which its networks were trained, which count too",
        },
    )

    def __post_init__(self) -> None:
        expect_fields(self)


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Train a recipe once per seed, each time in a new process, from cold start to printed accuracy. Report the final "
        "accuracy on the test set and the time. With --workers or --cluster, measure the accuracy of many seeds on several "
        "processes. docs/speedrun.md has the protocol.",
        [
            (f"{prog} --recipe fast --seeds 5", "one epoch with each of five seeds"),
            (f"{prog} --json results.json", "write all measurements"),
            (f"{prog} --pytorch", "run the same recipe in PyTorch too, in turns"),
            (f"{prog} --check results.json", "whether a file keeps the rules, and what its runs come to"),
            (f"{prog} --seeds 100 --workers 2 --results runs.jsonl", "accuracies on two processes; go on if killed"),
        ],
        "Exit codes: 0 success, 1 the mean is below the target or the checked file has faults, 2 wrong usage or a failed run, "
        "70 a fault in fastlenet, 130 Ctrl-C, 141 the output was closed (SIGPIPE).",
    )
    add_flags(parser, Protocol)
    add_flags(parser, Options, ("threads",))
    add_flags(parser, Settings, ("device", "network", "data", "data_dir", "teacher", "teacher_cache"))
    add_worker_flags(parser)
    add_recipe_flags(parser)
    return parser


@dataclass(frozen=True)
class _Job:
    """All that a command line comes to. command: as it was given."""

    protocol: Protocol
    workers: Workers
    settings: Settings
    recipe: Recipe
    source: Source
    data: Dataset
    threads: int
    results: str | None  # the file of finished runs
    teacher: dict[str, object] | None  # as the JSON file has it
    command: Sequence[str]

    @property
    def target(self) -> float:
        """As a fraction."""
        return self.protocol.target / 100

    @property
    def seeds(self) -> range:
        return range(self.recipe.seed, self.recipe.seed + self.protocol.seeds)

    def about(self) -> dict[str, object]:
        """What holds for all runs in the file of them."""
        facts = about("speedrun", self.source, self.data, self.settings.network)
        way: dict[str, object] = (
            {"way": "workers"} if self.workers.asked_for else {"way": "cold processes", "threads": self.threads}
        )
        way["teacher"] = None if self.teacher is None else self.teacher["fingerprint"]
        return facts | way | {"recipe": asdict(replace(self.recipe, seed=0))}


def _results_file(protocol: Protocol, workers: Workers) -> str | None:
    """The file of finished runs; on workers it is beside the JSON file, if none is named. Raises UsageError if both are one."""
    path = protocol.json
    kept = workers.results
    if kept is None and workers.asked_for and path is not None and (os.path.isfile(path) or not os.path.exists(path)):
        kept = str(Path(path).with_suffix(".jsonl"))
    if kept is not None and kept == path:
        raise UsageError(f"--json and --results are both {kept}; give each a file of its own")
    return kept


def _job(given: Mapping[str, Value], command: Sequence[str]) -> _Job:
    """Raises UsageError for what can be seen to be wrong ahead, and DataError."""
    left = dict(given)
    workers = Workers.of(left)
    names = {entry.name for entry in fields(Protocol)}
    arguments = Arguments.of({name: value for name, value in left.items() if name not in names})
    with flags_for():
        protocol = build(Protocol, {name: value for name, value in left.items() if name in names})
        settings, recipe = arguments.new_run()
        expect_seeds(recipe, protocol.seeds)
    if recipe.epochs < 1:
        raise UsageError("--epochs expects an integer of at least 1, got 0")
    if protocol.pytorch is not None:
        _expect_twin(settings, workers)
    if workers.asked_for and settings.device != "cpu":
        raise UsageError(f"--device {settings.device}: workers compute on the CPU; leave it out, or --workers and --cluster")
    teacher = _teacher(settings, protocol, workers)
    if protocol.json is not None:
        expect_writable(protocol.json, as_a_whole=False)
    results = _results_file(protocol, workers)
    source = Source(settings.data, settings.data_dir).absolute()
    data = source.load()
    with flags_for():
        class_weights(str(recipe.class_weight), data)
    threads = arguments.options.threads or (1 if workers.asked_for else get_num_threads())
    return _Job(protocol, workers, settings, recipe, source, data, threads, results, teacher, command)


def _teacher(settings: Settings, protocol: Protocol, workers: Workers) -> dict[str, object] | None:
    """What the JSON file says of a teacher, which makes a category of its own. Raises UsageError and CheckpointError."""
    seconds, files = protocol.teacher_seconds, settings.teacher
    if not files:
        for flag, value in (("--teacher-seconds", seconds), ("--teacher-cache", settings.teacher_cache)):
            if value is not None:
                raise UsageError(f"{flag} {value}: there is no teacher; give --teacher FILE, or leave it out")
        return None
    if workers.asked_for or protocol.pytorch is not None:
        other = "workers learn" if workers.asked_for else "PyTorch's program learns"
        raise UsageError(f"--teacher {files[0]}: {other} from labels alone; leave out --teacher, or --workers and --pytorch")
    if seconds is None:
        raise UsageError(f"--teacher {files[0]}: the time of its training counts too; give it by --teacher-seconds X")
    teacher = read_teacher(files, DEVICES[settings.device].load())
    commands = [_command_of(path) for path in files]
    said: dict[str, object] = {"command": "; ".join(commands), "seconds": seconds, "files": [*files]}
    return said | {"networks": len(teacher), "fingerprint": teacher.fingerprint}


def _command_of(path: str) -> str:
    """The command that trained the networks in a file, as far as the file says it."""
    model = read_model(path).model
    networks = list(model) if isinstance(model, Ensemble) else [model]
    first = networks[0]
    command = training_of(first, len(networks), None).command if isinstance(first, Sequential) else ""
    return command or f"unknown, of {path}"


def _expect_twin(settings: Settings, workers: Workers) -> None:
    """UsageError for what pytorch_twin.py does not do, so that both would not do the same."""
    if workers.asked_for:
        raise UsageError("--pytorch takes turns with processes that run alone; leave out --workers and --cluster")
    if settings.device != "cpu":
        raise UsageError("--pytorch trains on the CPU; leave out --device, so that both do")
    if settings.network != "lenet":
        raise UsageError(f"--pytorch trains lenet; leave out --network {settings.network}, so that both do")
    if named(settings.data) and (settings.data.lower() != "mnist" or settings.data_dir is not None):
        raise UsageError("--pytorch reads four IDX files; name their folder by --data, or leave it out for MNIST")


def _speedrun(job: _Job, signals: StopSignals) -> int:
    facts = machine()
    contenders = [] if job.workers.asked_for else _contenders(job, signals)
    device = DEVICES[job.settings.device]
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, {job.threads} threads; {device.words(device.load().level())}")
    changed = "" if job.recipe == RECIPES[job.settings.recipe] else " with changes"
    print(f"recipe {job.settings.recipe}{changed}: {job.recipe}\n", flush=True)
    if job.teacher is not None:
        files, networks, seconds = ", ".join(job.settings.teacher), job.teacher["networks"], job.teacher["seconds"]
        print(f"taught by {networks} networks in {files}, whose training took {seconds} s: add it to each run's\n", flush=True)
    with kept(job.results, job.about(), [*_COMMAND, *job.command]) as results:
        found = _on_workers(job, results) if job.workers.asked_for else _in_turns(job, contenders, results)
    ours = f"fastlenet {config()['version']}"
    if job.protocol.json is not None:
        kept_facts = {
            "command": shlex.join([*_COMMAND, *job.command]),
            "way": results.about["way"],
            "machine": facts | {"threads": job.threads},
            "network": job.settings.network,
            "recipe": {"name": job.settings.recipe, **asdict(job.recipe)},
            "target": job.target,
            "results": found,
            **({} if job.teacher is None else {"teacher": job.teacher}),
        }
        write(Path(job.protocol.json), json.dumps(kept_facts, indent=1) + "\n")
    return 0 if found[ours]["accuracy_mean"] >= job.target else 1


def _check(flags: Mapping[str, Value]) -> int:
    others = [flag_of(name) for name in flags if name != "check"]
    if others:
        raise UsageError(f"--check trains nothing; leave out {', '.join(others)}")
    return check_file(str(flags["check"]))


_COMMAND = ("python", "-m", "fastlenet.speedrun")


def _on_workers(job: _Job, results: Results) -> Mapping[str, Accuracies]:
    """Every seed on any worker, as many at a time as there are workers: for accuracies."""
    tasks = tasks_of(with_seeds(job.recipe, job.seeds), job.source, results.about, job.threads)
    with job.workers.executor() as executor:
        outcomes = run_all(tasks, executor, results)
    expect_none_diverged(outcomes)
    name = f"fastlenet {config()['version']}"
    return {name: report_workers(name, Runs(tuple(outcomes)), job.target)}


def _contenders(job: _Job, signals: StopSignals) -> list[Contender]:
    """Ours, and PyTorch where it is asked for."""
    common = (signals, job.recipe, job.settings, job.data, job.threads)
    ours = Contender(f"fastlenet {config()['version']}", *common)
    return [ours, *([] if job.protocol.pytorch is None else [PyTorch(job.protocol.pytorch, *common)])]


def _in_turns(job: _Job, contenders: Sequence[Contender], results: Results) -> Mapping[str, Accuracies]:
    """Each seed by each contender in turn, in cold processes, so that what disturbs the machine disturbs them alike."""
    with tempfile.TemporaryDirectory(prefix="fastlenet-speedrun-") as folder:
        for seed in job.seeds:
            for contender in contenders:
                run = _found(results, contender, seed)
                if run is None:
                    run = contender.run(seed, Path(folder))
                    results.append(_outcome(job, run), contender=contender.name)
                contender.runs.append(run)
                print(f"seed {seed:<3} {contender.name:<18} {run.accuracy:.2%}   {run.seconds:.2f} s", flush=True)
    found = {contender.name: report(contender, job.target) for contender in contenders}
    if len(contenders) > 1:
        ours, theirs = contenders
        ratio = statistics.median(b.seconds / a.seconds for a, b in zip(ours.runs, theirs.runs, strict=True))
        print(f"\nwhole runs, {theirs.name} over {ours.name}: {ratio:.2f} x (median of the pairs)")
    return found


def _outcome(job: _Job, run: Run) -> Outcome:
    """A cold process as the file of runs has it."""
    parts = {part: getattr(run, part) for part in ("start_up", "data", "training", "evaluation")}
    recipe, facts = replace(job.recipe, seed=run.seed), config()
    place = platform.node(), os.getpid(), cpu_model(), job.threads, facts["version"], facts["level"]
    return Outcome(recipe, run.accuracy, None, None, "", parts, (), *place)


def _found(results: Results, contender: Contender, seed: int) -> Run | None:
    """The run of an earlier command in the file."""
    for outcome, extra in zip(results.outcomes, results.extras, strict=True):
        if outcome.seed == seed and extra.get("contender") == contender.name and outcome.accuracy is not None:
            return Run(seed, outcome.accuracy, sum(outcome.seconds.values()), **outcome.seconds)
    return None


def main(arguments: Sequence[str] | None = None, prog: str = "python -m fastlenet.speedrun") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    given = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        with StopSignals(*STOP_SIGNALS) as signals:
            try:
                flags = vars(make_parser(prog).parse(given))
                if "check" in flags:
                    return _check(flags)
                return _speedrun(_job(flags, given), signals)
            except StoppedRuns as stopped:
                return stopped.code

    return run_command(prog.removeprefix("python -m "), command, SpeedrunError, DataError, CheckpointError, *ERRORS)
