"""Times `import fastlenet` and `import numpy`, each in a new process, in turns, and prints their ratio.

    python benchmarks/bench_import.py [--rounds 21]

A figure is the median wall-clock time of whole processes. It includes the start of the interpreter, which is printed too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from measuring import print_machine, print_table, save

PROGRAMS = {"nothing": "pass", "numpy": "import numpy", "fastlenet": "import fastlenet"}


def start_process(program: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    print_machine()
    for program in PROGRAMS.values():
        start_process(program)  # compiles what is not yet, and reads the files into memory
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(arguments.rounds):
        for name, program in PROGRAMS.items():
            seconds[name].append(start_process(program))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [[f"import {name}", f"{m * 1e3:.1f}", f"{m / medians['numpy']:.2f} x"] for name, m in medians.items()]
    print_table(["process", "ms", "over NumPy"], rows)
    save("bench_import", {"rounds": arguments.rounds, "seconds": medians})


if __name__ == "__main__":
    main()
