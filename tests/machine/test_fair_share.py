"""How the pool holds threads back beside other processes: the rule, on a made-up clock. It needs a C++ compiler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "cpp" / "fair_share_test.cpp"


def test_the_rule(tmp_path: Path) -> None:
    program = tmp_path / "fair_share_test"
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", program], check=True)
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and ran.stdout == "fair_share_test: passed\n", ran.stderr
