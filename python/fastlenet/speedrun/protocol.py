"""Train a recipe many times over and say how good and how fast it is: python -m fastlenet.speedrun"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TypedDict

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import add_flags, add_recipe_flags
from fastlenet.cli.parser import Parser, flag_of
from fastlenet.cli.settings import Arguments, Options, Settings, Value, a_path, build, flags_for
from fastlenet.config import config, get_num_threads
from fastlenet.data import DataError, Dataset, files, load, named
from fastlenet.devices import DEVICES
from fastlenet.fields import INT64_MAX, Values, a_field, expect_fields
from fastlenet.files import CheckpointError, expect_writable, save_somewhere, write_atomically
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.training.ensemble import expect_seeds
from fastlenet.training.recipe import RECIPES, Recipe
from fastlenet.training.weights import class_weights

__all__ = ["main", "make_parser"]

_TWIN = Path(__file__).parent / "pytorch_twin.py"


_PARTS = ("data", "training", "evaluation")  # of a run's seconds, as its result has them


class SpeedrunError(Exception):
    """A run that failed; one line."""


@dataclass(frozen=True)
class Run:
    """One process, from cold start to printed accuracy (a fraction); seconds of wall time, and what they were spent on.

    start_up is what lies outside data, training and evaluation: the interpreter, imports, making the network, the way out.
    """

    seed: int
    accuracy: float
    seconds: float
    start_up: float
    data: float
    training: float
    evaluation: float


def _output_of(command: Sequence[str], signals: StopSignals) -> subprocess.CompletedProcess[str]:
    """Run a process in its own session, out of reach of this group's signals. It is killed if the waiting is interrupted."""
    process: subprocess.Popen[str] | None = None
    try:
        with signals.delayed():  # a signal that raised an error in Popen would leave a process that nobody knows
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
            )
        out, err = process.communicate()
    except BaseException:
        if process is not None:
            with process:  # which closes its pipes and waits for it
                process.kill()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _last_words(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """Why a process failed: its last line on standard error, or how it ended, or that it ended well and yet ..."""
    lines = done.stderr.split("\n")
    said = next((line for line in reversed(lines) if line.strip()), otherwise)
    return said if done.returncode >= 0 else f"ended by signal {-done.returncode}"


def _run(command: Sequence[str], seed: int, signals: StopSignals) -> Run:
    start = time.perf_counter()
    done = _output_of(command, signals)
    seconds = time.perf_counter() - start
    try:
        result = json.loads(done.stdout)
        accuracy, parts = float(result["accuracy"]), [float(result["seconds"][part]) for part in _PARTS]
    except (ValueError, KeyError, TypeError):  # no result, or another one than train --json prints
        raise SpeedrunError(f"{shlex.join(command)}: {_last_words(done, 'printed no result')}") from None
    if done.returncode:
        raise SpeedrunError(f"{shlex.join(command)}: {_last_words(done, 'failed')}")
    return Run(seed, accuracy, seconds, seconds - sum(parts), *parts)


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

    def __post_init__(self) -> None:
        expect_fields(self)


class Statistics(TypedDict):
    """What the JSON file holds of a contender. median: of the whole run and its parts, in seconds."""

    accuracy_mean: float
    accuracy_deviation: float
    accuracy_lowest: float
    share_at_target: float
    median: dict[str, float]
    images_per_second: float
    runs: list[dict[str, object]]


class Contender:
    """Something that trains a recipe as a process of its own, on data that are also here."""

    def __init__(
        self, name: str, signals: StopSignals, recipe: Recipe, settings: Settings, data: Dataset, threads: int
    ) -> None:
        self.name, self.recipe, self.settings, self.data, self.threads = name, recipe, settings, data, threads
        self._signals = signals
        self.runs: list[Run] = []

    def command(self, recipe: Recipe, folder: Path) -> list[str]:
        """Runs recipe, and prints a Result of fastlenet.cli as JSON. folder: for files of its own."""
        command = [sys.executable, "-m", "fastlenet.train", "--quiet", "--json", "--threads", str(self.threads)]
        command += [f"{flag_of(name)}={value}" for name, value in self._where() if value is not None]
        for name, value in asdict(recipe).items():
            switch = flag_of(name) if value else flag_of(f"no_{name}")
            command.append(switch if isinstance(value, bool) else f"{flag_of(name)}={value}")
        return command

    def _where(self) -> list[tuple[str, str | None]]:
        return [(name, getattr(self.settings, name)) for name in ("device", "network", "data", "data_dir")]

    def run(self, seed: int, folder: Path) -> Run:
        self.runs.append(_run(self.command(replace(self.recipe, seed=seed), folder), seed, self._signals))
        return self.runs[-1]

    def result(self, target: float) -> Statistics:
        """Statistics of the runs so far."""
        accuracies = [run.accuracy for run in self.runs]
        images = self.recipe.epochs * len(self.data.train_images)
        parts = ("seconds", "start_up", "data", "training", "evaluation")
        return {
            "accuracy_mean": statistics.mean(accuracies),
            "accuracy_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            "accuracy_lowest": min(accuracies),
            "share_at_target": sum(accuracy >= target for accuracy in accuracies) / len(accuracies),
            "median": {part: statistics.median(getattr(run, part) for run in self.runs) for part in parts},
            "images_per_second": images / statistics.median(run.training for run in self.runs),
            "runs": [asdict(run) for run in self.runs],
        }


class PyTorch(Contender):
    """pytorch_twin.py, under an interpreter that has PyTorch."""

    def __init__(
        self, interpreter: str, signals: StopSignals, recipe: Recipe, settings: Settings, data: Dataset, threads: int
    ) -> None:
        code = "import torch; print(torch.__version__)"
        try:
            done = _output_of([interpreter, "-c", code], signals)
        except OSError as error:
            raise UsageError(f"--pytorch {interpreter}: cannot be run ({error.strerror})") from None
        version = done.stdout.strip()
        if done.returncode or not version:
            raise UsageError(f"--pytorch {interpreter}: has no PyTorch ({_last_words(done, 'printed no version')})")
        super().__init__(f"PyTorch {version}", signals, recipe, settings, data, threads)
        self.interpreter = interpreter

    def command(self, recipe: Recipe, folder: Path) -> list[str]:
        images = len(self.data.train_images)
        starts = [recipe.batch_starts(epoch, images) for epoch in range(recipe.epochs)]
        steps = sum(len(of_epoch) - 1 for of_epoch in starts)
        job = {
            "recipe": asdict(recipe),
            "batch_starts": starts,
            "rates": [recipe.rate(step, steps) for step in range(steps)],
            "average_from": recipe.average_from(steps),
            "files": files(None if named(self.settings.data) else self.settings.data),
            "class_weights": class_weights(str(recipe.class_weight), self.data).tolist() if recipe.class_weight else None,
            "mean": self.data.mean,
            "std": self.data.std,
            "threads": self.threads,
        }
        (folder / "job.json").write_text(json.dumps(job))
        return [self.interpreter, str(_TWIN), str(folder / "job.json")]


def _machine() -> dict[str, object]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": model, "cpus": cpus, "system": f"{platform.system()} {platform.machine()}", **config()}


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Train a recipe once per seed, each time in a new process, from cold start to printed accuracy. Report the final "
        "accuracy on the test set and the time. docs/speedrun.md has the protocol.",
        [
            (f"{prog} --recipe fast --seeds 5", "one epoch with each of five seeds"),
            (f"{prog} --json results.json", "write all measurements"),
            (f"{prog} --pytorch", "run the same recipe in PyTorch too, in turns"),
        ],
        "Exit codes: 0 success, 1 the mean is below the target, 2 wrong usage or a failed run, 70 a fault in fastlenet, "
        "130 Ctrl-C, 141 the output was closed (SIGPIPE).",
    )
    add_flags(parser, Protocol)
    add_flags(parser, Options, ("threads",))
    add_flags(parser, Settings, ("device", "network", "data", "data_dir"))
    add_recipe_flags(parser)
    return parser


def _report(contender: Contender, target: float) -> Statistics:
    result = contender.result(target)
    median = result["median"]
    print(
        f"\n{contender.name}: {len(contender.runs)} runs\n"
        f"  accuracy     mean {result['accuracy_mean']:.3%}, standard deviation {result['accuracy_deviation']:.3%}, "
        f"lowest {result['accuracy_lowest']:.2%}; {result['share_at_target']:.0%} of the seeds reach {target:.2%}\n"
        f"  whole run    {median['seconds']:.2f} s (median) = start-up {median['start_up']:.2f} + data {median['data']:.2f} + "
        f"training {median['training']:.2f} + evaluation {median['evaluation']:.2f}\n"
        f"  training     {result['images_per_second']:,.0f} images/s",
        flush=True,
    )
    return result


def _speedrun(given: Mapping[str, Value], command: Sequence[str], signals: StopSignals) -> int:
    names = {entry.name for entry in fields(Protocol)}
    arguments = Arguments.of({name: value for name, value in given.items() if name not in names})
    with flags_for():
        protocol = build(Protocol, {name: value for name, value in given.items() if name in names})
        settings, recipe = arguments.new_run()
        expect_seeds(recipe, protocol.seeds)
    if recipe.epochs < 1:
        raise UsageError("--epochs expects an integer of at least 1, got 0")
    if protocol.pytorch is not None:
        _expect_twin(settings)
    if protocol.json is not None:
        expect_writable(protocol.json, as_a_whole=False)
    contenders = _contenders(protocol, signals, recipe, settings, arguments.options.threads or get_num_threads())
    with flags_for():
        class_weights(str(recipe.class_weight), contenders[0].data)
    ours, machine, target = contenders[0], _machine(), protocol.target / 100
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, {ours.threads} threads; {DEVICES[settings.device].words()}")
    changed = "" if recipe == RECIPES[settings.recipe] else " with changes"
    print(f"recipe {settings.recipe}{changed}: {recipe}\n", flush=True)
    _run_all(contenders, range(recipe.seed, recipe.seed + protocol.seeds))
    results = {contender.name: _report(contender, target) for contender in contenders}
    if len(contenders) > 1:
        pairs = zip(contenders[1].runs, ours.runs, strict=True)
        ratio = statistics.median(theirs.seconds / run.seconds for theirs, run in pairs)
        print(f"\nwhole runs, {contenders[1].name} over {ours.name}: {ratio:.2f} x (median of the pairs)")
    if protocol.json is not None:
        facts = {
            "command": shlex.join(["python", "-m", "fastlenet.speedrun", *command]),
            "machine": machine | {"threads": ours.threads},
            "recipe": {"name": settings.recipe, **asdict(recipe)},
            "target": target,
            "results": results,
        }
        _write(Path(protocol.json), json.dumps(facts, indent=1) + "\n")
    return 0 if results[ours.name]["accuracy_mean"] >= target else 1


def _expect_twin(settings: Settings) -> None:
    """UsageError for what pytorch_twin.py does not do, so that both would not do the same."""
    if settings.device != "cpu":
        raise UsageError("--pytorch trains on the CPU; leave out --device, so that both do")
    if settings.network != "lenet":
        raise UsageError(f"--pytorch trains lenet; leave out --network {settings.network}, so that both do")
    if named(settings.data) and (settings.data.lower() != "mnist" or settings.data_dir is not None):
        raise UsageError("--pytorch reads four IDX files; name their folder by --data, or leave it out for MNIST")


def _contenders(protocol: Protocol, signals: StopSignals, recipe: Recipe, settings: Settings, threads: int) -> list[Contender]:
    """Ours, and PyTorch where it is asked for."""
    data = load(settings.data, root=settings.data_dir)
    common = (signals, recipe, settings, data, threads)
    ours = Contender(f"fastlenet {config()['version']}", *common)
    return [ours, *([] if protocol.pytorch is None else [PyTorch(protocol.pytorch, *common)])]


def _run_all(contenders: Sequence[Contender], seeds: range) -> None:
    """Each seed by each contender in turn, so that what disturbs the machine disturbs them alike."""
    with tempfile.TemporaryDirectory(prefix="fastlenet-speedrun-") as folder:
        for seed in seeds:
            for contender in contenders:
                run = contender.run(seed, Path(folder))
                print(f"seed {seed:<3} {contender.name:<18} {run.accuracy:.2%}   {run.seconds:.2f} s", flush=True)


def _write(path: Path, text: str) -> None:
    """As a whole, unless it is a device or a pipe; elsewhere if that fails, and a CheckpointError says where."""
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    try:
        write_atomically(path, text.encode())
    except CheckpointError as error:
        place = save_somewhere(lambda other: write_atomically(other, text.encode()), "fastlenet-speedrun.json")
        raise CheckpointError(f"{error}; {place} holds the results") from None


def main(arguments: Sequence[str] | None = None, prog: str = "python -m fastlenet.speedrun") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    given = sys.argv[1:] if arguments is None else arguments

    def command() -> int:
        with StopSignals(*STOP_SIGNALS) as signals:
            return _speedrun(vars(make_parser(prog).parse(given)), given, signals)

    return run_command(prog.removeprefix("python -m "), command, SpeedrunError, DataError, CheckpointError)
