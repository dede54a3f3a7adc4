"""The ops' scratch memory: its arrays do not overlap, and a worker's stay in one place. It needs a C++ compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_places_of_arrays(tmp_path: Path) -> None:
    program = tmp_path / "scratch_test"
    sources = [ROOT / "tests" / "cpp" / "scratch_test.cpp", ROOT / "cpp" / "machine" / "scratch.cpp"]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *sources, "-o", program], check=True)
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and ran.stdout == "scratch_test: passed\n", ran.stderr
