#!/usr/bin/env python3
"""Fails when a kernel has become slower.

    python tools/guard.py [--build FOLDER] [--renew]

Instructions: Callgrind counts the instructions of every op of tests/cpp/kernel_count.cpp at level x86-64-v3, since it does not
support AVX-512. An op may execute 10 % more than the table has for the same major version of the compiler, because patch
releases differ by a few per cent.
Time: every large product of a training step is timed at level x86-64-v4, in million operations of a multiply-add loop that is
timed in the same run. Small kernels are left out: they move memory, whose speed changes on shared machines. A product fails if
it took more than 1.6 x the table's figure for the same kind of CPU in each of five attempts.

The table is benchmarks/results/guard.json; --renew writes this machine's figures into it. If the table lacks this compiler or
CPU, or the machine lacks Valgrind or AVX-512, the guard prints that and checks nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "benchmarks" / "results" / "guard.json"
sys.path.insert(0, str(ROOT / "benchmarks"))

MORE_INSTRUCTIONS, MORE_TIME, ATTEMPTS, ROUNDS, LARGE = 1.10, 1.6, 5, 3, 1e5

Figures = dict[str, float]


def build(folder: Path) -> None:
    command = ["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "fastlenet_cpu", "-j"], check=True, stdout=subprocess.DEVNULL)


def compiler(folder: Path) -> tuple[str, str]:
    """The compiler that CMake found: its command, and its name with the major version."""
    [found] = folder.glob("CMakeFiles/*/CMakeCXXCompiler.cmake")
    command, kind, version = (
        re.search(rf'set\({name} "(.*)"\)', found.read_text())[1]  # type: ignore[index]
        for name in ("CMAKE_CXX_COMPILER", "CMAKE_CXX_COMPILER_ID", "CMAKE_CXX_COMPILER_VERSION")
    )
    return command, f"{kind} {version.partition('.')[0]}"


def count_instructions(folder: Path, command: str) -> Figures:
    """The instructions of every op. Callgrind writes one file per op."""
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "kernel_count")
        source = ROOT / "tests" / "cpp" / "kernel_count.cpp"
        subprocess.run(
            [command, "-std=c++17", "-O2", source, folder / "libfastlenet_cpu.a", "-o", program, "-pthread"], check=True
        )
        environment = {"FASTLENET_ISA": "x86-64-v3", "PATH": "/usr/bin:/bin"}
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={place}/out"]
        subprocess.run([*valgrind, program], check=True, env=environment)
        counts = {}
        for number in range(1, len(list(Path(place).glob("out.*"))) + 1):
            text = Path(place, f"out.{number}").read_text()
            name, total = re.search(r"Trigger: Client Request: (.*)", text), re.search(r"^totals: (\d+)", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = int(total[1])
        return counts


def cpu_kind() -> str:
    """The CPU's vendor, family and model. They determine a kernel's time; a virtual machine's CPU often has no exact name."""
    facts = dict(re.findall(r"^(vendor_id|cpu family|model)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    return f"{facts['vendor_id']} family {facts['cpu family']} model {facts['model']}"


def time_kernels() -> Figures:
    """The time of each large kernel per image, in million operations of this CPU's multiply-add loop."""
    from lenet_step import measure_kernels

    return {kernel.name: kernel.seconds * kernel.peak / 1e6 for kernel in measure_kernels(ROUNDS) if kernel.flops > LARGE}


def beyond(figures: Figures, bounds: Figures, room: float) -> list[str]:
    """The ops with more than room times the table's figure, or without a figure in the table."""
    return [name for name, value in figures.items() if name not in bounds or value > room * bounds[name]]


def report(title: str, figures: Figures, bounds: Figures, room: float, digits: str) -> bool:
    """Print the figures and the table's. Returns whether all of them are within the room."""
    print(f"\n{title}")
    for name, value in figures.items():
        change = f"{value / bounds[name]:10.3f} x the table's" if name in bounds else "   not in the table"
        print(f"  {name:<28}{value:{digits}}{change if bounds else ''}")
    failed = beyond(figures, bounds, room) if bounds else []
    gone = sorted(bounds.keys() - figures.keys())
    for name in failed:
        print(f"FAILED: {name} exceeds {room} x the table's figure, or has none; if this is intended: tools/guard.py --renew")
    for name in gone:
        print(f"FAILED: {name} is in the table but was not measured")
    return not failed and not gone


def guard_instructions(folder: Path | None, table: dict[str, Figures], renew: bool) -> bool:
    if shutil.which("valgrind") is None:
        print("SKIPPED: Valgrind is not installed: no instructions are counted")
        return True
    with tempfile.TemporaryDirectory() as place:
        if folder is None:
            folder = Path(place)
        if not (folder / "libfastlenet_cpu.a").exists():
            build(folder)
        command, kind = compiler(folder)
        figures = count_instructions(folder, command)
    if renew:
        table[kind] = figures
    if kind not in table:
        print(f"NOT CHECKED: the table has no instruction counts for {kind}")
    return report(f"instructions, x86-64-v3, {kind}", figures, table.get(kind, {}), MORE_INSTRUCTIONS, "14,.0f")


def guard_times(table: dict[str, Figures], renew: bool) -> bool:
    from fastlenet import config

    if config()["level"] != "x86-64-v4":
        print(f"SKIPPED: no times of x86-64-v4, the level in use is {config()['level']}")
        return True
    kind = cpu_kind()
    best = time_kernels()
    for _ in range(ATTEMPTS - 1):
        if not renew and not (kind in table and beyond(best, table[kind], MORE_TIME)):
            break
        best = {name: min(value, best[name]) for name, value in time_kernels().items()}
    if renew:
        table[kind] = {name: round(value, 3) for name, value in best.items()}
    if kind not in table:
        print(f"NOT CHECKED: the table has no times for {kind}")
    title = f"time in million multiply-add operations per image, x86-64-v4, {kind}"
    return report(title, best, table.get(kind, {}), MORE_TIME, "14.3f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=Path, help="CMake build folder, built if necessary (default: a temporary one)")
    parser.add_argument("--renew", action="store_true", help="write this machine's figures into the table")
    parser.add_argument("--only", choices=["instructions", "times"], help="check only the instructions or only the times")
    arguments = parser.parse_args()
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {"instructions": {}, "times": {}}
    good = True
    if arguments.only != "times":
        good &= guard_instructions(arguments.build, table["instructions"], arguments.renew)
    if arguments.only != "instructions":
        good &= guard_times(table["times"], arguments.renew)
    if arguments.renew:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
