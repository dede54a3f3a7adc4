"""Small data and a run on them; and what no run may touch: the handlers of signals, and the home folder."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlenet.data import Dataset
from helpers.command import Result
from helpers.idx import write_idx
from helpers.runs import SIGNALS


@pytest.fixture(scope="session")
def tiny_mnist(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 400 training and 100 test images."""
    folder = tmp_path_factory.mktemp("tiny_mnist")
    write_idx(folder / "train-images-idx3-ubyte", mnist.train_images[:400])
    write_idx(folder / "train-labels-idx1-ubyte", mnist.train_labels[:400])
    write_idx(folder / "t10k-images-idx3-ubyte", mnist.test_images[:100])
    write_idx(folder / "t10k-labels-idx1-ubyte", mnist.test_labels[:100])
    return folder


@pytest.fixture
def run_of_one_epoch(train_here: Callable[..., Result], tiny_mnist: Path, tmp_path: Path) -> Path:
    """A folder with the data in d1, given by a relative path, and the checkpoint state of a run on them."""
    shutil.copytree(tiny_mnist, tmp_path / "d1")
    assert train_here("--data-dir", "d1", "--epochs", 1, "--checkpoint", "state").code == 0
    return tmp_path


@pytest.fixture
def unchanged_handlers() -> Iterator[None]:
    """Nobody changes what the signals do for longer than a run."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """So that nothing is saved in that of whoever runs the tests."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(path))
    return path
