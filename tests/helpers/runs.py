"""Runs that end early, a network for them, disks that are full, and how far a checkpoint has come."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlenet.formats import tensor_file
from fastlenet.nn import Flatten, Linear, Sequential
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.console import Console
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.trainer import Trainer

__all__ = ["FLAGS", "SHORT", "SIGNALS", "StopAt", "at_step", "failing", "network", "steps_in"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FLAGS = ("--epochs", 3, "--batch-size", 100, "--quiet")
SHORT = ("--epochs", 3, "--dry-run", "--quiet")  # three steps, for a run that comes to its end


def network() -> Sequential:
    return Sequential(Flatten(), Linear(784, 10))


class StopAt(Callback):
    """Asks the run to stop from this place on: the epochs done, and the steps in the next one."""

    def __init__(self, epoch: int, position: int) -> None:
        self.place = epoch, position

    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        trainer.stop_requested = (trainer.state.epoch, trainer.state.position) >= self.place


def at_step(number: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command does this after so many steps of a process, between a step's end and the next one's beginning."""
    steps, of_batch = [0], Console.batch

    def batch(console: Console, trainer: Trainer, loss: float, images: int) -> None:
        of_batch(console, trainer, loss, images)
        steps[0] += 1
        if steps[0] == number:
            action()

    monkeypatch.setattr(Console, "batch", batch)


def steps_in(path: Path) -> int:
    return int(load_checkpoint(path)[0]["optimizer.steps"][0])


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Path], bool]) -> None:
    """A disk that is full for some files."""
    real = tensor_file.write_atomically

    def write(path: Path, data: bytes) -> None:
        if fails(Path(path)):
            raise CheckpointError(f"{path}: cannot be written (No space left on device)")
        real(path, data)

    monkeypatch.setattr(tensor_file, "write_atomically", write)
