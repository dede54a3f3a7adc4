"""Forty runs of the recipe `fast` on two workers, and one after the other in one process, each on one thread.

    python benchmarks/bench_workers.py                     # half an hour on two cores; writes results/bench_workers.json
    python benchmarks/bench_workers.py --runs 4 --rounds 1 # a short look

The two ways take turns. The figure is the time on the workers over the time of one after the other divided by the number of
workers: 1 would be perfect. It contains the start of the processes, and the reading of the data in each.
"""

from __future__ import annotations

import argparse
import statistics
import time

from fastlenet.config import own_threads
from fastlenet.distributed import LocalWorkers, speedrun
from measuring import print_machine, print_table, save


def seconds_of(runs: int, workers: int) -> float:
    """Of so many runs; workers: 0 does them here, one after the other."""
    start = time.perf_counter()
    if workers:
        with LocalWorkers(workers) as executor:
            speedrun("fast", runs, executor=executor, verbose=0)
    else:
        with own_threads(1):
            speedrun("fast", runs, verbose=0)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="runs of each round (default: 40)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both ways (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    given = parser.parse_args()
    print_machine()
    pairs = [(seconds_of(given.runs, 0), seconds_of(given.runs, given.workers)) for _ in range(given.rounds)]
    ratio = statistics.median(there / (here / given.workers) for here, there in pairs)
    rows = [
        [str(number), f"{here:.1f}", f"{there:.1f}", f"{there / here * given.workers:.3f}"]
        for number, (here, there) in enumerate(pairs)
    ]
    print_table(["round", "one after the other, s", f"on {given.workers} workers, s", f"over 1/{given.workers}"], rows)
    print(f"median: {ratio:.3f} x 1/{given.workers} of the time of one after the other")
    save("bench_workers", {"runs": given.runs, "workers": given.workers, "rounds": pairs, "ratio": ratio})


if __name__ == "__main__":
    main()
