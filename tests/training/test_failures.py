"""What the command keeps when a disk is full, a folder or an output has gone, memory is short, or another run is alive."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from fastlenet.files import reserve
from fastlenet.training import checkpoint
from fastlenet.training.checkpoint import CheckpointError
from fastlenet.training.ensemble import split_members
from helpers.command import Result, one_line
from helpers.runs import FLAGS, SHORT, at_step, failing, steps_in

pytestmark = pytest.mark.usefixtures("unchanged_handlers", "home")

Train = Callable[..., Result]


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


def test_another_run_is_alive(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """Told before the data is read, for a new checkpoint and for one to go on from."""
    with reserve(tmp_path / "state"):
        message = one_line(train_here("--data-dir", "nowhere", "--checkpoint", "state"))
        assert f"state: another run writes it, process {os.getpid()} on " in message
    assert train_here("--data-dir", small_mnist, "--dry-run", "--checkpoint", "state").code == 0
    with reserve(tmp_path / "state", tmp_path / "state"):
        assert "state: another run writes it" in one_line(train_here("--resume", "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
