"""Compile the kernels for every architecture, and write the report of ptxas to cuda/ptxas.md; --check compares instead.

python tools/ptxas_table.py [--check]

A warning or a spilled register is an error. The table holds registers per architecture and bytes of static shared memory.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "cuda" / "ptxas.md"
ARCHITECTURES = (75, 80, 86, 89, 90, 120)
FLAGS = ["-std=c++17", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]

Usage = dict[str, dict[int, tuple[int, int]]]


def generate_flags() -> list[str]:
    """Code for each architecture, and PTX of the newest."""
    flags = [f"arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    flags.append(f"arch=compute_{ARCHITECTURES[-1]},code=compute_{ARCHITECTURES[-1]}")
    return [part for flag in flags for part in ("-gencode", flag)]


def compile_kernels(source: Path) -> str:
    """What nvcc and ptxas say; exits where they warn."""
    with tempfile.TemporaryDirectory() as folder:
        output = ["-fatbin", "-o", f"{folder}/kernels.fatbin"]
        command = ["nvcc", *FLAGS, *generate_flags(), "-I", "cuda/hardware", "-I", "cuda", *output, str(source)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode or re.search(r"warning", result.stderr):
        sys.exit(f"FAILED: {' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stderr


def short_name(mangled: str) -> str:
    """The kernel's name with its template's arguments, without namespaces."""
    name = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"\(anonymous namespace\)::|fastlenet::cuda::", "", name.removeprefix("void "))
    return name[: name.index("(")]


def parse(report: str) -> Usage:
    """{kernel: {architecture: (registers, shared memory)}}; exits where a register was spilled."""
    usage: Usage = {}
    kernel, architecture = "", 0
    for line in report.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", line):
            kernel, architecture = short_name(match[1]), int(match[2])
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if any(int(number) for number in match.groups()):
                sys.exit(f"FAILED: {kernel}, sm_{architecture}: {line.strip()}")
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            usage.setdefault(kernel, {})[architecture] = int(match[1]), int(shared[1]) if shared else 0
    return usage


def table() -> str:
    sources = sorted((ROOT / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(compile_kernels, sources))
    version = re.search(
        r"release (\S+),", subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    )
    assert version is not None
    lines = [
        "# Registers and shared memory of the CUDA kernels",
        "",
        "The table has the registers per thread on each architecture, and the bytes of static shared memory per block, by",
        f"ptxas of CUDA {version[1]}. No kernel spills registers. `python tools/ptxas_table.py` makes it; CI fails if it",
        "differs.",
        "",
        "| file | kernel | " + " | ".join(f"sm_{number}" for number in ARCHITECTURES) + " | shared |",
        "|---|---|" + "---:|" * (len(ARCHITECTURES) + 1),
    ]
    for source, report in zip(sources, reports, strict=True):
        for kernel, by_architecture in sorted(parse(report).items()):
            shared = {shared for _, shared in by_architecture.values()}
            registers = " | ".join(str(by_architecture[number][0]) for number in ARCHITECTURES)
            lines.append(f"| {source.name} | `{kernel}` | {registers} | {max(shared)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    text = table()
    if "--check" not in sys.argv[1:]:
        TABLE.write_text(text)
        return 0
    if text.splitlines()[0] != TABLE.read_text().splitlines()[0]:
        print(f"compiled without warnings or spills; the table is of another CUDA: {TABLE.read_text().splitlines()[0]}")
        return 0
    difference = list(difflib.unified_diff(TABLE.read_text().splitlines(), text.splitlines(), "committed", "compiled"))
    print("\n".join(difference) or "cuda/ptxas.md is up to date")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
