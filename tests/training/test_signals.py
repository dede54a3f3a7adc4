"""A signal to the command saves what was trained, stops it with its code, and ends the processes that it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlenet import signals
from fastlenet.cli import train
from fastlenet.speedrun import contenders, protocol
from fastlenet.training.checkpoint import load_checkpoint
from fastlenet.training.trainer import Trainer
from helpers.command import Result, train_command
from helpers.runs import FLAGS, SHORT, SIGNALS, at_step, steps_in

pytestmark = pytest.mark.usefixtures("unchanged_handlers", "home")

Train = Callable[..., Result]


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
