"""Tries changes of the recipe `best` by cross-validation on the training images; the test images are never read.

    python benchmarks/learning.py                            # what has been tried, each beside the recipe as it is
    python benchmarks/learning.py --trial longer sharp       # tries these on ten folds, two at a time; goes on after a stop
    python benchmarks/learning.py --trial longer --folds 3

A fold trains on nine tenths of the 60,000 training images and classifies the other tenth. Its seed is 100 and the fold's
number, whatever is tried, so that the pairs of a fold differ by the change alone. Each run is kept in results/learning.json.
Differences are in points of accuracy and in the calibrated loss, with the half width of their 95 % interval (Student's t over
the folds). Calibrated: of the probabilities raised to the power that suits the fold best, since distortions and smoothed labels
make a network less certain, whether it is better or not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np

import fastlenet
from fastlenet import RECIPES, LeNet
from fastlenet.backend import Array
from fastlenet.data import load_mnist
from fastlenet.data.dataset import Dataset
from fastlenet.intervals import mean_of
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.evaluation import predict, score
from fastlenet.training.host_step import HostStep
from fastlenet.training.recipe import Recipe
from fastlenet.training.step import TrainingStep
from fastlenet.training.trainer import InterruptedRunError, Trainer
from measuring import RESULTS, print_table, save

FOLDS = 10
BASE = "as it is"
WIDER = {"rotation": 10.0, "scale": 0.1, "shear": 0.1}
# Fields of the recipe, and what is no field: rho, of sharpness-aware steps in the last third (Foret et al. 2021); tails, runs
# of the last quarter in other orders, whose weights are averaged; muon_fc1, orthogonal steps for fc1's weights too.
TRIALS: Mapping[str, Mapping[str, Any]] = {
    BASE: {},
    "40 epochs": {"epochs": 40},
    "60 epochs": {"epochs": 60},
    "40 epochs, elastic 8": {"epochs": 40, "elastic": 8.0, "plain_epochs": 4},
    "60 epochs, elastic 8": {"epochs": 60, "elastic": 8.0, "plain_epochs": 6},
    "40 epochs, elastic 12": {"epochs": 40, "elastic": 12.0, "plain_epochs": 4},
    "40 epochs, wider": {"epochs": 40, **WIDER},
    "40 epochs, wider, elastic 8": {"epochs": 40, **WIDER, "elastic": 8.0, "plain_epochs": 4},
    "60 epochs, wider, elastic 8": {"epochs": 60, **WIDER, "elastic": 8.0, "plain_epochs": 6},
    "60 epochs, wider, elastic 8 to the end, dropout 0.1": {"epochs": 60, **WIDER, "elastic": 8.0, "dropout": 0.1},
    "deskew": {"deskew": True},
    "dropout 0.5": {"dropout": 0.5},
    "cutout 6": {"cutout": 6},
    "40 epochs, dropout_fc1 0.1": {"epochs": 40, "dropout_fc1": 0.1},
    "sharp 0.03": {"rho": 0.03},
    "sharp 0.1": {"rho": 0.1},
    "four tails": {"tails": 4},
    "5 epochs": {"epochs": 5},
    "5 epochs, muon on fc1": {"epochs": 5, "muon_fc1": True},  # twenty take half an hour
    "average": {"ema": 0.999, "ema_start": 0.8},
}


class SharpStep(HostStep):
    """A step whose gradient is that at the parameters moved by rho along it, from the last third of the epochs on."""

    rho = 0.0

    def _compute(self, images: Any, labels: Any, weights: Any, index: Any, transform: Any, average: Any) -> tuple[Any, Any]:
        state = self._state
        if state.epoch * 3 < state.recipe.epochs * 2:
            return super()._compute(images, labels, weights, index, transform, average)
        loss, logits, dlogits = self._forward(images, labels, weights, index, transform, None)
        self._check(loss)
        state.model.backward(dlogits)
        parameters, gradient = state.model.parameter_buffer, state.model.gradient_buffer
        kept, length = parameters.copy(), float(np.linalg.norm(gradient))
        logits = np.array(logits)  # the second pass writes where the first one did
        parameters += (self.rho / max(length, 1e-12)) * gradient
        _, _, dlogits = self._forward(images, labels, weights, index, transform, None)
        state.model.backward(dlogits)
        parameters[...] = kept
        self._update(average)
        return loss, logits


class TrialTrainer(Trainer):
    """A trainer with sharpness-aware steps if rho is above 0."""

    rho = 0.0

    def _make_step(self) -> TrainingStep:
        if not self.rho:
            return super()._make_step()
        step = SharpStep(self.state, self.state.rate)
        step.rho = self.rho
        return step


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch(self, run: Run, epoch: Any) -> None:
        if epoch.epoch == self.epochs:
            run.stop()


def add_fc1(trainer: Trainer) -> None:
    """Let Muon make orthogonal steps for fc1's weights too."""
    optimizer: Any = trainer.state.optimizer
    begin = 0
    for name, array in trainer.state.model.parameters().items():
        if name == "fc1.weight":
            optimizer._matrices.append((begin, *array.shape))
        begin += array.size


def averaged_tails(model: LeNet, data: Dataset, recipe: Recipe, count: int) -> None:
    """Train three quarters of the epochs, then the last quarter `count` times in other orders, and average the weights."""
    trunk = TrialTrainer(model, data, recipe, evaluate_every_epoch=False)
    first = recipe.epochs - max(1, recipe.epochs // 4)
    with suppress(InterruptedRunError):
        trunk.run(StopAfter(first))
    parameters = model.parameter_buffer.copy()
    state: dict[str, Array] = {name: np.array(array) for name, array in trunk.state.optimizer.state_dict().items()}
    total = np.zeros(parameters.shape, np.float64)
    for number in range(count):
        model.parameter_buffer[...] = parameters
        tail = Trainer(model, data, replace(recipe, seed=recipe.seed + 1000 * number), evaluate_every_epoch=False)
        tail.state.optimizer.load_state_dict(state)
        tail.state.epoch = first
        tail.state.begin_epoch()
        tail.run()
        total += model.parameter_buffer
    model.parameter_buffer[...] = total / count


def calibrated(probabilities: Array, labels: Array) -> float:
    """The loss of the probabilities raised to the power, in 0.4 to 2.5, that makes it least, and normalised again."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-300))
    losses = []
    for power in np.geomspace(0.4, 2.5, 101):
        scores = power * logits
        scores -= scores.max(axis=1, keepdims=True)
        losses.append(float(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels])))
    return min(losses)


def run(name: str, fold: int) -> dict[str, Any]:
    """Train and classify one fold."""
    fastlenet.set_num_threads(1)
    start = time.perf_counter()
    changes = dict(TRIALS[name])
    rho, tails, muon_fc1 = changes.pop("rho", 0.0), changes.pop("tails", 0), changes.pop("muon_fc1", False)
    recipe = replace(RECIPES["best"], seed=100 + fold, **changes)
    data, model = load_mnist().fold(FOLDS, fold), LeNet.of(recipe)
    if tails:
        averaged_tails(model, data, recipe, tails)
    else:
        kind = type("Kind", (TrialTrainer,), {"rho": rho})
        trainer = kind(model, data, recipe, evaluate_every_epoch=False)
        if muon_fc1:
            add_fc1(trainer)
        trainer.run()
    model.eval()
    labels = data.part("validation")[1]
    plain, averaged = (predict([model], data, tta=tta, part="validation") for tta in (False, True))
    accuracy, loss = score(plain, labels)
    with_tta, loss_tta = score(averaged, labels)
    return {
        "name": name,
        "fold": fold,
        "changes": dict(TRIALS[name]),
        "accuracy": accuracy,
        "loss": loss,
        "calibrated": calibrated(plain, labels),
        "accuracy_tta": with_tta,
        "loss_tta": loss_tta,
        "calibrated_tta": calibrated(averaged, labels),
        "seconds": time.perf_counter() - start,
    }


def interval(values: Sequence[float]) -> str:
    """The mean, and the half width of its 95 % interval."""
    mean = mean_of(values)
    return f"{mean.mean:+.3f}" + ("" if mean.high is None else f" +- {mean.high - mean.mean:.3f}")


def report(runs: Sequence[Mapping[str, Any]]) -> None:
    by_name: dict[str, dict[int, Mapping[str, Any]]] = {}
    for one in runs:
        by_name.setdefault(one["name"], {})[one["fold"]] = one
    rows = []
    for name, folds in by_name.items():
        mean = [f"{100 * statistics.mean(one[key] for one in folds.values()):.3f}" for key in ("accuracy", "accuracy_tta")]
        pairs = [(one, by_name[BASE][fold]) for fold, one in folds.items() if fold in by_name.get(BASE, {})]
        points = [100 * (one["accuracy"] - base["accuracy"]) for one, base in pairs]
        points_tta = [100 * (one["accuracy_tta"] - base["accuracy_tta"]) for one, base in pairs]
        losses = [1000 * (one["calibrated"] - base["calibrated"]) for one, base in pairs]
        differences = [interval(values) if values and name != BASE else "" for values in (points, points_tta, losses)]
        seconds = statistics.median(one["seconds"] for one in folds.values())
        rows.append([name, str(len(folds)), *mean, *differences, f"{seconds:,.0f}"])
    print_table(["trial", "folds", "%", "tta %", "points", "points, tta", "calibrated loss x 1000", "s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="tries changes of the recipe best by cross-validation")
    parser.add_argument("--trial", nargs="+", choices=TRIALS, default=[], metavar="NAME", help="; ".join(TRIALS))
    parser.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=FOLDS, help="how many of the ten folds")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, of one thread each")
    chosen = parser.parse_args()
    path = RESULTS / "learning.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    done = {(one["name"], one["fold"]) for one in runs}
    jobs = [(name, fold) for fold in range(chosen.folds) for name in chosen.trial if (name, fold) not in done]
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, *job) for job in jobs]):
            done_now = future.result()
            print(json.dumps(done_now), flush=True)
            runs.append(done_now)
            runs.sort(key=lambda one: (list(TRIALS).index(one["name"]), one["fold"]))
            save("learning", {"folds": FOLDS, "runs": runs})
    report(runs)


if __name__ == "__main__":
    main()
