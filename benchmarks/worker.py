"""Runs one contender in its own process, started by the benchmarks. Reads jobs from standard input, one per line.

    python benchmarks/worker.py PEER DATA.npz THREADS

A job is JSON, {"job": "train" or "infer", "batch": n, "images": n}. Its answer is JSON, {"seconds", "check", "memory"}: the
wall-clock time of the whole job; the mean training loss, or the accuracy, which shows that the work was done; and the most
memory, in MB, that the process has used. The first line of output is the version of the contender, or what is missing.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def largest_memory() -> float:
    """In MB; of this process alone, where the rusage figure would start from that of the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def main() -> None:
    name, data, threads = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")  # what a library prints goes elsewhere
    os.dup2(2, 1)
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:threads])
    try:
        module, _, variant = name.partition(":")
        peer = importlib.import_module(f"peers.{module}").Peer(dict(data), threads, variant)
    except (ImportError, RuntimeError, ValueError) as error:  # not installed; a GPU or an instruction that is not there
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"version": peer.version}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        gc.collect()  # the last job's model and its buffers
        start = time.perf_counter()
        check = getattr(peer, job["job"])(job["batch"], job["images"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "check": check, "memory": largest_memory()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
