"""The commands on workers: the same numbers as alone, stopped and continued, and what does not go together."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastlenet import Ensemble, load
from fastlenet.cli.main import main
from fastlenet.data import Dataset
from fastlenet.distributed.results import read
from fastlenet.intervals import mean_of
from fastlenet.speedrun.checking import CATEGORIES
from fastlenet.training.teacher import Teacher
from helpers.command import Result, one_line

Run = Callable[..., Result]
SHORT = ["--epochs", "1", "--batch-size", "50"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `fastlenet` with the arguments given, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:  # argparse's
            assert isinstance(stop.code, int)
            code = stop.code
        return Result(code, *capfd.readouterr())

    return run


def speedrun_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fastlenet.speedrun", *map(str, arguments)]


@pytest.mark.slow
def test_speedrun_on_workers(run: Run, file: Path, tmp_path: Path) -> None:
    """Has the accuracies of cold processes, says which way it was, and keeps the runs beside its JSON file."""
    flags = ["--data", file, *SHORT, "--target", 10]
    ours = run("speedrun", *flags, "--seeds", 3, "--workers", 2, "--json", "workers.json")
    assert ours.code == 0, ours
    cold = run("speedrun", *flags, "--seeds", 2, "--seed", 1, "--json", "cold.json", "--results", "cold.jsonl")
    found, alone = (json.loads((tmp_path / name).read_text()) for name in ("workers.json", "cold.json"))
    assert (found["way"], alone["way"]) == ("workers", "cold processes")
    (of_workers,), (of_cold,) = found["results"].values(), alone["results"].values()
    assert [run["accuracy"] for run in of_workers["runs"]][1:] == [run["accuracy"] for run in of_cold["runs"]]
    (host,) = of_workers["hosts"].values()
    assert host["runs"] == 3 and "median" not in of_workers
    assert sorted(run.seed for run in read(tmp_path / "workers.jsonl").outcomes) == [0, 1, 2]
    again = run("speedrun", *flags, "--seeds", 3, "--workers", 1, "--json", "workers.json")
    assert "3 of 3 runs are in workers.jsonl, and are not repeated" in again.out
    start = time.monotonic()
    again = run("speedrun", *flags, "--seeds", 2, "--seed", 1, "--results", "cold.jsonl")
    assert again.code == 0 and again.out == cold.out and time.monotonic() - start < 60
    refused = run("speedrun", *flags, "--workers", 1, "--results", "cold.jsonl")
    assert one_line(refused).endswith("its runs have way 'cold processes', this one has 'workers'; choose another file")


@pytest.mark.slow
def test_taught_speedrun(run: Run, file: Path, tmp_path: Path) -> None:
    """Is a category of its own: the JSON file says who taught it, and how long that took. Its runs share its cache."""
    flags = ["--data", file, *SHORT, "--target", 10]
    assert run("train", *flags[:-2], "--ensemble", 2, "--save-model", "teachers").code == 0
    teacher = ["--teacher", "teachers", "--mix", 0.5]
    one = ["--seeds", 1, "--json", "taught.json", "--results", "taught.jsonl"]
    result = run("speedrun", *flags, *teacher, "--teacher-seconds", 12.5, "--teacher-cache", "cache", *one)
    assert result.code == 0, result
    assert [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()] == ["epoch0"]
    assert "taught by 2 networks in teachers, whose training took 12.5 s: add it to each run's" in result.out
    found = json.loads((tmp_path / "taught.json").read_text())
    fingerprint = Teacher(load("teachers")).fingerprint
    command = found["teacher"].pop("command")
    assert command.startswith("fastlenet train --data DATA --ensemble 2 --epochs 1 --batch-size 50 ")
    assert found["teacher"] == {"files": ["teachers"], "networks": 2, "fingerprint": fingerprint, "seconds": 12.5}
    misses = (
        CATEGORIES["best single"].misses(found, mean_of([0.5] * 10)),
        CATEGORIES["taught"].misses(found, mean_of([0.5] * 10)),
    )
    assert found["recipe"]["mix"] == 0.5 and misses == ("expects no teacher", None)
    (runs,) = found["results"].values()
    student = ["train", *flags[:-2], *teacher, "--seed", 0, "--json"]
    assert json.loads(run(*student).out)["accuracy"] == runs["runs"][0]["accuracy"]
    refused = run("speedrun", *flags, "--mix", 0.5, *one)
    assert "teacher" in one_line(refused)
    for more, message in (
        ([*teacher], "--teacher teachers: the time of its training counts too; give it by --teacher-seconds X"),
        (["--teacher-seconds", 1], "--teacher-seconds 1.0: there is no teacher; give --teacher FILE, or leave it out"),
        (["--teacher-cache", "cache"], "--teacher-cache cache: there is no teacher; give --teacher FILE, or leave it out"),
        ([*teacher, "--workers", 1], "--teacher teachers: workers learn from labels alone; leave out --teacher, or"),
        ([*teacher, "--pytorch"], "--teacher teachers: PyTorch's program learns from labels alone; leave out"),
    ):
        assert one_line(run("speedrun", *flags, *more)).startswith(f"fastlenet speedrun: error: {message}")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [["--results", "mine.jsonl"], []], ids=["a file", "no file"])
def test_ctrl_c(kept: list[str], run: Run, file: Path, tmp_path: Path) -> None:
    """Stops cleanly and says how to go on; the command that it prints does the rest, and nothing twice."""
    command = speedrun_command("--data", file, "--epochs", 3, "--target", 10, "--seeds", 60, "--workers", 2, *kept)
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("seed"):
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
                break
        _, err = process.communicate(timeout=300)
    said = re.fullmatch(r"\ninterrupted; the \w*\s?finished runs? (is|are) in (\S+)\. To continue: python (-m .*)\n", err)
    said = said or re.fullmatch(r"\ninterrupted; the \d+ finished runs (are) in (\S+)\. To continue: python (-m .*)\n", err)
    assert process.returncode == 130 and said, err
    path = tmp_path / said[2]
    done = {run.seed: run.pid for run in read(path).outcomes}
    assert done and said[3].endswith("--results " + said[2])
    rest = speedrun_command(*said[3].split()[2:], "--seeds", len(done) + 1)
    assert subprocess.run(rest, cwd=tmp_path, capture_output=True, timeout=300).returncode == 0
    after = [(run.seed, run.pid) for run in read(path).outcomes]
    assert after[: len(done)] == list(done.items()) and len(dict(after)) == len(after)


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_the_workers(file: Path, tmp_path: Path) -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 30, 120, 0, 0))
    command = speedrun_command("--data", file, "--epochs", 16, "--seeds", 6, "--workers", 2)
    with subprocess.Popen(command, cwd=tmp_path, stdout=child, stderr=child):
        os.close(child)
        shown = b""
        while True:
            try:
                more = os.read(parent, 65536)
            except OSError:  # its end
                break
            shown += more
    os.close(parent)
    text = shown.decode()
    assert re.search(r"6/6|5/6", text) and re.search(r"\d+\.\d{3}% ± \d", text)
    assert re.search(r"worker +threads +runs +now", text) and re.search(r"\S+:\d+ +1 +\d +seed \d", text)


@pytest.mark.slow
def test_a_full_disk(run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the file; the runs before are in it, and the next command goes on behind them."""
    flags = ["speedrun", "--data", file, *SHORT, "--target", 10, "--workers", 1, "--results", "runs.jsonl", "--seeds", 3]
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr("fastlenet.distributed.results.os.fsync", full)
    result = run(*flags)
    assert result.code == 2
    said = "runs.jsonl: cannot be written (No space left on device); it holds all runs before this one"
    assert result.err == f"fastlenet speedrun: error: {said}\n"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(*flags).code == 0 and sorted(run.seed for run in read(tmp_path / "runs.jsonl").outcomes) == [0, 1, 2]


def test_without_dask(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    for where in (["tcp://127.0.0.1:8786"], ["slurm", "host=127.0.0.1"]):
        result = run("speedrun", "--data", file, "--cluster", *where)
        assert re.search(
            r"error: a cluster needs fastlenet\[cluster\] \(.*\); pip install 'fastlenet\[cluster\]'$", one_line(result)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers expects an integer in 1..4096, got 0"),
        (
            ["--workers", "2", "--cluster", "tcp://a:1"],
            "--workers starts processes here, --cluster uses those elsewhere; give one of",
        ),
        (
            ["--workers", "2", "--pytorch"],
            "--pytorch takes turns with processes that run alone; leave out --workers and --cluster",
        ),
        (["--workers", "2", "--device", "cuda"], "--device cuda: workers compute on the CPU; leave it out, or --workers"),
        (["--workers", "2", "--json", "a.jsonl"], "--json and --results are both a.jsonl; give each a file of its own"),
        (["--cluster", "tcp://a:1", "b"], "--cluster tcp://a:1: expects an address alone, got b too"),
        (["--cluster", "slurm", "jobs"], "--cluster slurm: expects options as NAME=VALUE, got jobs"),
        (["--cluster", "slurm", "jobs=2"], "slurm needs interface=NAME or host=ADDRESS, the network on which the scheduler"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_flags_that_do_not_go_together(arguments: list[str], message: str, run: Run, file: Path) -> None:
    result = run("speedrun", "--data", file, *arguments)
    assert one_line(result).startswith(f"fastlenet speedrun: error: {message}")


@pytest.mark.slow
def test_an_ensemble_on_workers(run: Run, file: Path, tmp_path: Path) -> None:
    """The files, the lines and the accuracy of the same networks trained one after the other; and it goes on."""
    flags = ["train", "--data", file, *SHORT, "--dropout", 0.2, "--seed", 3, "--ensemble", 3, "--tta"]
    alone = run(*flags, "--save-model", "alone")
    ours = run(*flags, "--save-model", "workers", "--workers", 2, "--results", "runs.jsonl")
    assert ours.code == alone.code == 0 and (tmp_path / "workers").read_bytes() == (tmp_path / "alone").read_bytes()
    assert ours.out.splitlines()[-5:] == [line.replace("alone", "workers") for line in alone.out.splitlines()[-5:]]
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "runs.jsonl").write_text("".join(lines[:3]) + lines[3][:1000])  # killed in the middle of the last
    again = run(*flags, "--save-model", "again", "--workers", 1, "--results", "runs.jsonl", "--json")
    assert again.code == 0 and (tmp_path / "again").read_bytes() == (tmp_path / "alone").read_bytes()
    assert json.loads(again.out)["accuracy"] > 0.3 and json.loads(again.out)["epochs"] == 1


@pytest.mark.slow
def test_different_looks_on_workers(run: Run, file: Path, tmp_path: Path) -> None:
    """Each network preprocesses in its own way, in training too; runs of other looks are not gone on with."""
    flags = ["train", "--data", file, *SHORT, "--seed", 6, "--ensemble", 4, "--looks", "0,12+deskew"]
    alone = run(*flags, "--save-model", "alone")
    ours = run(*flags, "--save-model", "workers", "--workers", 2, "--results", "runs.jsonl")
    assert ours.code == alone.code == 0 and (tmp_path / "workers").read_bytes() == (tmp_path / "alone").read_bytes()
    members = load(tmp_path / "workers")
    assert isinstance(members, Ensemble)
    kinds = [str(member.preprocessing) for member in members]
    assert kinds == ["none", "width 12, deskew"] * 2
    recipe = members.facts.recipe
    assert recipe is not None and (recipe["seed"], recipe["width"], recipe["deskew"]) == (6, 0, False)  # the first one's
    again = run(*flags, "--save-model", "again", "--workers", 1, "--results", "runs.jsonl")
    assert again.code == 0 and (tmp_path / "again").read_bytes() == (tmp_path / "alone").read_bytes()
    other = run(*flags[:-1], "0,20", "--workers", 1, "--results", "runs.jsonl")
    assert "looks" in one_line(other)


@pytest.mark.slow
def test_an_ensemble_whose_images_are_held_out(run: Run, mnist: Dataset, tmp_path: Path) -> None:
    """By the command itself, as there are no test images: a worker holds out the same ones."""
    np.savez(tmp_path / "train.npz", x=mnist.train_images[:600], y=mnist.train_labels[:600])
    flags = ["train", "--data", "train.npz", *SHORT, "--ensemble", 2, "--quiet"]
    assert run(*flags, "--workers", 1).out == run(*flags).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "--workers and --cluster train the networks of an ensemble; give --ensemble N, or leave them out"),
        (["--results", "a"], "--results a: keeps the networks that workers train; give --workers N too"),
        (
            ["--ensemble", "2", "--workers", "2", "--plot", "a.png"],
            "--plot: not on workers; leave out --workers and --cluster, or",
        ),
        (["--ensemble", "2", "--workers", "2", "--dry-run"], "--dry-run: not on workers"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_flags_of_train_that_do_not_go_together(arguments: list[str], message: str, run: Run) -> None:
    assert one_line(run("train", *arguments)).startswith(f"fastlenet train: error: {message}")
