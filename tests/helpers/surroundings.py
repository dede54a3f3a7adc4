"""A small training, a save and a prediction in a process of its own, and what it may say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

JOBS = Path(__file__).parents[1] / "surroundings"


def job(
    folder: Path, limits: Callable[[], None] | None = None, *before: str, more: Sequence[str] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Runs job.py in a process of its own. before: a command in front of it. more: further arguments of job.py. environment:
    variables; None takes one away.
    """
    variables = {name: value for name, value in (dict(os.environ) | environment).items() if value is not None}
    command = [*before, sys.executable, str(JOBS / "job.py"), str(folder), *more]
    return subprocess.run(
        command, env=variables, preexec_fn=limits, capture_output=True, text=True, errors="replace", timeout=120
    )


def expect_usual(done: subprocess.CompletedProcess[str], usual: str, folder: Path) -> None:
    assert done.returncode == 0, done
    assert done.stdout == usual and not done.stderr, done
    assert sorted(os.listdir(folder)) == ["log.jsonl", "model.safetensors"]


def expect_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line that says why, and no crash."""
    assert done.returncode == 3, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert any(word in done.stderr for word in words), done.stderr
