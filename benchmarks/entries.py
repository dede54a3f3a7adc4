"""Measures the networks of a file for the leaderboard: alone, as an ensemble, and with test-time augmentation.

    fastlenet train --recipe best --ensemble 10 --workers 2 --save-model ten.safetensors
    python benchmarks/entries.py ten.safetensors --name best --command 'fastlenet train ... --save-model ten.safetensors'

The first network has the seed of the file's recipe, the next one the next seed, and so on; each is the network that its seed
alone gives, to the bit. --command is the line that trained them, for the files of results. --teacher and --teacher-seconds
tell which line trained the networks that taught them, and how long that took. Writes these files to results/, each of which
`fastlenet speedrun --check` accepts: speedrun_NAME.json and speedrun_NAME_tta.json of the single networks, if all of them
preprocess their images alike, and ensemble_NAME.json and ensemble_NAME_tta.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

import fastlenet
from fastlenet.data import load_mnist
from fastlenet.files import write_atomically
from fastlenet.intervals import mean_of
from fastlenet.models.ensemble import Ensemble
from fastlenet.reports.repeating import training_of
from fastlenet.speedrun.checking import check
from fastlenet.speedrun.report import accuracies_of, machine
from fastlenet.training.evaluation import predict, score
from measuring import RESULTS, print_table

TARGET = 0.9925


def main() -> None:
    parser = argparse.ArgumentParser(description="measures the networks of a file for the leaderboard")
    parser.add_argument("model", help="a file of fastlenet train --ensemble N --save-model")
    parser.add_argument("--name", required=True, help="of the files of results")
    parser.add_argument("--command", required=True, help="that trained the networks")
    parser.add_argument("--teacher", metavar="COMMAND", help="that trained the networks that taught them")
    parser.add_argument("--teacher-seconds", type=float, metavar="X", help="which that took")
    chosen = parser.parse_args()
    if (chosen.teacher is None) != (chosen.teacher_seconds is None):
        parser.error("--teacher and --teacher-seconds belong together")
    ensemble, data = fastlenet.load(chosen.model), load_mnist()
    if not isinstance(ensemble, Ensemble):
        parser.error(f"{chosen.model}: expects an ensemble")
    training = training_of(ensemble[0], len(ensemble), None)
    if training.recipe is None:
        parser.error(f"{chosen.model}: expects an ensemble that knows its recipe")
    recipe = training.recipe
    labels = data.part("test")[1]
    shared: dict[str, Any] = {"command": f"{chosen.command}; python benchmarks/entries.py", "way": "workers"}
    shared |= {"machine": machine() | {"threads": fastlenet.get_num_threads()}, "network": "lenet", "target": TARGET}
    if chosen.teacher is not None:
        shared["teacher"] = {"command": chosen.teacher, "seconds": chosen.teacher_seconds}
    alike = len({member.preprocessing for member in ensemble}) == 1
    rows = []
    for tta in (False, True):
        found = [predict([member], data, tta=tta, part="test") for member in ensemble]
        alone = [score(probabilities, labels)[0] for probabilities in found]
        weights = np.full(len(found), 1 / len(found)) if ensemble.weights is None else np.asarray(ensemble.weights)
        together = score(np.tensordot(weights, np.stack(found), axes=1), labels)[0]
        words = {"name": training.name, **asdict(replace(recipe, tta=tta))}
        results = {f"speedrun_{chosen.name}": (alone, {})} if alike else {}
        results[f"ensemble_{chosen.name}"] = ([together], {"members": len(found), "members_alone": alone})
        if not alike:
            looks = [asdict(member.preprocessing) for member in ensemble]
            results[f"ensemble_{chosen.name}"][1]["looks"] = looks
        for name, (accuracies, more) in results.items():
            runs = [{"seed": recipe.seed + i, "accuracy": accuracy} for i, accuracy in enumerate(accuracies)]
            entries = {f"fastlenet {fastlenet.__version__}": {**accuracies_of(accuracies, TARGET), "runs": runs}}
            result = json.loads(json.dumps(shared | {"recipe": words, **more, "results": entries}))
            checked = check(result)
            if checked.faults:
                raise SystemExit("\n".join(checked.faults))
            path = RESULTS / f"{name}{'_tta' if tta else ''}.json"
            write_atomically(path, json.dumps(result, indent=1).encode() + b"\n")
            mean = mean_of(accuracies)
            interval = "" if mean.interval is None else f"{mean.interval[0]:.3%}..{mean.interval[1]:.3%}"
            rows.append([path.stem, str(len(accuracies)), f"{mean.mean:.3%}", f"{mean.deviation:.3%}", interval])
    print_table(["file of results", "seeds", "mean", "deviation", "95 %"], rows)


if __name__ == "__main__":
    main()
