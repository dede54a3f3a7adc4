"""However a run ends, what was trained is kept: signals, disks that are full, folders that are gone, outputs that have gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fastlenet import LeNet, signals
from fastlenet.cli import train
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.files import reserve
from fastlenet.formats import tensor_file
from fastlenet.speedrun import contenders, protocol
from fastlenet.training import checkpoint
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.console import Console
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.ensemble import split_members
from fastlenet.training.fit import fit
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import Trainer
from helpers.command import Result, one_line, train_command

Train = Callable[..., Result]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PLAIN = {"epochs": 3, "batch_size": 100}  # of 6 steps
FLAGS = ("--epochs", 3, "--batch-size", 100, "--quiet")
SHORT = ("--epochs", 3, "--dry-run", "--quiet")  # three steps, for a run that comes to its end


@pytest.fixture
def small(small_mnist: Path) -> Dataset:
    data = load_idx_directory(small_mnist)
    return replace(data, train_images=data.train_images[:600], train_labels=data.train_labels[:600])


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Nobody changes what the signals do for longer than a run."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """So that nothing is saved in that of whoever runs the tests."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(path))
    return path


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


# --- signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_saves(
    number: signal.Signals, train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the step at hand; twice in the same half second, as from a process group and a wrapper, it is one signal."""

    def twice() -> None:
        signal.raise_signal(number)
        signal.raise_signal(number)

    at_step(27, twice, monkeypatch)
    result = train_here("--data-dir", small_mnist, *FLAGS)
    saved = "fastlenet-interrupted.safetensors"
    assert result.err == f"\ninterrupted; saved. To continue: python -m fastlenet.train --resume {saved}\n"
    assert result.code == 128 + number and steps_in(tmp_path / saved) == 27


def test_a_later_signal_stops_at_once(train_here: Train, small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of the save, too: no traceback, and the code of that signal."""
    clock = iter(range(1000))
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(clock))
    at_step(3, lambda: signal.raise_signal(signal.SIGINT), monkeypatch)
    monkeypatch.setattr(Trainer, "save", lambda trainer, path: signal.raise_signal(signal.SIGTERM))
    result = train_here("--data-dir", small_mnist, *FLAGS)
    assert (result.code, result.err) == (143, "\ninterrupted\n")


def test_an_ignored_signal_stays_ignored(train_here: Train, small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nohup ignores SIGHUP, and a script's shell the Ctrl-C of what runs in its background; a handler of one's own stays."""
    came: list[int] = []
    before = [signal.signal(number, signal.SIG_IGN) for number in SIGNALS[1:]]
    mine = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        at_step(2, lambda: [signal.raise_signal(number) for number in SIGNALS], monkeypatch)
        assert train_here("--data-dir", small_mnist, *SHORT).code == 0
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, mine)
        for number, handler in zip(SIGNALS[1:], before, strict=True):
            signal.signal(number, handler)
    assert came == [signal.SIGINT]


def test_a_signal_while_the_data_is_loaded(train_here: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_load_data", lambda settings: signal.raise_signal(signal.SIGTERM))
    result = train_here("--checkpoint", "state")
    assert (result.code, result.err) == (143, "\ninterrupted\n")


def test_in_another_thread(train_here: Train, small_mnist: Path) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(train_here("--data-dir", small_mnist, "--dry-run", "--quiet")))
    thread.start()
    thread.join()
    assert [result.code for result in results] == [0]


@pytest.mark.slow
def test_several_runs_stopped_at_once(small_mnist: Path, tmp_path: Path) -> None:
    """Three in one folder get the same Ctrl-C: three files, one of each run."""
    flags = ("--data-dir", small_mnist, "--epochs", "1000", "--threads", "1", "--seed")
    runs = [
        subprocess.Popen(
            train_command(*flags, str(seed)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in range(3)
    ]
    for run in runs:
        assert run.stdout is not None and any(line.startswith("epoch 1") for line in run.stdout)
    for run in runs:
        run.send_signal(signal.SIGINT)
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [130] * 3, errors
    saved = [tmp_path / error.rsplit(maxsplit=1)[1] for error in errors]
    assert sorted(tmp_path.iterdir()) == sorted(saved)
    assert [load_checkpoint(path)[1]["recipe"]["seed"] for path in saved] == [0, 1, 2]


def test_speedrun_stopped_while_it_starts_a_run(
    small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a signal that comes when the run's process is there and has not yet been handed over: it is ended all the same."""
    started: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if "fastlenet.train" in self.args:
                started.append(self)
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(contenders.subprocess, "Popen", Popen)
    assert protocol.main(["--data-dir", str(small_mnist), "--epochs", "100000"]) == 143
    assert capsys.readouterr().err == "\ninterrupted\n"
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.slow
def test_speedrun_takes_its_runs_with_it(small_mnist: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastlenet.speedrun", "--data-dir", str(small_mnist), "--epochs", "100000"]
    with subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 300
        while not children.read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        child = int(children.read_text())
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 143 and error == "\ninterrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert list(tmp_path.iterdir()) == []


# --- what cannot be saved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--save-model", "--checkpoint"])
def test_networks_that_cannot_be_saved_there(
    flag: str, train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accuracy is printed, one line names another file that has all the networks, and the code says: not as asked."""
    failing(monkeypatch, lambda path: path.name == "mine")
    result = train_here("--data-dir", small_mnist, *SHORT, "--ensemble", 2, flag, "mine")
    assert result.code == 2 and result.out.startswith("final accuracy ")
    elsewhere = "fastlenet-finished.safetensors"
    end = f"mine: cannot be written (No space left on device); {elsewhere} holds the 2 networks, for --load-model"
    assert result.err.endswith(f"fastlenet.train: error: {end}\n")
    assert [path.name for path in tmp_path.iterdir()] == [elsewhere]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = train_here("--data-dir", small_mnist, "--quiet", "--load-model", elsewhere)
    assert again.out == result.out


def test_a_save_that_fails_for_a_while(
    train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, and once that it is over; the run ends as if nothing had happened."""
    calls = iter(range(1000))
    failing(monkeypatch, lambda path: next(calls) == 1)
    result = train_here("--data-dir", small_mnist, *SHORT, "--checkpoint", "state")
    first, second = result.err.splitlines()
    assert result.code == 0 and steps_in(tmp_path / "state") == 3
    assert first == (
        "state: cannot be written (No space left on device); the training goes on, and the next time it is tried again"
    )
    assert second == "state: could be written this time"


def test_a_signal_on_a_full_disk(train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda path: path.name == "state")
    at_step(3, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    result = train_here("--data-dir", small_mnist, *FLAGS, "--checkpoint", "state")
    saved = "fastlenet-interrupted.safetensors"
    assert result.code == 2 and steps_in(tmp_path / saved) == 3
    end = f"saved. To continue: python -m fastlenet.train --resume {saved}\n"
    assert result.err == f"\ninterrupted; state: cannot be written (No space left on device); {end}"


def test_a_signal_without_room_for_the_state(
    train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights alone are kept where nothing larger fits."""

    def save(*arguments: Any) -> None:
        raise CheckpointError("no room for a state")

    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    at_step(3, lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    result = train_here("--data-dir", small_mnist, *FLAGS)
    weights = "fastlenet-finished.safetensors"
    assert result.code == 2
    assert one_line(result).startswith("fastlenet.train: error: interrupted; the training state could not be saved: no room")
    assert result.err.endswith(f"{weights} holds the weights so far, for --load-model\n")
    assert train_here("--data-dir", small_mnist, "--load-model", weights, "--epochs", 0).code == 0


def test_a_signal_in_a_folder_that_is_gone(
    train_here: Train, small_mnist: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is in the home folder then."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    at_step(3, lambda: signal.raise_signal(signal.SIGINT), monkeypatch)
    result = train_here("--data-dir", small_mnist, *FLAGS)
    saved = home / "fastlenet-interrupted.safetensors"
    assert result.code == 130 and result.err.endswith(f" --resume {saved}\n") and steps_in(saved) == 3


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_no_memory_in_an_ensemble(
    train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks that were finished before are kept, whatever ends the training."""
    at_step(8, raising(MemoryError()), monkeypatch)
    result = train_here("--data-dir", small_mnist, *SHORT, "--ensemble", 3)
    kept, error = result.err.splitlines()
    assert result.code == 2 and "not enough memory" in error
    assert kept == "fastlenet-finished.safetensors holds the 2 networks finished before, for --load-model"
    assert len(split_members(load_file(tmp_path / "fastlenet-finished.safetensors"), "")) == 2


@pytest.mark.parametrize("is_hung_up", [True, False])
def test_an_output_that_has_gone(
    is_hung_up: bool, train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that is closed sends SIGHUP, and takes no more; a pipe breaks alone. The state is saved either way."""

    def go() -> None:
        if is_hung_up:
            signal.raise_signal(signal.SIGHUP)
            raise OSError(errno.EIO, "Input/output error")
        raise BrokenPipeError

    at_step(7, go, monkeypatch)
    result = train_here("--data-dir", small_mnist, *FLAGS)
    assert result.code == (129 if is_hung_up else 141)
    assert steps_in(tmp_path / "fastlenet-interrupted.safetensors") == 7


# --- checkpoints ---------------------------------------------------------------------------------------------------------


def test_another_run_is_alive(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """Told before the data is read, for a new checkpoint and for one to go on from."""
    with reserve(tmp_path / "state"):
        message = one_line(train_here("--data-dir", "nowhere", "--checkpoint", "state"))
        assert f"state: another run writes it, process {os.getpid()} on " in message
    assert train_here("--data-dir", small_mnist, "--dry-run", "--checkpoint", "state").code == 0
    with reserve(tmp_path / "state", tmp_path / "state"):
        assert "state: another run writes it" in one_line(train_here("--resume", "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_run_without_epochs_has_a_checkpoint(train_here: Train, small: Dataset, small_mnist: Path, tmp_path: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--epochs", 0, "--quiet", "--checkpoint", "state")
    assert result.code == 0 and steps_in(tmp_path / "state") == 0
    assert train_here("--resume", "state", "--quiet").out == result.out
    fit(LeNet(), small, epochs=0, checkpoint=tmp_path / "other")
    assert steps_in(tmp_path / "other") == 0


# --- in Python -----------------------------------------------------------------------------------------------------------


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
