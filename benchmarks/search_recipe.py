"""Tries recipes on a validation split: trains on 55,000 training images, evaluates on the other 5,000, never on the test set.

    python benchmarks/search_recipe.py --seeds 5 --trial recipe=fast lr=0.1 --trial recipe=best optimizer=muon muon_lr=0.03
    python benchmarks/search_recipe.py --seeds 5 --table trials.json      a list of objects, {"recipe": "fast", "lr": 0.1}
    python benchmarks/search_recipe.py --seeds 5 --ensemble --trial recipe=best    the mean of the seeds' probabilities too
    python benchmarks/search_recipe.py                                    prints all trials, highest accuracy first

A trial is a named recipe (by default "default") with some fields changed. Every run is written to results/search_recipe.json as
soon as it is done, and a run in that file is not repeated. So you can stop a search, continue it, and add seeds to it.
The accuracy on 5,000 images is coarse: at 99.4 % its standard error is sqrt(0.994 * 0.006 / 5000) = 0.11 % for one network.
Differences between trials are more certain, because all trials have the same images and seeds. The loss is finer, but compare
it only between trials with the same label smoothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastlenet import fit
from fastlenet.data import Dataset, load_mnist
from fastlenet.files import write_atomically
from fastlenet.models import NETWORKS
from fastlenet.training.evaluation import predict, score
from fastlenet.training.recipe import RECIPES, Recipe, named_recipe
from fastlenet.training.state import DivergedError
from measuring import RESULTS, machine, print_machine, print_table

VALIDATION = 5000
Trial = dict[str, Any]


class Trials:
    """The file of all trials: recipes without their seed, and each one's runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = json.loads(path.read_text())["trials"] if path.exists() else []

    def of(self, recipe: Recipe) -> Trial:
        fields = {name: value for name, value in asdict(recipe).items() if name != "seed"}
        for trial in self.trials:
            if trial["recipe"] == fields:
                return trial
        self.trials.append({"recipe": fields, "runs": []})
        return self.trials[-1]

    def save(self) -> None:
        """Replaces the file as a whole."""
        self.path.parent.mkdir(exist_ok=True)
        content = {
            "validation": VALIDATION,
            "machine": machine(),
            "trials": [t | (summary(t) if t["runs"] else {}) for t in self.trials if t["runs"] or "ensembles" in t],
        }
        write_atomically(self.path, json.dumps(content, indent=1).encode() + b"\n")


def summary(trial: Trial) -> dict[str, float]:
    """Of the runs that came to an end; without one, infinite loss."""
    runs = [run for run in trial["runs"] if "diverged" not in run]
    if not runs:
        return {"loss_mean": math.inf, "loss_deviation": 0.0, "accuracy_mean": 0.0, "accuracy_deviation": 0.0}
    accuracies, losses = [run["accuracy"] for run in runs], [run["loss"] for run in runs]
    several = len(runs) > 1
    return {
        "loss_mean": statistics.mean(losses),
        "loss_deviation": statistics.stdev(losses) if several else 0.0,
        "accuracy_mean": statistics.mean(accuracies),
        "accuracy_deviation": statistics.stdev(accuracies) if several else 0.0,
    }


def run(trial: Trial, recipe: Recipe, network: str, data: Dataset) -> None:
    try:
        history = fit(NETWORKS[network].of(recipe), data, recipe, evaluate_every_epoch=False, verbose=0)
    except DivergedError as error:
        trial["runs"].append({"seed": recipe.seed, "diverged": str(error)})
        print(f"  seed {recipe.seed}: {error}", flush=True)
        return
    if history.interrupted:
        raise KeyboardInterrupt
    last = history.epochs[-1]
    assert last.val_accuracy is not None and last.val_loss is not None
    seconds = sum(epoch.seconds for epoch in history.epochs)
    trial["runs"].append(
        {
            "seed": recipe.seed,
            "accuracy": last.val_accuracy,
            "loss": last.val_loss,
            "training_loss": last.loss,
            "seconds": round(seconds, 2),
        }
    )
    print(f"  seed {recipe.seed}: loss {last.val_loss:.5f}, accuracy {last.val_accuracy:.2%}, {seconds:.1f} s", flush=True)


def run_ensemble(trial: Trial, recipe: Recipe, seeds: int, network: str, data: Dataset) -> None:
    """What the seeds' networks come to one by one and together, without and with test-time augmentation."""
    alone: dict[bool, list[Any]] = {False: [], True: []}
    for seed in range(seeds):
        model = NETWORKS[network].of(replace(recipe, seed=seed))
        if fit(model, data, replace(recipe, seed=seed), evaluate_every_epoch=False, verbose=0).interrupted:
            raise KeyboardInterrupt
        for tta, probabilities in alone.items():
            probabilities.append(predict([model], data, tta=tta))
    trial["ensembles"] = []
    for tta, probabilities in alone.items():
        accuracy, loss = score(sum(probabilities[1:], probabilities[0]) / seeds, data.validation_labels)
        mean = statistics.mean(score(one, data.validation_labels)[0] for one in probabilities)
        trial["ensembles"].append({"seeds": seeds, "tta": tta, "accuracy": accuracy, "loss": loss, "accuracy_alone": mean})


def show_ensembles(trials: Sequence[Trial]) -> None:
    rows = [
        [
            str(Recipe(**trial["recipe"])) + (", test-time augmentation" if result["tta"] else ""),
            str(result["seeds"]),
            f"{result['loss']:.5f}",
            f"{result['accuracy']:.2%}",
            f"{result['accuracy_alone']:.3%}",
        ]
        for trial in trials
        for result in trial.get("ensembles", [])
    ]
    if rows:
        print_table(["", "networks", "validation loss", "accuracy together", "alone"], rows)


def parse(assignments: Sequence[str]) -> Trial:
    """{"recipe": "fast", "lr": 0.1} of recipe=fast lr=0.1"""
    trial: Trial = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        trial[name] = text if name in ("recipe", "optimizer", "schedule", "algorithm") else json.loads(text.lower())
    return trial


def recipe_of(trial: Trial) -> Recipe:
    recipe = named_recipe(**{"name": trial.get("recipe", "default")} | {k: v for k, v in trial.items() if k != "recipe"})
    # 2 and 2.0 are one trial.
    return replace(recipe, **{name: type(getattr(Recipe(), name))(value) for name, value in asdict(recipe).items()})


def show(trials: Sequence[Trial]) -> None:
    rows = []
    for trial in sorted(trials, key=lambda trial: -summary(trial)["accuracy_mean"]):
        result, diverged = summary(trial), sum("diverged" in run for run in trial["runs"])
        rows.append(
            [
                str(Recipe(**trial["recipe"])),
                f"{len(trial['runs'])}" + (f", {diverged} diverged" if diverged else ""),
                f"{result['loss_mean']:.5f} +- {result['loss_deviation']:.5f}",
                f"{result['accuracy_mean']:.3%} +- {result['accuracy_deviation']:.3%}",
                f"{statistics.median(run.get('seconds', 0.0) for run in trial['runs']):.1f}",
            ]
        )
    print_table(["", "seeds", "validation loss", "accuracy", "s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trial",
        nargs="+",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"a recipe ({', '.join(RECIPES)}) and changed fields",
    )
    parser.add_argument("--table", type=Path, help="a JSON file: a list of trials")
    parser.add_argument("--seeds", type=int, default=5, help="use N seeds from 0 on (default: 5)")
    parser.add_argument("--ensemble", action="store_true", help="also average the seeds' probabilities; trains them again")
    parser.add_argument("--network", choices=NETWORKS, default="lenet", help="the network to train (default: lenet)")
    parser.add_argument("--results", type=Path, default=RESULTS / "search_recipe.json", help="the file of the trials")
    arguments = parser.parse_args()
    wanted = [parse(trial) for trial in arguments.trial]
    if arguments.table is not None:
        wanted += json.loads(arguments.table.read_text())
    recipes = [recipe_of(trial) for trial in wanted]
    trials = Trials(arguments.results)
    print_machine()
    data = load_mnist().hold_out(VALIDATION)
    for recipe in recipes:
        trial = trials.of(recipe)
        print(recipe, flush=True)
        if arguments.ensemble:
            run_ensemble(trial, recipe, arguments.seeds, arguments.network, data)
            trials.save()
            continue
        for seed in sorted(set(range(arguments.seeds)) - {run["seed"] for run in trial["runs"]}):
            run(trial, replace(recipe, seed=seed), arguments.network, data)
            trials.save()
    show([trial for trial in trials.trials if trial["runs"]])
    show_ensembles(trials.trials)


if __name__ == "__main__":
    main()
