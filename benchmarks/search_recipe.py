"""Chooses the default recipe's peak rate and warm-up on a validation split: the last 5,000 training images, never the test set.

    python benchmarks/search_recipe.py [--seeds 3] [--epochs 3]

Trains on the other 55,000 for every point of the grid and every seed; writes all trials to results/search_recipe.json.
"""

from __future__ import annotations

import argparse
import itertools
import statistics

from fastlenet import LeNet, fit
from fastlenet.data import load_mnist
from measuring import print_machine, print_table, save

GRID = {"lr": [0.05, 0.1, 0.15], "warm_up": [0.1, 0.2, 0.4]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    print_machine()
    data = load_mnist().hold_out(5000)
    trials, rows = [], []
    for values in itertools.product(*GRID.values()):
        point = dict(zip(GRID, values, strict=True))
        losses, accuracies = [], []
        for seed in range(arguments.seeds):
            history = fit(
                LeNet(seed), data, seed=seed, epochs=arguments.epochs, batch_size=128, evaluate_every_epoch=False, **point
            )
            last = history.epochs[-1]
            assert last.accuracy is not None and last.test_loss is not None
            accuracies.append(last.accuracy)
            losses.append(last.test_loss)
        trials.append({**point, "accuracies": accuracies, "losses": losses})
        rows.append(
            [
                ", ".join(f"{name} {value}" for name, value in point.items()),
                f"{statistics.mean(losses):.4f}",
                f"{statistics.mean(accuracies):.3%}",
            ]
        )
        print(rows[-1], flush=True)
    print_table(["", "validation loss", "accuracy"], rows)
    save("search_recipe", {"validation": 5000, "seeds": arguments.seeds, "epochs": arguments.epochs, "trials": trials})


if __name__ == "__main__":
    main()
