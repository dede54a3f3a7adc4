"""What listens to a training run: the console, the log, the profile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, SupportsFloat

from fastlenet.command import one_line, tell
from fastlenet.files import CheckpointError, user_path
from fastlenet.listener import Listener, Writer
from fastlenet.profiling import Line, Profiler, profile_table
from fastlenet.trainer import Epoch, Trainer

__all__ = ["Console", "JsonLog", "LogError", "StepProfile", "StepTimes"]


class Console(Listener):
    """What the user sees: a line per epoch; while one runs, a bar on a terminal, or a line every log_interval batches."""

    def __init__(self, quiet: bool, log_interval: int) -> None:
        self.quiet, self.log_interval = quiet, log_interval
        self._bar: Any = None
        self._has_bar = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def say(self, text: str = "") -> None:
        """Print a line; above the bar, where there is one."""
        if self.quiet:
            return
        self._on_bar("clear")
        print(text, flush=True)
        self._on_bar("refresh")

    def warn(self, text: str) -> None:
        """Print a line on standard error, above the bar, however quiet one is to be, if anyone is left to read it."""
        self._on_bar("clear")
        tell(one_line(text))
        self._on_bar("refresh")

    def _open_bar(self, trainer: Trainer, done: int) -> None:
        try:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=f"epoch {trainer.epoch + 1}/{trainer.recipe.epochs}",
                total=trainer.images_per_epoch,
                initial=done,
                unit=" images",
                leave=False,
                mininterval=0.1,
            )
        except Exception:
            self._has_bar = False

    def _on_bar(self, method: str, *arguments: Any) -> Any:
        """Call a method of the bar, if there is one. It is given up at any error: nobody trains for the bar.

        tqdm raises what it pleases where one of its TQDM_ variables makes no sense, or where the terminal has gone.
        """
        if self._bar is None:
            return None
        try:
            return getattr(self._bar, method)(*arguments)
        except Exception:
            self._bar, self._has_bar = None, False
            return None

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        if self._has_bar and self._bar is None:
            self._open_bar(trainer, trainer.images - images)
        if self._has_bar and self._on_bar("update", images):  # drawn anew, ten times a second at most
            self._on_bar("set_postfix_str", f"loss {trainer.mean_loss():.4f}")
        if self.log_interval and trainer.position % self.log_interval == 0:
            seen, total = trainer.images, len(trainer.data.train_images)
            self.say(f"Train Epoch: {trainer.epoch + 1} [{seen}/{total} ({seen / total:.0%})]\tLoss: {float(loss):.6f}")

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.close()
        accuracy = "" if epoch.accuracy is None else f"accuracy {epoch.accuracy:7.2%}   "
        self.say(
            f"epoch {epoch.epoch}/{trainer.recipe.epochs}   {accuracy}loss {epoch.loss:.4f}   "
            f"{epoch.seconds:.2f} s   {epoch.images_per_second:,.0f} images/s"
        )

    def close(self) -> None:
        self._on_bar("close")
        self._bar = None


class LogError(CheckpointError):
    """A log that cannot be written; one line."""


class JsonLog(Writer):
    """One line of JSON per epoch, on disk as soon as the epoch is over. Raises LogError, where the file cannot be opened.

    What a full disk does not take is written with the next line.
    """

    def __init__(self, path: str | os.PathLike[str], resumed: bool) -> None:
        self.path = user_path(path)
        self._pending = b""
        with self._writing():
            # Unbuffered, so that what a full disk did not take is not tried again when the file is closed.
            self._stream = open(self.path, "ab" if resumed else "wb", buffering=0)  # noqa: SIM115

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self._pending += json.dumps({"seed": trainer.recipe.seed, **asdict(epoch)}).encode() + b"\n"
        with self.attempt(), self._writing():
            while self._pending:  # a disk that is almost full takes a part, and says so when it is given the rest
                self._pending = self._pending[self._stream.write(self._pending) :]

    def close(self) -> None:
        self._stream.close()


class StepTimes(Listener):
    """The seconds of an epoch's steps, and a profiler's lines of their ops; without the first step, which makes the buffers."""

    def __init__(self, profiler: Profiler | None = None) -> None:
        self._profiler = profiler
        self._before = self.seconds = 0.0
        self.lines: dict[str, Line] = {}

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        if trainer.position == 1:
            self._before = trainer.seconds
            if self._profiler is not None:
                self._profiler.reset()
        elif trainer.position == trainer.batches:  # the evaluation, which follows, is left out
            self.seconds = trainer.seconds - self._before
            if self._profiler is not None:
                self.lines = {name: replace(line) for name, line in self._profiler.lines.items()}


class StepProfile(StepTimes):
    """Prints, after the last epoch, what its training steps spent their time on."""

    _NOTHING = "no profile: it leaves out an epoch's first step, and the last epoch had no other in this run"

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if trainer.epoch == trainer.recipe.epochs:
            print(profile_table(self.lines, self.seconds) if self.lines else self._NOTHING, flush=True)
