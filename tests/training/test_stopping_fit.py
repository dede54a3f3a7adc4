"""However `fit` ends, the history, the weights and the checkpoint are there: by Ctrl-C, a callback, an error, a full disk."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, signals
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError
from fastlenet.training.fit import fit
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import Trainer
from helpers.command import Result
from helpers.runs import failing, steps_in

pytestmark = pytest.mark.usefixtures("unchanged_handlers", "home")

Train = Callable[..., Result]
PLAIN = {"epochs": 3, "batch_size": 100}  # of 6 steps


@pytest.fixture
def small(small_mnist: Path) -> Dataset:
    data = load_idx_directory(small_mnist)
    return replace(data, train_images=data.train_images[:600], train_labels=data.train_labels[:600])


def test_a_run_without_epochs_has_a_checkpoint(train_here: Train, small: Dataset, small_mnist: Path, tmp_path: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--epochs", 0, "--quiet", "--checkpoint", "state")
    assert result.code == 0 and steps_in(tmp_path / "state") == 0
    assert train_here("--resume", "state", "--quiet").out == result.out
    fit(LeNet(), small, epochs=0, checkpoint=tmp_path / "other")
    assert steps_in(tmp_path / "other") == 0


class At(Callback):
    """Does something after so many steps."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        if trainer.state.optimizer.steps == self.step:
            self.action()


def test_ctrl_c_in_fit(small: Dataset, tmp_path: Path) -> None:
    """The history so far comes back, the model can be used, and the checkpoint leads to the bits of an undisturbed run."""
    model, straight = LeNet(), LeNet()
    ctrl_c = At(8, lambda: signal.raise_signal(signal.SIGINT))
    history = fit(model, small, checkpoint=tmp_path / "state", callbacks=(ctrl_c,), **PLAIN)
    assert history.interrupted and history.stopped == "interrupted by Ctrl-C"
    assert len(history.epochs) == 1 and not model.training
    assert steps_in(tmp_path / "state") == 8 and [path.name for path in tmp_path.iterdir()] == ["state"]
    history = fit(model, small, resume=tmp_path / "state", checkpoint=tmp_path / "state", **PLAIN)
    fit(straight, small, **PLAIN)
    assert (
        not history.interrupted
        and not history.stopped
        and model.parameter_buffer.tobytes() == straight.parameter_buffer.tobytes()
    )


def test_a_second_ctrl_c_in_fit(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, model = iter(range(1000)), LeNet()
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(clock))

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(model, small, callbacks=(At(3, twice),), **PLAIN)
    assert not model.training


def test_a_handler_of_the_users_own(small: Dataset) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        history = fit(LeNet(), small, callbacks=(At(3, lambda: signal.raise_signal(signal.SIGINT)),), **PLAIN)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted and len(history.epochs) == 3 and came == [signal.SIGINT]


def test_a_callback_stops_fit(small: Dataset) -> None:
    """With averaged weights, the model has them."""
    model = LeNet()

    class Stop(Callback):
        def epoch(self, trainer: Trainer, epoch: Any) -> None:
            self.average = trainer.state.average["parameters"].copy()
            trainer.stop()

    stop = Stop()
    history = fit(model, small, callbacks=(stop,), ema=0.9, ema_start=0.1, **PLAIN)
    assert history.stopped == "a callback stopped it" and not history.interrupted
    assert len(history.epochs) == 1 and not model.training
    assert np.array_equal(model.parameter_buffer, stop.average)


def test_the_model_is_in_evaluation_mode(small: Dataset) -> None:
    """Whether the training ended, diverged, or failed in a callback."""
    model = LeNet()
    fit(model, small, epochs=1)
    assert not model.training
    with pytest.raises(DivergedError):
        fit(model, small, epochs=1, lr=1e30)
    assert not model.training
    with pytest.raises(ZeroDivisionError):
        fit(LeNet(), small, epochs=1, callbacks=(At(2, lambda: 1 // 0),))
    assert not model.training


def test_a_checkpoint_in_the_home_folder(small: Dataset, home: Path) -> None:
    """Where no shell has spelt it out."""
    fit(LeNet(), small, epochs=1, checkpoint="~/state")
    history = fit(LeNet(), small, epochs=1, resume="~/state", checkpoint="~/state")
    assert len(history.epochs) == 1 and [path.name for path in home.iterdir()] == ["state"]


def test_a_checkpoint_that_cannot_be(small: Dataset, tmp_path: Path) -> None:
    """Refused before the first step: a folder that there is not, and the checkpoint of another run, which stays."""
    model = LeNet()
    before = model.parameter_buffer.tobytes()
    with pytest.raises(CheckpointError, match="there is no folder"):
        fit(model, small, checkpoint=tmp_path / "no" / "such", **PLAIN)
    fit(LeNet(1), small, seed=1, epochs=1, checkpoint=tmp_path / "state")
    first = (tmp_path / "state").read_bytes()
    with pytest.raises(CheckpointError, match="state: exists; resume the run that wrote it, choose another name, or remove it"):
        fit(model, small, checkpoint=tmp_path / "state", **PLAIN)
    assert (tmp_path / "state").read_bytes() == first and model.parameter_buffer.tobytes() == before


def test_a_full_disk_in_fit(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning when it begins and one at the end; the history comes back, and the model has its weights."""
    failing(monkeypatch, lambda path: True)
    with pytest.warns(RuntimeWarning) as told:
        history = fit(LeNet(), small, checkpoint=tmp_path / "state", **PLAIN)
    assert len(history.epochs) == 3
    first, last = (str(warning.message) for warning in told)
    assert first.startswith(f"{tmp_path}/state: cannot be written") and "the training goes on" in first
    assert last.endswith("the model has its weights, the checkpoint has not")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.undo()
        fit(LeNet(), small, checkpoint=tmp_path / "state", **PLAIN)
