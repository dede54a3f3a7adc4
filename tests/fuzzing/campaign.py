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
    """Executions, seconds, edges, memory. Ends the program at a finding."""
    learned = folder / name
    learned.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, str(Path(__file__).with_name("fuzz_reader.py")), name]
    options = [f"-runs={executions}", f"-artifact_prefix={folder}/{name}-", str(learned), str(CORPUS / name)]
    start = time.monotonic()
    done = subprocess.run([*program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, check=False)
    log = done.stdout.decode(errors="replace")
    (folder / f"{name}.log").write_text(log)
    if done.returncode:
        sys.exit(f"{log[-4000:]}\nFAILED: {name}: a finding")
    return {
        "executions": found(r"number_of_executed_units: (\d+)", log),
        "seconds": round(time.monotonic() - start),
        "edges": found(r"cov: (\d+)", log),
        "peak_rss_mb": found(r"peak_rss_mb: +(\d+)", log),
        "most_bytes_of_an_input": found(r"most memory of an input: ([\d,]+)", log),
    }


def main() -> None:
    folder, wanted = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "readers.json"
    said: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"cpu": cpu(), "executions": 0, "readers": {}}
    readers: dict[str, dict[str, int]] = said["readers"]
    while said["executions"] < wanted:
        for name, reader in READERS.items():
            done = fuzz(name, max(20, reader.part * wanted // ROUNDS // 10**6), folder)
            old = readers.get(name, dict.fromkeys(done, 0))
            sums = {key: old[key] + done[key] for key in ("executions", "seconds")}
            readers[name] = {key: max(old[key], done[key]) for key in done} | sums
            said["executions"] = sum(each["executions"] for each in readers.values())
            said["seconds"] = sum(each["seconds"] for each in readers.values())
            place.write_text(json.dumps(said, indent=1) + "\n")
            print(f"{said['executions']:>10,} {name} {readers[name]}", flush=True)


if __name__ == "__main__":
    main()
