"""Trainings on a machine that others use too: one beside another, and one beside a busy process.

    python benchmarks/bench_sharing.py            # five minutes on two cores; writes results/bench_sharing.json

Each training is the epoch of the recipe `fast` in a process of its own, with as many threads as there are CPUs. The figure is
its time over that of a training alone on one thread: on two cores, that is what a fair half takes. The ways take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastlenet import get_num_threads
from measuring import print_machine, print_table, save

EPOCH = """
import sys, fastlenet
from fastlenet import RECIPES, LeNet
from fastlenet.data import load_mnist
from fastlenet.training.trainer import Trainer
fastlenet.set_num_threads(int(sys.argv[1]))
recipe = RECIPES["fast"]
print(Trainer(LeNet.of(recipe), load_mnist(), recipe, evaluate_every_epoch=False).run().epochs[0].seconds)
"""


def start(threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", EPOCH, str(threads)], stdout=subprocess.PIPE, text=True)


def seconds_of(*trainings: subprocess.Popen[str]) -> list[float]:
    outputs = [training.communicate()[0] for training in trainings]
    return [float(output) for output in outputs]


@contextmanager
def busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all ways (default: 7)")
    given = parser.parse_args()
    threads = get_num_threads()
    print_machine()
    measured: dict[str, list[float]] = {"alone, one thread": [], "alone": [], "beside another": [], "beside a busy process": []}
    for _ in range(given.rounds):
        measured["alone, one thread"] += seconds_of(start(1))
        measured["alone"] += seconds_of(start(threads))
        measured["beside another"] += seconds_of(start(threads), start(threads))
        with busy():
            measured["beside a busy process"] += seconds_of(start(threads))
    one = statistics.median(measured["alone, one thread"])
    ratios = {way: statistics.median(times) / one for way, times in measured.items()}
    rows = [[way, f"{statistics.median(times):.2f}", f"{ratios[way]:.2f}"] for way, times in measured.items()]
    print_table(["training", "seconds", "over one thread alone"], rows)
    save("bench_sharing", {"threads": threads, "rounds": given.rounds, "seconds": measured, "ratios": ratios})


if __name__ == "__main__":
    main()
