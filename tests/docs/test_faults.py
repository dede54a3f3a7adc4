"""The tables of planted faults fit the sources: a fault whose text is gone would never be planted again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MUTATE = Path(__file__).parents[2] / "tools" / "mutate.py"


def test_every_fault_can_be_planted() -> None:
    listed = subprocess.run([sys.executable, MUTATE, "--list"], capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr or listed.stdout
