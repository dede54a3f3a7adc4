"""Trains with the default recipe once per seed, and reports the final test accuracy: mean, standard deviation, each seed.

    python benchmarks/seeds.py [--seeds 10] [--validation N] [any flag of python -m fastlenet.train]

The final epoch's accuracy counts, not the best. With --validation 5000 it is that on the last 5,000 training images, which is
what hyper-parameters are chosen by.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import print_machine, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to this, exclusive")
    parser.add_argument("--name", default="seeds", help="of the JSON file in benchmarks/results")
    arguments, flags = parser.parse_known_args()
    print_machine()
    accuracies, losses, seconds = [], [], []
    with tempfile.TemporaryDirectory(prefix="fastlenet-seeds-") as folder:
        log = Path(folder) / "log.json"
        for seed in range(arguments.seeds):
            command = [sys.executable, "-m", "fastlenet.train", "--quiet", "--seed", str(seed), "--log-json", str(log), *flags]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
            final = json.loads(log.read_text().splitlines()[-1])
            accuracies.append(final["accuracy"])
            losses.append(final["test_loss"])
            print(f"seed {seed}: {accuracies[-1]:.2%}, loss {losses[-1]:.4f}, whole process {seconds[-1]:.1f} s", flush=True)
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(
        f"\nmean {statistics.mean(accuracies):.3%}, standard deviation {deviation:.3%}, lowest {min(accuracies):.2%}; "
        f"loss {statistics.mean(losses):.4f}; {statistics.median(seconds):.1f} s"
    )
    save(
        arguments.name,
        {
            "flags": flags,
            "accuracies": accuracies,
            "mean": statistics.mean(accuracies),
            "standard_deviation": deviation,
            "losses": losses,
            "seconds": seconds,
        },
    )


if __name__ == "__main__":
    main()
