#!/usr/bin/env python3
"""Plants faults in the sources, one at a time, and checks that the default tests fail.

    tools/mutate.py [NAME ...]        all faults of tools/faults/*.toml, or those whose names contain one of the words
    tools/mutate.py --quick           only the tests nearest to each fault
    tools/mutate.py --list            lists the faults; nothing is built
    tools/mutate.py --save            writes the results to benchmarks/results/mutation.json
    tools/mutate.py --seconds 900     begins no fault after that time; the next run goes on there
    tools/mutate.py --extension FILE  takes this _core of the same sources for faults in Python, so that nothing is compiled
    tools/mutate.py --again           also plants faults whose result is known

Run it in an environment that has the package's test extra, pybind11 and CMake. All faults take about two hours on two cores.
A result is kept for the fault's text and the state of the sources: a run that was stopped goes on with the next fault.

A fault is a table with name, file, find, plant and breaks. The text `find` occurs in `file` exactly once; `plant` replaces it;
`breaks` describes the damage. If no test can notice a fault, because nothing breaks after all, `equivalent` gives the reason.

The sources are copied to FOLDER (build/checks/mutate by default) and built there; the working tree does not change. The test
that noticed a fault the last time runs first, then the nearest tests, then all others, until one fails. A crash or a hang
counts as noticed. At the end, the tests that noticed a fault run on the unchanged sources, and must pass. Faults of the GPU
backend run the tests with the mark cuda, on the emulated GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fault_tables import ROOT, TABLES, Fault, expect_plantable, read_faults
from source_copy import Copy, bare

RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"

# The tests of a file, by the beginning of its path; the first match counts.
NEAREST = {
    "cpp/kernels/int8/": ["quantization"],
    "cpp/ops/int8": ["quantization"],
    "cpp/bindings/int8": ["quantization"],
    "cpp/machine/": ["machine", "ops"],
    "cpp/": ["ops"],
    "cuda/": ["cuda", "ops"],
    "python/fastlenet/cuda/": ["cuda", "ops"],
    "python/fastlenet/training/cuda": ["cuda"],
    "python/fastlenet/nn/": ["nn"],
    "python/fastlenet/models/": ["models", "nn"],
    "python/fastlenet/inference/": ["models", "training"],
    "python/fastlenet/images/": ["images"],
    "python/fastlenet/sklearn": ["training"],
    "python/fastlenet/optim": ["nn", "training"],
    "python/fastlenet/training/": ["training", "formats"],
    "python/fastlenet/signals": ["training"],
    "python/fastlenet/data/": ["data"],
    "python/fastlenet/formats/": ["formats"],
    "python/fastlenet/files": ["formats", "training"],
    "python/fastlenet/cli/": ["cli", "training"],
    "python/fastlenet/streams": ["cli", "training"],
    "python/fastlenet/fields": ["training", "nn"],
    "python/fastlenet/exports/": ["exports"],
    "python/fastlenet/reports/": ["reports"],
    "python/fastlenet/quantization/": ["quantization", "ops"],
    "python/fastlenet/distributed/": ["distributed"],
    "python/fastlenet/": ["ops"],
}


def notice(copy: Copy, fault: Fault, before: str | None, quick: bool) -> str | None:
    """The test that notices a planted fault, or None."""
    first = bare(before or "")
    tests = copy.source / "tests"
    if first and (tests / first.partition("::")[0]).exists():
        with contextlib.suppress(SystemExit):  # the test no longer exists
            if noticed := copy.first_failure([first], fault.on_gpu):
                return noticed
    folders = next(folders for start, folders in NEAREST.items() if fault.file.startswith(start))
    same: list[str] = []  # of the same name, or which import the module: collected in less time than the whole folder
    nearest: list[str] = []
    rest: list[str] = []
    words = set(Path(fault.file).stem.split("_"))
    module = fault.file.removeprefix("python/").removesuffix(".py").replace("/", ".")
    imports = re.compile(rf"^ *from {re.escape(module)} import ", re.MULTILINE)
    for path in sorted(tests.rglob("test_*.py")):
        name = str(path.relative_to(tests))
        near, alike = name.partition("/")[0] in folders, words & set(path.stem.split("_"))
        uses = imports.search(path.read_text()) is not None
        (same if uses or (near and alike) else nearest if near else rest).append(name)
    groups = [same, nearest] if quick else [same, nearest, rest]
    return next(filter(None, (copy.confirmed_failure(group, fault.on_gpu) for group in groups)), None)


# --- results -------------------------------------------------------------------------------------------------------------


def known_results(folder: Path) -> dict[str, Any]:
    """What came of each fault the last time, here or where the results were saved."""
    known: dict[str, Any] = json.loads(RESULTS.read_text())["faults"] if RESULTS.exists() else {}
    here = folder / "noticed.json"
    return known | (json.loads(here.read_text()) if here.exists() else {})


def keep(file: Path, results: dict[str, Any]) -> None:
    """Replace the file of results; a run that is ended leaves the old one or the new one."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1))
    new.replace(file)


def is_known(result: dict[str, Any], fault: Fault, state: str, quick: bool) -> bool:
    """Whether a fault of this text was planted in these sources. A quick run's survivor may be noticed by the other tests."""
    same = result.get("text") == fault.text and result.get("state") == state
    return same and (quick or result["tests"] == "all" or result["noticed_by"] is not None)


def cpu() -> str:
    """The CPU's name, as Linux gives it."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def save(results: dict[str, Any], faults: list[Fault], state: str) -> None:
    """The results of these sources for all faults that still exist, and the number of them in each table."""
    kept = {}
    areas: dict[str, dict[str, int]] = {}
    for fault in faults:
        area = areas.setdefault(fault.area, {"faults": 0, "planted": 0, "noticed": 0, "equivalent": 0})
        area["faults"] += 1
        if is_known(results.get(fault.name, {}), fault, state, quick=True):
            kept[fault.name] = results[fault.name]
            area["planted"] += 1
            area["noticed"] += kept[fault.name]["noticed_by"] is not None
            area["equivalent"] += bool(fault.equivalent)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    head = {"date": today, "cpu": cpu(), "command": " ".join(["tools/mutate.py", *sys.argv[1:]]), "areas": areas}
    RESULTS.write_text(json.dumps(head | {"faults": kept}, indent=1) + "\n")


def judge(fault: Fault, noticed: str | None) -> tuple[str, bool]:
    """The line about a fault, and whether its result is as expected."""
    if noticed:
        if fault.equivalent:
            return f"NOTICED     {fault.name}: by {noticed}, though it is called equivalent", False
        return f"noticed     {fault.name}: by {noticed}", True
    if fault.equivalent:
        return f"equivalent  {fault.name}: {fault.equivalent}", True
    return f"SURVIVED    {fault.name}: {fault.breaks} ({fault.file})", False


def run(copy: Copy, faults: list[Fault], results: dict[str, Any], quick: bool, again: bool, seconds: float) -> list[str]:
    """Plant one fault after the other, but begin none after so many seconds. Returns those with unexpected results."""
    wrong = []
    begun = time.monotonic()
    for fault in faults:
        start = time.monotonic()
        known = results.get(fault.name, {})
        if not again and is_known(known, fault, copy.state, quick):
            text, right = judge(fault, known["noticed_by"])
            print(f"{text}   [known]", flush=True)
            wrong += [] if right else [fault.name]
            continue
        if start - begun > seconds:
            continue
        before = results.get(fault.name, {}).get("noticed_by")
        with copy.planted(fault):
            complaint = copy.build(fault.on_gpu, fault.compiled)
            if complaint:
                wrong.append(fault.name)
                print(f"DOES NOT COMPILE  {fault.name}\n{complaint[-2000:]}", flush=True)
                continue
            noticed = notice(copy, fault, before, quick)
        text, right = judge(fault, noticed)
        print(f"{text}   [{time.monotonic() - start:.0f} s]", flush=True)
        results[fault.name] = {
            "breaks": fault.breaks,
            "noticed_by": noticed,
            "tests": "nearest" if quick else "all",
            "text": fault.text,
            "state": copy.state,
        }
        keep(copy.folder / "noticed.json", results)
        wrong += [] if right else [fault.name]
    return wrong


def failing_without_faults(copy: Copy, faults: list[Fault], results: dict[str, Any]) -> list[str]:
    """The tests that noticed a fault but fail without one too; their result proves nothing."""
    failing = []
    for on_gpu in (False, True):
        found = {
            results[fault.name]["noticed_by"]
            for fault in faults
            if fault.on_gpu == on_gpu and results.get(fault.name, {}).get("state") == copy.state
        }
        tests = sorted(bare(name) for name in found if name is not None)
        if tests:
            copy.build(on_gpu, any(fault.compiled for fault in faults))
            failed = copy.first_failure(tests, on_gpu)
            failing += [failed] if failed else []
    return failing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="plant only faults whose name, file or table contains NAME")
    parser.add_argument(
        "--quick", action="store_true", help="run only the nearest tests; may report faults that other tests notice"
    )
    parser.add_argument("--extension", type=Path, metavar="FILE", help="a _core that was built from the same sources")
    parser.add_argument("--again", action="store_true", help="plant faults whose result is known too")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no fault after so many seconds (default: no limit)"
    )
    parser.add_argument("--list", action="store_true", help="list the faults")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "checks" / "mutate", help="folder for the copy and its builds"
    )
    parser.add_argument(
        "--limit", type=float, default=200, metavar="SECONDS", help="a test that prints nothing for so long counts as hanging"
    )
    arguments = parser.parse_args()
    faults = read_faults()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the running tests too
    words = arguments.names
    chosen = [fault for fault in faults if not words or any(w in f"{fault.name} {fault.file} {fault.area}" for w in words)]
    try:
        expect_plantable(chosen)
    except ValueError as error:
        sys.exit(f"FAILED: faults that can no longer be planted; mend their texts in {TABLES.relative_to(ROOT)}\n{error}")
    if arguments.list or not chosen:
        for fault in chosen:
            print(f"{fault.area:<10}{fault.file:<50}{fault.name}: {fault.breaks}")
        print(f"{len(chosen)} of {len(faults)} faults")
        return 0 if chosen else 1
    copy = Copy(arguments.folder.resolve(), arguments.limit, arguments.extension)
    results = known_results(copy.folder)
    wrong = run(copy, chosen, results, arguments.quick, arguments.again, arguments.seconds)
    failing = failing_without_faults(copy, chosen, results)
    if arguments.save and not failing:
        save(results, faults, copy.state)
    planted = [fault for fault in chosen if is_known(results.get(fault.name, {}), fault, copy.state, arguments.quick)]
    noticed = sum(results[fault.name]["noticed_by"] is not None for fault in planted)
    print(f"noticed {noticed} of {len(planted)} faults; {len(chosen) - len(planted)} not planted")
    if failing:
        print(f"FAILED: these tests fail without a fault too: {', '.join(failing)}")
    if wrong:
        print(f"FAILED: neither noticed nor explained: {', '.join(wrong)}")
    return 1 if wrong or failing else 0


if __name__ == "__main__":
    sys.exit(main())
