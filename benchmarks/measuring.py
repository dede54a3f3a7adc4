"""Functions that the benchmarks share: a description of the machine, alternating rounds, tables, JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastlenet
from fastlenet.files import write_atomically

__all__ = ["RESULTS", "machine", "print_machine", "print_table", "save", "spread"]

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Its kind, and the versions of what runs on it."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{f"fastlenet {key}": value for key, value in fastlenet.config().items()},
    }


def print_machine() -> None:
    facts = machine()
    print(f"{facts['cpu']}, {facts['cpus']} CPUs; level {facts['fastlenet level']}; {facts['fastlenet compiler']}\n")


def spread(values: Sequence[float]) -> str:
    """The median, and how far the rounds lie from it."""
    middle = statistics.median(values)
    return f"{middle:,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    print(flush=True)


def save(name: str, result: dict[str, Any]) -> None:
    """Writes results/NAME.json: the command, the machine, and what was measured."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    write_atomically(path, json.dumps({"command": command, "machine": machine(), **result}, indent=1).encode() + b"\n")
    print(f"saved benchmarks/results/{path.name}")
