"""Fuzzes all readers until so many inputs were read: python campaign.py FOLDER EXECUTIONS. What is learned is kept in FOLDER.

Goes round the readers, and writes FOLDER/readers.json after each: what was done until then. If it is started again, it goes on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fuzzing.readers import CORPUS, READERS

ROUNDS = 4


def cpu() -> str:
    return next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )


def found(pattern: str, log: str) -> int:
    return int((re.findall(pattern, log) or ["0"])[-1].replace(",", ""))


def fuzz(name: str, executions: int, folder: Path) -> dict[str, int]:
    """Executions, seconds, edges, memory, and whether it ended at a finding, whose log is kept."""
    learned = folder / name
    learned.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, str(Path(__file__).with_name("fuzz_reader.py")), name]
    options = [f"-runs={executions}", f"-artifact_prefix={folder}/{name}-", str(learned), str(CORPUS / name)]
    start = time.monotonic()
    done = subprocess.run([*program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, check=False)
    log = done.stdout.decode(errors="replace")
    if done.returncode:
        (folder / f"{name}-{time.time_ns()}.log").write_text(log)
        print(f"{log[-3000:]}\nFOUND: {name}", flush=True)
    return {
        "executions": found(r"number_of_executed_units: (\d+)", log),
        "seconds": round(time.monotonic() - start),
        "findings": int(done.returncode != 0),
        "edges": found(r"cov: (\d+)", log),
        "peak_rss_mb": found(r"peak_rss_mb: +(\d+)", log),
        "most_bytes_of_an_input": found(r"most memory of an input: ([\d,]+)", log),
    }


def main() -> None:
    folder, wanted = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "readers.json"
    said: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"cpu": cpu(), "executions": 0, "readers": {}}
    readers: dict[str, dict[str, int]] = said["readers"]

    def share(name: str) -> float:
        """How much of what this reader should do in all is done."""
        return readers.get(name, {}).get("executions", 0) / max(80, READERS[name].part * wanted / 10**6)

    while share(name := min(READERS, key=share)) < 1:
        done = fuzz(name, max(20, READERS[name].part * wanted // ROUNDS // 10**6), folder)
        if not done["executions"]:
            sys.exit(f"FAILED: {name} read no file; see the log in {folder}")
        old = {**dict.fromkeys(done, 0), **readers.get(name, {})}
        sums = {key: old[key] + done[key] for key in ("executions", "seconds", "findings")}
        readers[name] = {key: max(old[key], done[key]) for key in done} | sums
        for key in ("executions", "seconds", "findings"):
            said[key] = sum(each.get(key, 0) for each in readers.values())
        place.write_text(json.dumps(said, indent=1) + "\n")
        print(f"{said['executions']:>10,} {name} {readers[name]}", flush=True)
    if said["findings"]:
        sys.exit(f"FAILED: {said['findings']} findings")


if __name__ == "__main__":
    main()
