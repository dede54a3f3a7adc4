"""What a run that ends early must not touch: the handlers of signals, and the home folder of whoever runs the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.runs import SIGNALS


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
