"""`fastlenet speedrun --check`: our own files pass, every fault is one line, and the figures are those of the runs."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.intervals import mean_of, student_t
from fastlenet.speedrun.checking import CATEGORIES, check
from fastlenet.speedrun.protocol import main
from fastlenet.speedrun.schema import broken

RESULTS = sorted((Path(__file__).parent.parent.parent / "benchmarks" / "results").glob("speedrun*.json"))


def result(count: int = 20, accuracy: float = 0.9944, **changes: Any) -> dict[str, Any]:
    """A file without faults. Accuracies of two values about the one that is given."""
    runs = [
        {"seed": seed, "accuracy": round(accuracy + 1e-4 * (-1) ** seed, 4), "seconds": 4.0 + seed} for seed in range(count)
    ]
    mean = mean_of([float(run["accuracy"]) for run in runs])
    entry = {
        "accuracy_mean": mean.mean,
        "accuracy_deviation": mean.deviation,
        "accuracy_interval": None if mean.interval is None else list(mean.interval),
        "accuracy_lowest": min(run["accuracy"] for run in runs),
        "share_at_target": sum(run["accuracy"] >= 0.9925 for run in runs) / count,
        "median": {"seconds": float(np.median([run["seconds"] for run in runs]))},
        "runs": runs,
    }
    return {
        "command": "their command",
        "way": "cold processes",
        "machine": {"cpu": "a CPU", "cpus": 2, "threads": 2},
        "recipe": {"name": "theirs", "epochs": 1},
        "target": 0.9925,
        "results": {"theirs 1.0": entry},
        **changes,
    }


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_our_own_files_pass(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(RESULTS) >= 3
    assert main(["--check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("category: ")


def test_the_figures_are_those_of_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(result()))
    assert main(["--check", str(file)]) == 0
    assert capsys.readouterr().out == (
        "category: one epoch, time to 99.25, best single\n"
        "theirs 1.0: 20 seeds, mean 99.440%, deviation 0.010%, 95 % in 99.435%..99.445%, lowest 99.43%, 100% at 99.25%\n"
        "theirs 1.0: 13.50 s, the median of the whole process\n"
    )


Change = Callable[[dict[str, Any]], object]


def entry_of(value: dict[str, Any]) -> Any:
    return value["results"]["theirs 1.0"]


FAULTS: dict[str, tuple[Change, str]] = {
    "no runs": (lambda r: entry_of(r)["runs"].clear(), "results: theirs 1.0: runs expects a list of at least 1, got 0"),
    "no results": (lambda r: r["results"].clear(), "results expects an object of at least 1, got 0"),
    "lacking": (lambda r: r.pop("machine"), "the file lacks machine"),
    "a word for a number": (lambda r: r.update(target="99"), "target expects a number, got '99'"),
    "a truth for a number": (lambda r: entry_of(r)["runs"][3].update(seed=True), "runs[3]: seed expects an integer, got True"),
    "beyond 1": (lambda r: entry_of(r)["runs"][0].update(accuracy=99.4), "accuracy expects a number of at most 1, got 99.4"),
    "a way": (lambda r: r.update(way="fast"), "way expects one of cold processes, workers, got 'fast'"),
    "a category": (lambda r: r.update(category="first"), "category expects one of one epoch, time to 99.25, time to 99.50, "),
    "mean": (
        lambda r: entry_of(r).update(accuracy_mean=0.9945),
        "accuracy_mean expects 0.9944, which its runs give, got 0.9945",
    ),
    "deviation": (lambda r: entry_of(r).update(accuracy_deviation=0.0), "accuracy_deviation expects 0.0001"),
    "lowest": (lambda r: entry_of(r).update(accuracy_lowest=0.9944), "accuracy_lowest expects 0.9943, which its runs give"),
    "share": (lambda r: entry_of(r).update(share_at_target=0.95), "share_at_target expects 1, which its runs give, got 0.95"),
    "interval": (lambda r: entry_of(r).update(accuracy_interval=[0.99, 1]), "accuracy_interval expects [0.994352, 0.994448], "),
    "median": (
        lambda r: entry_of(r)["median"].update(seconds=4.0),
        "median: seconds expects 13.5, which its runs give, got 4.0",
    ),
    "twice": (lambda r: entry_of(r)["runs"][4].update(seed=3), "runs[4]: seed 3 occurs twice"),
    "left out": (lambda r: entry_of(r)["runs"][4].update(seed=77), "seed 4 is missing; all seeds count, one after the other"),
    "no count": (
        lambda r: entry_of(r)["runs"][0].update(accuracy=0.99455),
        "runs[0]: accuracy expects a number of the 10,000 test images, got 0.99455",
    ),
    "no time": (lambda r: entry_of(r)["runs"][0].pop("seconds"), "runs[0] lacks seconds, those of the whole process"),
    "parts": (
        lambda r: entry_of(r)["runs"][0].update(start_up=1, data=1, training=1, evaluation=0.5),
        "runs[0]: seconds expects the sum of its parts, 3.5, got 4.0",
    ),
    "not reached": (lambda r: r.update(category="time to 99.50"), "category time to 99.50 expects a mean of at least 99.50%"),
    "not taught": (lambda r: r.update(category="taught"), "category taught expects a teacher, with its command and seconds"),
    "not one": (lambda r: r.update(category="best single", members=3), "category best single expects one network, got 3"),
    "other network": (lambda r: r.update(category="one epoch", network="wide"), "expects the network lenet, got 'wide'"),
    "epochs": (lambda r: r.update(category="one epoch", recipe={"name": "x", "epochs": 2}), "expects 1 epoch, got 2"),
    "teacher": (lambda r: r.update(teacher={"command": "x", "seconds": 0}), "teacher: seconds expects a number above 0, got 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_a_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = FAULTS[name]
    wrong = copy.deepcopy(result())
    change(wrong)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong))
    assert main(["--check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert any(expected in line for line in lines), err
    assert all(line.startswith(f"{file}: ") for line in lines)


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{\n\x1b[31m",
    "no text": b"\xff\xfe\x00",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "twins": b'{"command": "a", "command": "b"}',
    "NaN": json.dumps(result()).replace("0.9925", "NaN").encode(),
    "infinity": json.dumps(result()).replace("0.9925", "1e999").encode(),
    "huge integer": json.dumps(result()).replace('"seed": 3', '"seed": ' + "9" * 5000).encode(),
    "large seeds": json.dumps(result()).replace('"seed": 3,', f'"seed": {10**300},').encode(),
    "odd name": json.dumps(result()).replace("theirs 1.0", "a\\nb\\u0000" + "x" * 500).encode(),
    "a thousand faults": json.dumps(result(results={str(n): 1 for n in range(1000)})).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hostile.json"
    file.write_bytes(HOSTILE[name])
    code = main(["--check", str(file)])
    out, err = capsys.readouterr()
    assert code == (0 if name == "odd name" else 1), err
    lines = (out + err).splitlines()
    assert 1 <= len(lines) <= 100
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path / "none.json")]) == 2
    assert re.search(r"none.json: cannot be read \(No such file", capsys.readouterr().err)
    assert main(["--check", "x.json", "--seeds", "3"]) == 2
    assert "--check trains nothing; leave out --seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "entered"),
    [
        ({}, "one epoch, time to 99.25, best single"),
        ({"way": "workers"}, "one epoch, best single"),
        ({"teacher": {"command": "x", "seconds": 9.5}}, "taught"),
        ({"members": 5}, "ensemble"),
        ({"network": "lenet5"}, "none; best single expects the network lenet, got 'lenet5'"),
        (
            {"recipe": {"name": "x", "epochs": 3, "tta": True}},
            "time to 99.25, best single, with test-time augmentation: a row of its own",
        ),
    ],
    ids=str,
)
def test_categories(changes: dict[str, Any], entered: str) -> None:
    checked = check(result(**changes))
    assert checked.faults == ()
    assert checked.lines[0] == f"category: {entered}"


def test_few_seeds_enter_nothing() -> None:
    checked = check(result(count=1))
    assert checked.faults == ()
    assert checked.lines[0] == "category: none; best single expects at least 10 seeds, got 1"
    assert "1 seed, mean 99.450%, deviation 0.000%, no interval of one run" in checked.lines[1]
    assert check(result(count=1, members=2)).lines[0] == "category: ensemble"


def test_the_schema_names_every_category() -> None:
    faults = list(broken(result(category="?"), json.loads(SCHEMA.read_text())))
    assert faults == [f"category expects one of {', '.join(CATEGORIES)}, got '?'"]


SCHEMA = Path(__import__("fastlenet").__file__).parent / "speedrun" / "result.schema.json"


# Student's t for 95 %: Abramowitz and Stegun 1964, table 26.10, and for 99 % from the same.
@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (29, 2.045), (60, 2.000), (120, 1.980)],
)
def test_student_t(degrees: int, t: float) -> None:
    assert student_t(degrees) == pytest.approx(t, abs=6e-4)


def test_student_t_of_many_is_normal() -> None:
    assert student_t(10**9) == pytest.approx(1.959964, abs=3e-5)
    assert student_t(10, 0.99) == pytest.approx(3.169, abs=6e-4)
    with pytest.raises(ValueError, match="student_t: degrees expects a positive integer, got 0"):
        student_t(0)


@pytest.mark.slow
def test_the_interval_holds_the_mean_in_95_of_100(rng: np.random.Generator) -> None:
    """Of 4,000 samples of five numbers; the count has a standard deviation of 14."""
    held = 0
    for sample in rng.normal(3, 2, (4000, 5)):
        interval = mean_of(sample.tolist()).interval
        assert interval is not None
        held += interval[0] < 3 < interval[1]
    assert abs(held - 3800) < 5 * math.sqrt(4000 * 0.95 * 0.05)
