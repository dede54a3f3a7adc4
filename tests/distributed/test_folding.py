"""Cross-validation: parts that are alike, runs that are those of a fold alone, differences pair by pair."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, fit
from fastlenet.cli.main import main
from fastlenet.data import Dataset, load
from fastlenet.distributed import LocalWorkers, cross_validate
from fastlenet.fields import FieldError
from fastlenet.intervals import student_t
from fastlenet.training.recipe import RECIPES
from helpers.command import Result

SPACE: dict[str, Any] = {
    "recipe": "fast",
    "data": "digits",
    "seeds": 2,
    "trial": [{"lr": 0.001}, {"lr": 0.05}, {"batch_size": 64}],  # the second is the recipe itself
}


@pytest.mark.parametrize(("count", "folds"), [(100, 10), (103, 10), (7, 7), (1437, 4)])
def test_the_parts_are_alike_and_have_all_images(count: int, folds: int, rng: np.random.Generator) -> None:
    images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1) / count
    data = Dataset.from_arrays(images, rng.integers(0, 4, count), classes=4)
    parts = [data.fold(folds, fold) for fold in range(folds)]
    held = np.concatenate([part.validation_images.ravel() for part in parts])
    np.testing.assert_array_equal(np.sort(held), images.ravel())
    sizes = [len(part.validation_labels) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    of_class = np.array([np.bincount(part.validation_labels, minlength=4) for part in parts])
    assert (np.ptp(of_class, axis=0) <= 1).all()
    for part in parts:
        both = np.concatenate([part.train_images.ravel(), part.validation_images.ravel()])
        np.testing.assert_array_equal(np.sort(both), images.ravel())
        assert len(part.test_labels) == 0


def test_wrong_folds_are_refused() -> None:
    data = load("digits")
    for arguments, message in (
        ((1, 0), r"^Dataset.fold: folds expects an integer in 2\.\.1438, got 1$"),
        ((1439, 0), r"^Dataset.fold: folds expects an integer in 2\.\.1438, got 1439$"),
        ((5, 5), r"^Dataset.fold: fold expects an integer in 0\.\.4, got 5$"),
    ):
        with pytest.raises(FieldError, match=message):
            data.fold(*arguments)
    with pytest.raises(ValueError, match=r"^Dataset.fold: digits has 144 validation images already"):
        data.split(0.1).fold(5, 0)


@pytest.mark.slow
def test_differences_are_of_the_same_fold_and_seed(tmp_path: Path) -> None:
    found = cross_validate(SPACE, 3, verbose=0, results=tmp_path / "runs.jsonl")
    assert found.baseline.number == 0
    assert sorted(trial.number for trial in found.trials) == [0, 1, 2]  # the trial that changes nothing is the baseline
    assert found.baseline.recipe == replace(RECIPES["fast"], seed=0)
    data = load("digits")
    for trial in found.trials:
        assert list(trial.runs) == [(fold, seed) for fold in range(3) for seed in range(2)]
    trial = found.trials[-1]
    for fold, seed in ((0, 1), (2, 0)):
        recipe = replace(trial.recipe, seed=seed)
        model = LeNet.of(recipe, input_shape=(1, 8, 8))
        part = data.fold(3, fold)
        fit(model, part, recipe, verbose=0)
        assert trial.runs[fold, seed].accuracy == pytest.approx(model.evaluate(part, part="validation").accuracy)
    pairs = [(trial.runs[key].accuracy or 0) - (found.baseline.runs[key].accuracy or 0) for key in trial.runs]
    difference = trial.difference
    assert difference is not None and difference.interval is not None and difference.error is not None
    assert difference.mean == pytest.approx(statistics.mean(pairs))
    assert difference.error == pytest.approx(statistics.stdev(pairs) / len(pairs) ** 0.5)
    assert difference.interval[1] - difference.mean == pytest.approx(student_t(5) * difference.error)
    assert difference.mean == min(t.difference.mean for t in found.trials if t.difference)
    lines = [(tmp_path / f"runs.fold{fold}.jsonl").read_text().count("\n") for fold in range(3)]
    assert lines == [1 + 6, 1 + 6, 1 + 6]


@pytest.mark.slow
def test_it_goes_on_and_is_the_same_on_workers(tmp_path: Path) -> None:
    space = SPACE | {"seeds": 1, "trial": [{"lr": 0.01}]}
    first = cross_validate(space, 2, verbose=0, results=tmp_path / "runs.jsonl")
    kept = tmp_path / "runs.fold1.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:-1]))  # as after a kill
    again = cross_validate(space, 2, verbose=0, results=tmp_path / "runs.jsonl")
    with LocalWorkers(2) as workers:
        shared = cross_validate(space, 2, verbose=0, executor=workers)
    for other in (again, shared):
        assert other.table() == first.table()


def test_what_cannot_be_folded_is_refused() -> None:
    for changes, folds, message in (
        ({"halving": 2}, 3, "halving expects 0 for a cross-validation"),
        ({"sampler": "optuna"}, 3, "sampler expects random or grid for a cross-validation"),
        ({}, 1, r"folds expects an integer in 2\.\.1000, got 1"),
    ):
        with pytest.raises(FieldError, match=message):
            cross_validate(SPACE | changes, folds, verbose=0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        return Result(main(["search", *map(str, arguments)]), *capfd.readouterr())

    return run


def test_the_command_commits_every_trial(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE | {"seeds": 1}))
    result = run("space.json", "--folds", 2)
    assert result.code == 0, result.err
    assert "trial" in result.out and "95 % interval" in result.out and "recipe fast" in result.out
    assert result.out.endswith("space.folds.json holds every run\n")
    said = json.loads((tmp_path / "space.folds.json").read_text())
    assert (said["folds"], said["seeds"], len(said["trials"])) == (2, 1, 3)
    for trial in said["trials"]:
        assert [(run["fold"], run["seed"]) for run in trial["runs"]] == [(0, 0), (1, 0)]
        assert trial["accuracy"]["mean"] == pytest.approx(statistics.mean(run["accuracy"] for run in trial["runs"]))
    again = run("space.json", "--folds", 2, "--json", "other.json")
    assert "2 of 3 runs" not in again.err and (tmp_path / "other.json").exists()
    assert json.loads((tmp_path / "other.json").read_text()) == said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["space.json", "--json", "x.json"], "--json: holds a cross-validation; give --folds K too"),
        (["space.json", "--folds", 1], "--folds expects an integer in 2..1000, got 1"),
        (["halved.json", "--folds", 3], "halved.json: halving expects 0 for a cross-validation, in which every trial gets"),
        (["runs.jsonl", "--folds", 3], "--folds: expects SPACE, a TOML or JSON file that describes the search"),
        (["--folds", 3], "--folds: expects SPACE, a TOML or JSON file that describes the search"),
    ],
)
def test_wrong_flags(flags: list[object], message: str, run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    (tmp_path / "halved.json").write_text(json.dumps(SPACE | {"halving": 2}))
    refused = run(*flags)
    assert refused.code == 2
    assert message in refused.err
