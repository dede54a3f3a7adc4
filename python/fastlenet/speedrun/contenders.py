"""Cold processes: each trains a recipe from its start to the printed accuracy, in fastlenet or in PyTorch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import flag_of
from fastlenet.cli.settings import Settings
from fastlenet.data import Dataset, files, named
from fastlenet.signals import StopSignals
from fastlenet.training.recipe import Recipe
from fastlenet.training.weights import class_weights

__all__ = ["Contender", "PyTorch", "Run", "SpeedrunError", "run_process"]

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


def run_process(command: Sequence[str], seed: int, signals: StopSignals) -> Run:
    """Run a process that prints its result as JSON, and time it. Raises SpeedrunError."""
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


class Contender:
    """Something that trains a recipe as a process of its own, on data that are also here."""

    def __init__(
        self, name: str, signals: StopSignals, recipe: Recipe, settings: Settings, data: Dataset, threads: int
    ) -> None:
        self.name, self.recipe, self.settings, self.data, self.threads = name, recipe, settings, data, threads
        self._signals = signals
        self.runs: list[Run] = []  # the finished ones, in the order of their seeds

    def command(self, recipe: Recipe, folder: Path) -> list[str]:
        """Runs recipe, and prints a Result of fastlenet.cli as JSON. folder: for files of its own."""
        command = [sys.executable, "-m", "fastlenet.train", "--quiet", "--json", "--threads", str(self.threads)]
        command += [f"{flag_of(name)}={value}" for name, value in self._where() if value is not None]
        for name, value in asdict(recipe).items():
            switch = flag_of(name) if value else flag_of(f"no_{name}")
            command.append(switch if isinstance(value, bool) else f"{flag_of(name)}={value}")
        return command

    def _where(self) -> list[tuple[str, str | None]]:
        teachers = [("teacher", path) for path in self.settings.teacher]
        names = ("device", "network", "data", "data_dir", "teacher_cache")
        return [*((name, getattr(self.settings, name)) for name in names), *teachers]

    def run(self, seed: int, folder: Path) -> Run:
        """Run the process of a seed. Raises SpeedrunError if it fails."""
        return run_process(self.command(replace(self.recipe, seed=seed), folder), seed, self._signals)


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
        if recipe.preprocessing:
            raise UsageError(f"--pytorch: expects a recipe without width and deskew, got {recipe.preprocessing}")
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
