"""The log of a run, read again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fastlenet import LeNet, Recipe
from fastlenet.data import Dataset
from fastlenet.training.callbacks.json_log import JsonLog, LogError
from fastlenet.training.history import Epoch
from fastlenet.training.logs import read_log
from fastlenet.training.trainer import Trainer
from helpers.command import Result

EPOCHS = [Epoch(1, 0.5, 0.75, None, None, 2.0, 100.0), Epoch(2, math.inf, 0.875, math.inf, 0.96875, 4.0, 50.0)]


def line(seed: int = 0, **changes: Any) -> str:
    return json.dumps({"seed": seed, **asdict(EPOCHS[0]), **changes})


def test_what_was_written_is_read(mnist: Dataset, tmp_path: Path) -> None:
    """Of two networks, with a loss that is infinite and epochs that were not evaluated."""
    log = JsonLog(tmp_path / "log", resumed=False)
    for seed in (5, 6):
        run = Trainer(LeNet(), mnist, Recipe(seed=seed))
        for epoch in EPOCHS:
            log.epoch(run, epoch)
    log.close()
    assert [history.epochs for history in read_log(tmp_path / "log")] == [EPOCHS, EPOCHS]


def test_the_log_of_the_command(train_here: Callable[..., Result], small_mnist: Path, tmp_path: Path) -> None:
    train_here("--data-dir", small_mnist, "--epochs", 2, "--dry-run", "--ensemble", 2, "--log-json", "log")
    histories = read_log(tmp_path / "log")
    assert [[epoch.epoch for epoch in history.epochs] for history in histories] == [[1, 2], [1, 2]]


def test_a_run_that_was_killed_and_resumed(tmp_path: Path) -> None:
    """An epoch that is there twice counts once, the later line; a line that was cut off at the end does not."""
    lines = [line(), line(epoch=2, loss=0.3), line(epoch=2, loss=0.2, more="unknown"), line(epoch=3)[:40]]
    (tmp_path / "log").write_text("\n".join(lines))
    (history,) = read_log(tmp_path / "log")
    assert [(epoch.epoch, epoch.loss) for epoch in history.epochs] == [(1, 0.5), (2, 0.2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it has no epochs"),
        ("\n\n", "it has no epochs"),
        ("hello", "line 1 expects a JSON object"),
        ("[1]\n", "line 1 expects a JSON object"),
        (f"{line()}\nnull\n", "line 2 expects a JSON object"),
        ("[" * 100_000 + "\n", "line 1 expects a JSON object"),
        (line(loss="0.5") + "\n", "line 1 expects a number as 'loss', got '0.5'"),
        (line(loss=True) + "\n", "line 1 expects a number as 'loss', got True"),
        (line(accuracy=None) + "\n", "line 1 expects a number as 'accuracy', got None"),
        (line(accuracy=1.5) + "\n", "line 1 expects a 'accuracy' in 0..1, got 1.5"),
        (line(loss=-1) + "\n", "line 1 expects a 'loss' in the finite numbers from 0, got -1"),
        (line(loss=math.nan) + "\n", "line 1 expects a JSON object"),
        (line().replace("0.5", "1e999") + "\n", "line 1 expects a 'loss' in the finite numbers from 0, got inf"),
        (line(epoch=1.5) + "\n", "line 1 expects a whole seed and an epoch from 1, got 0 and 1.5"),
        (line(seed="a") + "\n", "line 1 expects a whole seed and an epoch from 1, got 'a' and 1"),
        ('{"accuracy": 1}\n', "line 1 expects a number as 'epoch', got None"),
        ("\xff\xfe", "line 1 expects a JSON object"),
    ],
)
def test_no_log(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(text.encode("latin-1"))
    with pytest.raises(LogError) as caught:
        read_log(tmp_path / "log")
    assert str(caught.value) == f"{tmp_path / 'log'}: no log of a training; {words}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "absent", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(LogError) as caught:
            read_log(path)
        assert str(caught.value) == f"{path}: {words}"


def test_a_file_without_end(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LogError, match="more than 64 MiB"):
        read_log(tmp_path / "log")
