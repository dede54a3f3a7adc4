"""python -m fastlenet.train: what it prints, its flags, its exit codes, Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fastlenet import LeNet, _core
from fastlenet.data import Dataset
from fastlenet.training.fit import fit
from fastlenet.training.recipe import Recipe
from helpers.command import Result, one_line, train_command
from helpers.expect import expect_same_bits

Train = Callable[..., Result]
EPOCH_LINE = re.compile(
    r"epoch (\d)/(\d)   loss (\d\.\d{4})   accuracy (\d+\.\d\d)%   val_loss (\d\.\d{4})   val_accuracy (\d+\.\d\d)%   "
    r"\d+\.\d\d s   [\d,]+ images/s"
)
SHAPES = ["(20, 1, 5, 5)", "(20,)", "(50, 20, 5, 5)", "(50,)", "(500, 800)", "(500,)", "(10, 500)", "(10,)"]


def test_what_it_prints(train: Train, small_mnist: Path, tmp_path: Path) -> None:
    result = train(
        "--data-dir", small_mnist, "--epochs", 2, "--batch-size", 50, "--threads", 2, "--log-json", "log", "--seed", 4
    )
    assert result.code == 0 and result.err == ""  # not a terminal: no bar
    assert f"level {_core.level()}" in result.out and "threads 2" in result.out and "seed 4" in result.out
    assert "500 test images, 2000 training images" in result.out
    places = [result.out.index(shape) for shape in SHAPES]
    assert places == sorted(places) and "431080 parameters" in result.out
    before = re.search(r"before training   accuracy +(\d+\.\d\d)%", result.out)
    assert before is not None and 2 < float(before[1]) < 30
    epochs = EPOCH_LINE.findall(result.out)
    assert [(number, of) for number, of, *_ in epochs] == [("1", "2"), ("2", "2")]
    assert result.out.endswith(f"final accuracy {epochs[-1][5]}%\n")
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    for entry, (_, _, loss, accuracy, val_loss, val_accuracy) in zip(log, epochs, strict=True):
        assert f"{100 * entry['accuracy']:.2f}" == accuracy and f"{entry['loss']:.4f}" == loss
        assert f"{100 * entry['val_accuracy']:.2f}" == val_accuracy and f"{entry['val_loss']:.4f}" == val_loss
        assert entry["images_per_second"] == pytest.approx(2000 / entry["seconds"])


def test_it_learns(train_here: Train, small_mnist: Path) -> None:
    """Four epochs of 2,000 images: over 90 % on 500 others; and the training loss falls."""
    result = train_here("--data-dir", small_mnist, "--epochs", 4, "--batch-size", 20, "--lr", 0.03, "--label-smoothing", 0)
    epochs = EPOCH_LINE.findall(result.out)
    assert float(epochs[-1][5]) > 90 and float(epochs[-1][2]) < 0.2 * float(epochs[0][2])


def test_the_command_is_fit(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """The same bits as fastlenet.fit, with or without an evaluation per epoch, and as the default recipe."""
    from fastlenet.data import load_idx_directory

    train_here("--data-dir", small_mnist, "--epochs", 2, "--seed", 3, "--save-model", "model.safetensors")
    expected = load_file(tmp_path / "model.safetensors")
    for every in (True, False):
        model = LeNet(seed=3)
        history = fit(model, load_idx_directory(small_mnist), epochs=2, seed=3, evaluate_every_epoch=every)
        assert [epoch.val_accuracy is None for epoch in history.epochs] == [not every, False]
        for name, array in model.state_dict().items():
            expect_same_bits(array, expected[name])


def test_same_seed_same_bits(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    arguments = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 77, "--quiet", "--save-model"]
    for threads in (1, 2, 3):
        train_here(*arguments, f"{threads}", "--threads", threads)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "3").read_bytes()
    train_here(*arguments, "other", "--seed", 1)
    assert (tmp_path / "1").read_bytes() != (tmp_path / "other").read_bytes()


def test_save_and_evaluate(train_here: Train, small_mnist: Path) -> None:
    trained = train_here("--data-dir", small_mnist, "--epochs", 2, "--quiet", "--save-model", "model.safetensors")
    assert re.fullmatch(r"final accuracy \d+\.\d\d%\n", trained.out)
    for size in (1, 500, 333):
        again = train_here(
            "--data-dir", small_mnist, "--epochs", 0, "--quiet", "--load-model", "model.safetensors", "--test-batch-size", size
        )
        assert again.out == trained.out


def test_validation_reports_on_training_images(train_here: Train, small_mnist: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--validation", 300, "--epochs", 1)
    assert "300 validation images, 1700 training images" in result.out


def test_dry_run_and_log_interval(train_here: Train, small_mnist: Path) -> None:
    dry = train_here("--data-dir", small_mnist, "--dry-run", "--epochs", 1, "--log-interval", 1)
    assert dry.out.count("Train Epoch: 1 [64/2000 (3%)]\tLoss: ") == 1
    wordy = train_here("--data-dir", small_mnist, "--epochs", 1, "--batch-size", 500, "--log-interval", 2)
    assert wordy.out.count("Train Epoch") == 2


@pytest.mark.slow
def test_profile(train_here: Train, small_mnist: Path) -> None:
    """Every op of the step is there, and the lines add up to the whole."""
    result = train_here("--data-dir", small_mnist, "--epochs", 2, "--optimizer", "sgd", "--profile")
    lines = re.findall(r"^(\S.*?) +(\d+\.\d)( +\d+%)? +(\d+\.\d)%$", result.out, re.MULTILINE)
    times = {name: float(us) for name, us, _, _ in lines}
    for op in ("gather_images", "conv2d_relu_max_pool2d_backward 20x12x12", "linear_forward 800", "sgd_step", "Python"):
        assert any(name.startswith(op) for name in times), op
    whole = times.pop("whole step")
    assert abs(sum(times.values()) - whole) < 0.05 * whole and times["Python"] < 0.5 * whole
    assert [bool(share) for name, _, share, _ in lines if "conv" in name or "linear" in name] == [True] * 8


def test_profile_of_a_single_step(train_here: Train, small_mnist: Path) -> None:
    """Says that there is none, and why."""
    result = train_here("--data-dir", small_mnist, "--epochs", 1, "--dry-run", "--profile")
    assert result.code == 0 and "no profile: it leaves out an epoch's first step" in result.out


def test_help(train_here: Train) -> None:
    result = train_here("--help")
    assert result.code == 0
    for flag in [
        "batch-size",
        "test-batch-size",
        "epochs",
        "lr",
        "momentum",
        "seed",
        "dry-run",
        "log-interval",
        "save-model",
        "load-model",
        "validation",
        "threads",
        "data-dir",
        "dataset",
        "checkpoint",
        "resume",
        "log-json",
        "quiet",
    ]:
        assert f"--{flag}" in result.out
    assert "431,080" in result.out and "Exit codes" in result.out


def test_a_diverging_run_stops(train_here: Train, small_mnist: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--epochs", 2, "--lr", "1e30")
    assert "the loss is nan in epoch" in one_line(result) and "smaller --lr" in result.err


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], id="default"),
        pytest.param(["--checkpoint", "mine.safetensors"], id="checkpoint", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c(flags: list[str], train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """Exit code 130, the state saved, and the line it prints goes on to the bits of an undisturbed run."""
    settings = ["--data-dir", small_mnist, "--epochs", 4, "--batch-size", 40, "--seed", 6]
    process = subprocess.Popen(
        train_command(*settings, *flags), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, (out, err)
    saved = "mine.safetensors" if flags else "fastlenet-interrupted.safetensors"
    assert err == f"\ninterrupted; saved. To continue: python -m fastlenet.train --resume {saved}\n"
    resumed = train_here("--resume", saved, "--save-model", "resumed", "--threads", 1)
    assert resumed.code == 0 and re.search(r"resumed in epoch \d at step \d+", resumed.out)
    train_here(*settings, "--save-model", "undisturbed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "undisturbed").read_bytes()


def open_terminal() -> tuple[int, int]:
    """A pseudo-terminal, 120 columns wide: our end, and that of a process."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    return master, slave


def on_a_terminal(*arguments: str | Path, folder: Path, stdout: int | None = None) -> str:
    """What the command writes to a pseudo-terminal that is its standard error, and its output too."""
    master, slave = open_terminal()
    output = slave if stdout is None else stdout
    process = subprocess.Popen(train_command(*arguments), cwd=folder, stdout=output, stderr=slave)
    os.close(slave)
    text = b""
    with contextlib.suppress(OSError):  # raised when the other end is closed
        while chunk := os.read(master, 4096):
            text += chunk
    os.close(master)
    assert process.wait() == 0, text
    return text.decode(errors="replace")


def test_bar_on_a_terminal(small_mnist: Path, tmp_path: Path) -> None:
    """A pseudo-terminal gets a bar with loss, images/s and the time left."""
    flags = ("--data-dir", small_mnist, "--epochs", "1", "--batch-size", "2")
    text = on_a_terminal(*flags, folder=tmp_path, stdout=subprocess.DEVNULL)
    assert re.search(r"epoch 1/1: +\d+%.*/2000 \[\d\d:\d\d<\d\d:\d\d, .*images/s, loss \d\.\d{4}\]", text)


@pytest.mark.slow
def test_lines_above_the_bar(small_mnist: Path, tmp_path: Path) -> None:
    """--log-interval wipes the bar, prints a line of its own, and the bar goes on below it."""
    flags = ("--data-dir", small_mnist, "--epochs", "1", "--batch-size", "2", "--log-interval", "100")
    text = on_a_terminal(*flags, folder=tmp_path)
    lines = re.findall(r"(.)Train Epoch: 1 \[\d+/2000 \(\d+%\)\]\tLoss: \d+\.\d{6}(.)", text, re.DOTALL)
    assert len(lines) == 10 and "images/s, loss" in text
    assert all(before in "\r\n" and after in "\r\n" for before, after in lines)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["TQDM_MININTERVAL", "TQDM_GUI"])
def test_a_bar_that_cannot_be_drawn(variable: str, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm's variables may say what its code does not take; the run goes on without a bar."""
    monkeypatch.setenv(variable, "x")
    text = on_a_terminal("--data-dir", small_mnist, "--epochs", "1", "--batch-size", "50", folder=tmp_path)
    assert re.search(r"final accuracy \d+\.\d\d%", text) and "rror" not in text


@pytest.mark.slow
def test_a_terminal_that_goes_away(small_mnist: Path, tmp_path: Path) -> None:
    """A bar that nobody sees any more costs neither the run nor its exit code."""
    master, slave = open_terminal()
    command = train_command("--data-dir", small_mnist, "--epochs", 1, "--batch-size", 2, "--log-interval", 100)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    assert os.read(master, 4096)  # the bar
    os.close(master)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "final accuracy" in out


def test_recipe_schedule() -> None:
    recipe = Recipe(lr=1.0, warm_up=0.2)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[19] == 1.0 == max(rates) and rates[0] == 1 / 20
    assert rates[-1] == pytest.approx(1 / 80)
    assert np.diff(rates[:20]) == pytest.approx(1 / 20) and np.diff(rates[20:]) == pytest.approx(-1 / 80)
    assert [Recipe(lr=1.0, warm_up=w).rate(0, 4) for w in (0.0, 1.0)] == [1.0, 0.25]


def test_fit_rejects_unknown_arguments(mnist: Dataset) -> None:
    with pytest.raises(TypeError, match=r"^fit: unexpected argument learning_rate; did you mean lr\?$"):
        fit(LeNet(), mnist, learning_rate=0.1)
    with pytest.raises(ValueError, match="batch_size expects a positive integer, got 0"):
        fit(LeNet(), mnist, batch_size=0)
