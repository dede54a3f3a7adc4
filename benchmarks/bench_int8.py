"""Measures what int8 costs in accuracy: trained networks and the same in integers, on MNIST's test images.

    python benchmarks/bench_int8.py [--recipe default] [--seeds 10]

Each seed trains one network. Training images alone give the ranges of the integers; the test images are only reported on.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict, dataclass

import numpy as np

import fastlenet
from fastlenet.data import Dataset, load_mnist
from fastlenet.training.recipe import RECIPES
from measuring import print_machine, print_table, save


@dataclass(frozen=True)
class Run:
    """One network. Accuracies in shares of the test images; changed: how many of their answers differ."""

    seed: int
    float32: float
    int8: float
    changed: int


def measured(name: str, seed: int, data: Dataset) -> Run:
    model = fastlenet.LeNet(seed=seed)
    fastlenet.fit(model, data, name, seed=seed, verbose=False)
    small = model.quantize(data)
    changed = int(np.sum(small.predict(data.test_images) != model.predict(data.test_images)))
    return Run(seed, model.evaluate(data).accuracy, small.evaluate(data).accuracy, changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", default="default", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    print_machine()
    data = load_mnist()
    runs = []
    for seed in range(arguments.seeds):
        runs.append(measured(arguments.recipe, seed, data))
        print(runs[-1], flush=True)
    gain = statistics.mean(run.int8 - run.float32 for run in runs)
    rows = [[str(run.seed), f"{run.float32:.2%}", f"{run.int8:.2%}", str(run.changed)] for run in runs]
    print_table(["seed", "float32", "int8", "answers changed"], rows)
    print(
        f"int8 less float32: {100 * gain:+.4f} points in the mean; at most {max(run.changed for run in runs)} answers changed"
    )
    save("bench_int8", {"recipe": asdict(RECIPES[arguments.recipe]), "mean_difference": gain, "runs": [vars(r) for r in runs]})


if __name__ == "__main__":
    main()
