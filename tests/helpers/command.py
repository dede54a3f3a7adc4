"""The command lines, and what they print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str


def train_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fastlenet.train", *map(str, arguments)]


def one_line(result: Result, code: int = 2) -> str:
    """The only line on standard error; never a traceback."""
    assert result.code == code, result
    lines = [line for line in result.err.splitlines() if not line.startswith(("usage:", " "))]
    assert len(lines) == 1, result.err
    return lines[0]
