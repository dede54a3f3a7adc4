"""The command `fastlenet speedrun`: trains a recipe once per seed and measures its accuracy and time."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastlenet import data as data_sets
from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import add_recipe_flags, expect_in_range, expect_seeds, usage_error
from fastlenet.cli.parser import Parser, file_name
from fastlenet.config import config, get_num_threads
from fastlenet.files import CheckpointError, expect_writable, save_somewhere, write_atomically
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.training.recipe import RECIPES, Recipe, named_recipe

__all__ = ["main"]

_TWIN = Path(__file__).parent / "pytorch_twin.py"


class SpeedrunError(Exception):
    """A run failed. The message is one line."""


@dataclass(frozen=True)
class Run:
    """One process, from cold start to printed accuracy. accuracy is a fraction; all times are seconds of wall time.

    start_up is the time outside data, training and evaluation: the interpreter, imports, making the network, and the exit.
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
    """Why a process failed: its last line on standard error, the signal that ended it, or else `otherwise`."""
    lines = done.stderr.split("\n")
    said = next((line for line in reversed(lines) if line.strip()), otherwise)
    return said if done.returncode >= 0 else f"ended by signal {-done.returncode}"


def _run(command: Sequence[str], seed: int, signals: StopSignals) -> Run:
    start = time.perf_counter()
    done = _output_of(command, signals)
    seconds = time.perf_counter() - start
    parts = {name: float(value) for name, value in re.findall(r"(data|training|evaluation) (\d+\.\d+) s", done.stdout)}
    final = re.search(r"^final accuracy (\d+\.\d+)%$", done.stdout, re.MULTILINE)
    if done.returncode or final is None or len(parts) != 3:
        raise SpeedrunError(f"{shlex.join(command)}: {_last_words(done, 'printed no accuracy')}")
    return Run(seed, round(float(final[1]) / 100, 6), seconds, seconds - sum(parts.values()), **parts)


class Contender:
    """A program that trains a recipe in its own process."""

    def __init__(
        self,
        name: str,
        signals: StopSignals,
        recipe: Recipe,
        data: data_sets.Dataset,
        data_dir: str | None,
        threads: int,
        device: str = "cpu",
    ) -> None:
        self.name, self.recipe, self.data, self.data_dir = name, recipe, data, data_dir
        self._signals = signals
        self.threads, self.device = threads, device
        self.runs: list[Run] = []

    def command(self, recipe: Recipe, folder: Path) -> list[str]:
        flags = [f"--{'' if value is not False else 'no-'}{name.replace('_', '-')}" for name, value in asdict(recipe).items()]
        values = [[] if isinstance(value, bool) else [str(value)] for value in asdict(recipe).values()]
        command = [sys.executable, "-m", "fastlenet.train", "--quiet", "--times", "--threads", str(self.threads)]
        command += ["--device", self.device]
        command += [part for flag, value in zip(flags, values, strict=True) for part in (flag, *value)]
        return command + ([] if self.data_dir is None else [f"--data-dir={self.data_dir}"])

    def run(self, seed: int, folder: Path) -> Run:
        self.runs.append(_run(self.command(replace(self.recipe, seed=seed), folder), seed, self._signals))
        return self.runs[-1]

    def result(self, target: float) -> dict[str, Any]:
        """Returns statistics of the runs so far."""
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
    """pytorch_twin.py, run by an interpreter that has PyTorch."""

    def __init__(self, interpreter: str, signals: StopSignals, *arguments: Any) -> None:
        code = "import torch; print(torch.__version__)"
        try:
            done = _output_of([interpreter, "-c", code], signals)
        except OSError as error:
            raise UsageError(f"--pytorch {interpreter}: cannot be run ({error.strerror})") from None
        version = done.stdout.strip()
        if done.returncode or not version:
            raise UsageError(f"--pytorch {interpreter}: has no PyTorch ({_last_words(done, 'printed no version')})")
        super().__init__(f"PyTorch {version}", signals, *arguments)
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
            "files": data_sets.files(self.data_dir),
            "mean": self.data.mean,
            "std": self.data.std,
            "threads": self.threads,
        }
        (folder / "job.json").write_text(json.dumps(job))
        return [self.interpreter, str(_TWIN), str(folder / "job.json")]


def _machine() -> dict[str, Any]:
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
        "Exit codes: 0 success, 1 the mean is below the target, 2 wrong usage or a failed run, 3 a fault in fastlenet, "
        "130 Ctrl-C, 141 the output was closed (SIGPIPE).",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="train with N seeds: S, S+1, ... (default: 20)")
    parser.add_argument("--target", type=float, default=99.25, metavar="PERCENT", help="accuracy to reach (default: 99.25)")
    parser.add_argument("--json", type=file_name, metavar="FILE", help="write all measurements to FILE")
    parser.add_argument(
        "--threads",
        type=int,
        default=get_num_threads(),
        metavar="N",
        help="number of threads (default: the CPUs that this process may use)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of fastlenet (default: cpu)")
    parser.add_argument("--data-dir", type=file_name, metavar="DIR", help="use four IDX files in DIR instead of MNIST")
    parser.add_argument(
        "--pytorch",
        nargs="?",
        type=file_name,
        const=sys.executable,
        metavar="PYTHON",
        help="also run the same recipe in PyTorch, in turns; PYTHON is an interpreter that has it (default: this one)",
    )
    add_recipe_flags(parser)
    return parser


def _report(contender: Contender, target: float) -> dict[str, Any]:
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


def _speedrun(arguments: argparse.Namespace, command: Sequence[str], signals: StopSignals) -> int:
    given = {name: value for name, value in vars(arguments).items() if name in Recipe.__dataclass_fields__}
    name = getattr(arguments, "recipe", "default")
    expect_in_range(vars(arguments))
    try:
        recipe = named_recipe(name, **given)
    except ValueError as error:
        raise usage_error(error) from None
    expect_seeds(recipe, arguments.seeds)
    if recipe.epochs < 1:
        raise UsageError("--epochs expects an integer of at least 1, got 0")
    if not math.isfinite(arguments.target):
        raise UsageError(f"--target expects a number, got {arguments.target}")
    if arguments.pytorch is not None and arguments.device != "cpu":
        raise UsageError("--pytorch trains on the CPU; leave out --device, so that both do")
    if arguments.json is not None:
        expect_writable(arguments.json, as_a_whole=False)
    data = data_sets.load_mnist() if arguments.data_dir is None else data_sets.load_idx_directory(arguments.data_dir)
    common = (signals, recipe, data, arguments.data_dir, arguments.threads)
    machine, target = _machine(), arguments.target / 100
    contenders = [Contender(f"fastlenet {machine['version']}", *common, arguments.device)]
    if arguments.pytorch is not None:
        contenders.append(PyTorch(arguments.pytorch, *common))
    where = f"level {machine['level']}" if arguments.device == "cpu" else f"cuda: {machine['cuda']}"
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, {arguments.threads} threads; {where}")
    print(f"recipe {name}{'' if recipe == RECIPES[name] else ' with changes'}: {recipe}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="fastlenet-speedrun-") as folder:
        for seed in range(recipe.seed, recipe.seed + arguments.seeds):
            for contender in contenders:
                run = contender.run(seed, Path(folder))
                print(f"seed {seed:<3} {contender.name:<18} {run.accuracy:.2%}   {run.seconds:.2f} s", flush=True)
    results = {contender.name: _report(contender, target) for contender in contenders}
    if len(contenders) > 1:
        pairs = zip(contenders[1].runs, contenders[0].runs, strict=True)
        ratio = statistics.median(theirs.seconds / ours.seconds for theirs, ours in pairs)
        print(f"\nwhole runs, {contenders[1].name} over {contenders[0].name}: {ratio:.2f} x (median of the pairs)")
    if arguments.json is not None:
        facts = {
            "command": shlex.join(["python", "-m", "fastlenet.speedrun", *command]),
            "machine": machine | {"threads": arguments.threads},
            "recipe": {"name": name, **asdict(recipe)},
            "target": target,
            "results": results,
        }
        _write(Path(arguments.json), json.dumps(facts, indent=1) + "\n")
    return 0 if results[contenders[0].name]["accuracy_mean"] >= target else 1


def _write(path: Path, text: str) -> None:
    """Write a file as a whole, or in place if it is a device or a pipe. If that fails, writes elsewhere and raises
    CheckpointError, which names the place."""
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
            return _speedrun(make_parser(prog).parse(given), given, signals)

    return run_command(prog.removeprefix("python -m "), command, SpeedrunError, data_sets.DataError, CheckpointError)
