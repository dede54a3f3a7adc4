"""What a speedrun came to: statistics, in words and as the JSON file has them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from fastlenet.config import config
from fastlenet.distributed.runs import Runs
from fastlenet.distributed.working import cpu_model
from fastlenet.files import CheckpointError, save_somewhere, write_atomically
from fastlenet.intervals import mean_of
from fastlenet.speedrun.contenders import Contender

__all__ = ["Accuracies", "Statistics", "accuracies_of", "machine", "report", "report_workers", "write"]


class Accuracies(TypedDict):
    """Of the runs of a recipe, as fractions. accuracy_deviation: of the sample, over n - 1. accuracy_interval: that of the
    mean, 95 %, by Student's t; None for one run.
    """

    accuracy_mean: float
    accuracy_deviation: float
    accuracy_interval: tuple[float, float] | None
    accuracy_lowest: float
    share_at_target: float


class Statistics(Accuracies):
    """What the JSON file holds of a contender. median: of the whole run and its parts, in seconds."""

    median: dict[str, float]
    images_per_second: float
    runs: list[dict[str, object]]


class OnWorkers(Accuracies):
    """What the JSON file holds of runs on workers. hosts: the number of runs and the median seconds of each host."""

    hosts: dict[str, dict[str, float]]
    runs: list[dict[str, object]]


def accuracies_of(accuracies: Sequence[float], target: float) -> Accuracies:
    """Returns the statistics of the runs' accuracies. target: an accuracy, a fraction."""
    mean = mean_of(accuracies)
    return {
        "accuracy_mean": mean.mean,
        "accuracy_deviation": mean.deviation,
        "accuracy_interval": mean.interval,
        "accuracy_lowest": min(accuracies),
        "share_at_target": sum(accuracy >= target for accuracy in accuracies) / len(accuracies),
    }


def _in_words(name: str, count: int, result: Accuracies, target: float) -> str:
    interval = result["accuracy_interval"]
    within = "" if interval is None else f", 95 % in {interval[0]:.3%}..{interval[1]:.3%}"
    return (
        f"\n{name}: {count} runs\n"
        f"  accuracy     mean {result['accuracy_mean']:.3%}{within}, standard deviation {result['accuracy_deviation']:.3%}, "
        f"lowest {result['accuracy_lowest']:.2%}; {result['share_at_target']:.0%} of the seeds reach {target:.2%}"
    )


def report(contender: Contender, target: float) -> Statistics:
    """Print the statistics of a contender's runs. target: an accuracy, a fraction. Returns them."""
    runs = contender.runs
    images = contender.recipe.epochs * len(contender.data.train_images)
    parts = ("seconds", "start_up", "data", "training", "evaluation")
    result: Statistics = {
        **accuracies_of([run.accuracy for run in runs], target),
        "median": {part: statistics.median(getattr(run, part) for run in runs) for part in parts},
        "images_per_second": images / statistics.median(run.training for run in runs),
        "runs": [asdict(run) for run in runs],
    }
    median = result["median"]
    print(
        f"{_in_words(contender.name, len(runs), result, target)}\n"
        f"  whole run    {median['seconds']:.2f} s (median) = start-up {median['start_up']:.2f} + data {median['data']:.2f} + "
        f"training {median['training']:.2f} + evaluation {median['evaluation']:.2f}\n"
        f"  training     {result['images_per_second']:,.0f} images/s",
        flush=True,
    )
    return result


def report_workers(name: str, runs: Runs, target: float) -> OnWorkers:
    """Print the statistics of runs on workers, with the times of each host by themselves. Returns them."""
    rows = [run.as_row() | {"seed": run.seed} for run in runs.runs]
    left_out = ("recipe", "weights", "epochs", "diverged")
    result: OnWorkers = {
        **accuracies_of(runs.accuracies, target),
        "hosts": runs.seconds_by_host(),
        "runs": [{key: value for key, value in row.items() if key not in left_out} for row in rows],
    }
    print(_in_words(name, len(runs.runs), result, target))
    for host, median in result["hosts"].items():
        parts = " + ".join(f"{part} {seconds:.2f}" for part, seconds in median.items() if part != "runs")
        print(f"  {host}: {median['runs']:.0f} runs, medians in seconds: {parts}")
    return result


def machine() -> dict[str, object]:
    """This machine, as the JSON file has it."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu_model(), "cpus": cpus, "system": f"{platform.system()} {platform.machine()}", **config()}


def write(path: Path, text: str) -> None:
    """Write a file as a whole, unless it is a device or a pipe. If that fails, writes it elsewhere; the CheckpointError says
    where."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text)
            return
        write_atomically(path, text.encode())
    except (CheckpointError, OSError) as error:
        place = save_somewhere(lambda other: write_atomically(other, text.encode()), "fastlenet-speedrun.json")
        raise CheckpointError(f"{error}; {place} holds the results") from None
