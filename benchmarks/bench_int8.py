"""Measures int8: what it costs in accuracy, on MNIST's test images, and what it gains in time.

    python benchmarks/bench_int8.py [--recipe default] [--seeds 10]      # accuracy
    python benchmarks/bench_int8.py --speed [--threads 2] [--rounds 40]  # time

Each seed trains one network. Training images alone give the ranges of the integers; the test images are only reported on.

The time is that of the package's network on real images, in one process: float32 by Winograd's algorithm and bfloat16, of
images normalised beforehand, and int8 of raw images. They take turns, and the ratio is the median over the rounds. On one
thread it is the CPU's time, which other processes hardly change.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

import fastlenet
from fastlenet.backend import PRECISIONS
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


def contenders(batch: int) -> dict[str, Callable[[], object]]:
    data = load_mnist()
    raw = np.ascontiguousarray(data.test_images[:batch, None])
    calls: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        try:
            model = fastlenet.LeNet.pretrained(algorithm="winograd", precision=precision)
        except ValueError as error:  # no such instruction
            print(error)
            continue
        x = model.ops.gather_images(data.test_images[:batch], np.arange(batch), mean=model.mean, std=model.std)
        calls[precision] = partial(model.freeze(), x)
    calls["int8"] = partial(fastlenet.LeNet.pretrained().quantize(data).logits, raw)
    return calls


def show_speed(threads: int, rounds: int) -> None:
    result = {}
    for batch, used in ((1000, 1), (1000, threads), (1, 1)):
        fastlenet.set_num_threads(used)
        clock = time.process_time if used == 1 else time.perf_counter
        calls, repeats = contenders(batch), max(1, 2000 // batch)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                call()
                start = clock()
                for _ in range(repeats):
                    call()
                times[name].append((clock() - start) / repeats / batch)
        ratios = {
            name: statistics.median(a / b for a, b in zip(times["float32"], taken, strict=True))
            for name, taken in times.items()
        }
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        print(
            f"batch {batch}, {used} threads, {'CPU' if used == 1 else 'wall-clock'} time, int8 by {fastlenet.config()['int8']}"
        )
        rows = [[name, f"{1e6 * medians[name]:.2f}", f"{ratios[name]:.2f} x"] for name in calls]
        print_table(["", "us per image", "float32 over it"], rows)
        result[f"batch {batch}, {used} threads"] = {"seconds": medians, "ratios": ratios}
    save(f"int8_speed_{fastlenet.config()['level']}", {"rounds": rounds, "results": result})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", default="default", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--speed", action="store_true", help="measure the time instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    print_machine()
    if arguments.speed:
        return show_speed(arguments.threads, arguments.rounds)
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
