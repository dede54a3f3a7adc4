"""A differential fuzzer of the ops: random calls, right and wrong, against fastlenet.reference.

    python tests/fuzz.py --cases 100000              in child processes, so that a crash is told from a failure
    python tests/fuzz.py --seed 3 --case 4711        one case, here: what the line of a failure says

A case depends on its seed and number alone (and on --op, --level). Exit code 1 if any failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastlenet import _core
from helpers.fuzz.calls import GENERATORS
from helpers.fuzz.case import FuzzError, run_case

PROGRAM = Path(__file__).parents[2] / "fuzz.py"
CHUNK = 5000
HANGS_AFTER = 300  # seconds for 100 cases, which take less than one


@dataclass
class Report:
    taken: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


def repeat_line(seed: int, case: int, op: str | None, level: str | None, device: str | None = None) -> str:
    """The command that runs one case again."""
    chosen = ("op", op), ("level", level), ("device", device)
    options = "".join(f" --{name} {value}" for name, value in chosen if value)
    return f"python tests/fuzz.py --seed {seed} --case {case}{options}"


def run_here(
    seed: int,
    cases: range,
    op: str | None = None,
    level: str | None = None,
    device: str | None = None,
    state: int | None = None,
) -> Iterator[str]:
    """Runs the cases, yields what each comes to; `state`, a file, holds the number of the one that runs."""
    for i, case in enumerate(cases):
        if state is not None:
            os.pwrite(state, b"%20d" % case, 0)
            if i % 100 == 0:
                faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        try:
            yield run_case(seed, case, op, level, device)
        except FuzzError as failure:
            yield f"{repeat_line(seed, case, op, level, device)}: {ascii(str(failure))[1:-1][:1500]}"
    faulthandler.cancel_dump_traceback_later()


def child(seed: int, cases: range, op: str | None, level: str | None, state: str) -> None:
    """Prints what each case comes to."""
    faulthandler.enable()
    warnings.simplefilter("ignore")  # of the reference, which is given nonsense
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # which reserves terabytes
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    for line in run_here(seed, cases, op, level, state=os.open(state, os.O_WRONLY)):
        print(line, flush=True)


def run(
    seed: int,
    cases: range,
    op: str | None = None,
    level: str | None = None,
    progress: bool = False,
    program: str | Path = PROGRAM,
    results: Path | None = None,
) -> Report:
    """Runs the cases in child processes, each going on behind the crash of the one before.

    results: a file that has the figures so far at any time, since a long run may be stopped. If it is there, the run goes on.
    """
    report, first, seconds = _kept(results, seed, cases)
    start = time.monotonic() - seconds
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "case")
        while first < cases.stop:
            last = min(first + CHUNK, cases.stop)
            state.write_text("")
            options = ["--seed", seed, "--first", first, "--cases", last - first, "--child", state]
            options += [part for name, value in (("--op", op), ("--level", level)) if value for part in (name, value)]
            done = subprocess.run([sys.executable, program, *map(str, options)], stdout=subprocess.PIPE, text=True)
            lines = done.stdout.splitlines()
            report.taken, report.refused = report.taken + lines.count("taken"), report.refused + lines.count("refused")
            lines = [line for line in lines if line.startswith("python ")]
            if done.returncode != 0:
                last = int(state.read_text()) + 1
                lines.append(f"{repeat_line(seed, last - 1, op, level)}: the process died of {done.returncode}")
            report.failures += lines
            first = last
            for line in lines:
                print(line, flush=True)
            if results is not None:
                write_results(results, seed, range(cases.start, first), report, time.monotonic() - start)
            if progress:
                print(f"{first} cases, {len(report.failures)} failures", file=sys.stderr, flush=True)
    return report


def _kept(results: Path | None, seed: int, cases: range) -> tuple[Report, int, float]:
    """What a run of these cases did before it was stopped, its next case, and the seconds that it took."""
    if results is None or not results.exists():
        return Report(), cases.start, 0.0
    old = json.loads(results.read_text())
    if (old["seed"], old["first"]) != (seed, cases.start):
        sys.exit(f"{results} has the figures of seed {old['seed']} from case {old['first']} on; remove it to begin anew")
    return Report(old["taken"], old["refused"], old["findings"]), cases.start + old["calls"], old["seconds"]


def write_results(path: Path, seed: int, cases: range, report: Report, seconds: float) -> None:
    """The figures of the cases so far, as JSON."""
    from fastlenet.distributed.working import cpu_model  # which the child processes need not load

    figures = {
        "cpu": cpu_model(),
        "sanitizers": "address, undefined" if "asan" in os.environ.get("LD_PRELOAD", "") else "none",
        "levels": _core.levels_available(),
        "seed": seed,
        "first": cases.start,
        "calls": len(cases),
        "taken": report.taken,
        "refused": report.refused,
        "seconds": round(seconds),
        "findings": report.failures,
    }
    path.write_text(json.dumps(figures, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run this one alone, in this process")
    parser.add_argument("--cases", type=int, default=1000, metavar="N")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--op", choices=GENERATORS)
    parser.add_argument("--level", choices=_core.levels_available())
    parser.add_argument("--device", metavar="ORDER", help="with --case: on a GPU, its threads in that order")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the figures there, and go on from them")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    cases = range(chosen.first, chosen.first + chosen.cases) if chosen.case is None else range(chosen.case, chosen.case + 1)
    if chosen.child:
        child(chosen.seed, cases, chosen.op, chosen.level, chosen.child)
        return 0
    if chosen.case is not None:
        faulthandler.enable()
        (line,) = run_here(chosen.seed, cases, chosen.op, chosen.level, chosen.device)
        print(line)
        return int(line.startswith("python "))
    report = run(chosen.seed, cases, chosen.op, chosen.level, chosen.progress, results=chosen.results)
    print(f"{len(cases)} cases: {report.taken} taken, {report.refused} refused, {len(report.failures)} failures")
    return int(bool(report.failures))
