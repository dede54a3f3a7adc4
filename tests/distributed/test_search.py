"""The search: every trial in one file, none twice, the better ones further, and a picture."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastlenet import LeNet, fit
from fastlenet.cli.main import main
from fastlenet.distributed import LocalWorkers, Space, read_trials, search
from fastlenet.distributed.results import read
from fastlenet.distributed.searches.searching import rungs
from fastlenet.distributed.source import Source
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from helpers.command import Result, one_line

SPACE: dict[str, Any] = {
    "recipe": "fast",
    "validation": 200,
    "trials": 4,
    "seeds": 4,
    "fields": {"lr": {"low": 0.005, "high": 0.2, "log": True}, "batch_size": [40, 50], "shift": {"low": 0, "high": 2}},
}
TOML = """
recipe = "fast"
data = "{file}"
validation = 200
trials = 4
seeds = 4
halving = 2
[fields]
lr = {{ low = 0.005, high = 0.2, log = true }}
batch_size = [40, 50]
shift = {{ low = 0, high = 2 }}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        return Result(main(["search", *map(str, arguments)]), *capfd.readouterr())

    return run


def test_a_trial_is_a_run_on_the_validation_split(file: Path) -> None:
    found = search(SPACE | {"data": str(file), "trials": 1, "seeds": 2}, verbose=0)
    data = Source.of(file).load().hold_out(200)
    for run in found.best.runs:
        history = fit(LeNet(run.seed), data, replace(found.best.recipe, seed=run.seed), verbose=0)
        assert (run.accuracy, run.loss) == (history.epochs[-1].val_accuracy, history.epochs[-1].val_loss)


@pytest.mark.slow
def test_halving(file: Path, tmp_path: Path) -> None:
    """Each rung has half of the trials, the better ones, and twice the seeds; no seed is run twice."""
    space = SPACE | {"data": str(file), "halving": 2}
    path = tmp_path / "trials.jsonl"
    with LocalWorkers(2) as workers:
        found = search(space, executor=workers, results=path, verbose=0)
    assert [(trial.rung, len(trial.runs)) for trial in found.trials] == [(2, 4), (1, 2), (0, 1), (0, 1)]
    runs = [run.recipe for run in read(path).outcomes]
    assert len(runs) == len(set(runs)) == 4 + 2 + 2  # a seed each; one more for two; two more for one
    first = sorted(found.trials, key=lambda trial: -(trial.runs[0].accuracy or 0))
    assert first[:2] in ([*found.trials[:2]], [*found.trials[1::-1]])
    more = search(space | {"trials": 6}, results=path, verbose=0)
    assert {trial.number: trial.fields for trial in more.trials}.items() >= {t.number: t.fields for t in found.trials}.items()
    again = [run.recipe for run in read(path).outcomes]
    assert again[: len(runs)] == runs and len(again) == len(set(again)) > len(runs)


def test_halving_by_epochs(file: Path) -> None:
    space = SPACE | {
        "data": str(file),
        "halving": 2,
        "resource": "epochs",
        "seeds": 1,
        "fields": {"lr": [0.02, 0.05], "epochs": [2]},
    }
    found = search(space | {"sampler": "grid"}, verbose=0)
    assert [(trial.recipe.epochs, len(trial.runs)) for trial in found.trials] == [(2, 1), (1, 1)]


@pytest.mark.parametrize("trials", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("factor", [0, 2, 3, 5])
def test_rungs(trials: int, factor: int) -> None:
    """The last one has all seeds, and the first all trials; each in between has a share of the trials, and more seeds."""
    made = rungs(Space.of(SPACE | {"halving": factor, "seeds": 9}), trials, 1)
    seeds = [int(9 * rung.share + 1e-9) for rung in made]
    assert made[0].trials == trials and made[-1].share == 1 and seeds[0] >= 1
    assert all(a < b for a, b in itertools.pairwise(seeds))
    assert [rung.trials for rung in made] == [
        max(1, trials // factor**number) if number else trials for number in range(len(made))
    ]


def test_samples() -> None:
    """In their ranges; more trials begin with the same ones; listed ones come first; a grid has all."""
    few, many = (list(Space.of(SPACE | {"trials": count}).samples()) for count in (5, 200))
    assert many[:5] == few
    rates = [math.log(float(trial["lr"])) for trial in many]
    assert math.log(0.005) <= min(rates) and max(rates) <= math.log(0.2)
    assert sum(rates) / 200 == pytest.approx((math.log(0.005) + math.log(0.2)) / 2, abs=6 * 3.69 / math.sqrt(12 * 200))
    assert {(trial["batch_size"], trial["shift"]) for trial in many} == {
        (size, shift) for size in (40, 50) for shift in (0, 1, 2)
    }
    listed = Space.of(SPACE | {"trial": [{"lr": 1}, {"optimizer": "sgd"}], "trials": 0})
    assert [listed.recipe_of(trial).optimizer for trial in listed.samples()] == ["muon", "sgd"]
    grid = Space.of({"sampler": "grid", "fields": {"lr": {"low": 0.1, "high": 0.3, "step": 0.1}, "nesterov": [True, False]}})
    assert [tuple(trial.values()) for trial in grid.samples()] == [(x, y) for x in (0.1, 0.2, 0.3) for y in (True, False)]
    assert Space.of(json.loads(json.dumps(grid.as_mapping()))) == grid


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_many_steps_take_no_memory(sampler: str) -> None:
    """The values of a grid are computed one by one: 90,001 of them, of which each would take more than 32 bytes in a list."""
    fields = {"lr": {"low": 0.0, "high": 90_000.0, "step": 1.0}}
    space = Space.of({"sampler": sampler, "fields": fields, "trials": 3})
    tracemalloc.start()
    first = list(itertools.islice(space.samples(), 3))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(first) == 3 and most < 100_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "quick"}, "recipe expects one of default, fast, best, got 'quick'"),
        ({"trails": 3}, "trails.*did you mean trials"),
        ({"fields": {"lrr": [1]}}, "lrr.*did you mean lr"),
        ({"fields": {"seed": [1]}}, "seed"),
        ({"fields": {"lr": [-1.0]}}, r"lr expects a non-negative number, got -1.0"),
        ({"fields": {"lr": 0.1}}, "lr expects a list of choices, or a table with low and high, got 0.1"),
        ({"fields": {"lr": {"low": 0, "high": 1, "log": True}}}, "lr expects low below high; with log, a low above 0"),
        ({"fields": {"optimizer": {"low": 0, "high": 1}}}, "optimizer expects a list of choices, got"),
        ({"fields": {"shift": {"low": 0.5, "high": 1}}}, r"shift.low expects"),
        ({"fields": {}}, "fields expects at least one field, or a trial"),
        ({"halving": 1}, "halving expects 0, or an integer in 2..100, got 1"),
        ({"sampler": "grid"}, "lr expects choices or a step, for the sampler grid"),
        (
            {"sampler": "grid", "fields": {"lr": {"low": 1, "high": 400, "step": 1}, "batch_size": [*range(1, 301)]}},
            "fields expects a grid of at most 100,000 trials, got one of 120,000; give fewer choices",
        ),
        ({"trial": [{"optimizer": "muon", "momentum": 0}]}, "momentum expects a number above 0 for optimizer muon"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_wrong_spaces(changes: dict[str, object], message: str, run: Callable[..., Result], tmp_path: Path) -> None:
    """In one line, before any run."""
    with pytest.raises((FieldError, TypeError), match=message):
        search(SPACE | changes)
    (tmp_path / "space.json").write_text(json.dumps(SPACE | changes))
    assert one_line(run("space.json")).startswith("fastlenet search: error: space.json: ")


@pytest.mark.parametrize("content", ["lr = ", "[1]", "\x00", "a=" + "[" * 10_000], ids=["value", "table", "NUL", "deep"])
def test_a_file_that_is_no_space(content: str, run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(content)
    assert one_line(run("space.toml")).startswith("fastlenet search: error: space.toml: ")
    assert one_line(run("other.toml")) == "fastlenet search: error: other.toml: cannot be read (No such file or directory)"


def test_without_a_reader_of_toml(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "space.toml").write_text("lr = 1")
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    assert one_line(run("space.toml")).endswith("pip install 'fastlenet[search]', or write JSON")


@pytest.mark.slow
def test_a_killed_search_goes_on(run: Callable[..., Result], file: Path, tmp_path: Path) -> None:
    """By the same line; the file then plots itself."""
    (tmp_path / "space.toml").write_text(TOML.format(file=file))
    command = [sys.executable, "-m", "fastlenet", "search", "space.toml", "--workers", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("trial ")
        process.send_signal(signal.SIGKILL)
    done = [run.recipe for run in read(tmp_path / "space.jsonl").outcomes]
    result = run("space.toml")
    assert result.code == 0 and "are in space.jsonl, and are not repeated" in result.out
    recipes = [run.recipe for run in read(tmp_path / "space.jsonl").outcomes]
    assert done and recipes[: len(done)] == done and len(recipes) == len(set(recipes)) == 8
    table = result.out.partition("\n\n")[2] or result.out
    shown = run("--results", "space.jsonl")
    assert run("space.jsonl").out == shown.out
    assert shown.code == 0 and shown.out.strip() in result.out and "best: Recipe(" in table
    drawn = run("--plot", "space.jsonl")
    assert drawn.code == 0 and drawn.out.endswith("space.jsonl is drawn in space.png\n")
    assert (tmp_path / "space.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CheckpointError, match=r"space.toml: not a file of runs; line 1"):
        read_trials(tmp_path / "space.toml")


def test_without_a_space(run: Callable[..., Result]) -> None:
    for arguments in ([], ["--workers", "2", "--results", "a"], ["--plot", "a.png"]):
        assert one_line(run(*arguments)).startswith(
            "fastlenet search: error: expects SPACE, a TOML or JSON file that describes the search"
        )


def test_without_optuna(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(Exception, match=r"sampler optuna needs Optuna .*; pip install 'fastlenet\[optuna\]'"):
        search(SPACE | {"data": str(file), "sampler": "optuna"}, verbose=0)


@pytest.mark.cluster
def test_optuna(file: Path, tmp_path: Path) -> None:
    """It chooses the trials and prunes; a search that goes on asks for the same trials, and repeats no run."""
    path = tmp_path / "trials.jsonl"
    space = SPACE | {"data": str(file), "sampler": "optuna", "halving": 2, "trials": 3, "trial": [{"lr": 0.03}]}
    few = search(space, results=path, verbose=0)
    assert sorted(trial.number for trial in few.trials) == [0, 1, 2, 3]
    assert max(len(trial.runs) for trial in few.trials) == 4
    with LocalWorkers(2) as workers:
        more = search(space | {"trials": 7}, executor=workers, results=path, verbose=0)
    recipes = [run.recipe for run in read(path).outcomes]
    assert len(recipes) == len(set(recipes)) and len(more.trials) == 8
    fields = {trial.number: trial.fields for trial in more.trials}
    assert fields.items() >= {trial.number: trial.fields for trial in few.trials}.items() and fields[0] == {"lr": 0.03}
