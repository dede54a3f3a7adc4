"""Curves, the sweep of the learning rate, the times of a run, the speedrun."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlenet import LeNet, Recipe, fit
from fastlenet.data import Dataset
from fastlenet.training.callbacks.json_log import JsonLog
from fastlenet.training.callbacks.plot import Plot
from fastlenet.training.figures import PlotError
from fastlenet.training.history import Epoch
from fastlenet.training.lr_finder import Sweep, find_lr
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import Trainer
from helpers.command import Result, one_line
from helpers.plots import overlaps

RUN_NOTE = "loss includes label smoothing and distorted images. val_loss does not, so loss usually lies above it."
Train = Callable[..., Result]


@pytest.mark.slow
def test_find_lr(mnist: Dataset) -> None:
    """It ends where the loss has diverged to three times the smallest, and suggests half of that one's rate."""
    recipe = Recipe(shift=0, batch_size=32)
    sweep = find_lr(LeNet(), mnist, recipe, low=1e-4, high=10, steps=200)
    assert len(sweep.rates) == len(sweep.losses) < 200
    assert sweep.rates[0] == pytest.approx(1e-4) and sweep.rates == sorted(sweep.rates)
    assert sweep.suggestion == sweep.rates[sweep.losses.index(min(sweep.losses))] / 2
    assert sweep.losses[0] > 1.5 * min(sweep.losses) and sweep.losses[-1] > 3 * min(sweep.losses)
    again = find_lr(LeNet(), mnist, recipe, low=1e-4, high=10, steps=200)
    assert again == sweep
    with pytest.raises(ValueError, match="high expects a rate above low, "):
        find_lr(LeNet(), mnist, recipe, low=1.0, high=0.1)


def test_find_lr_without_a_loss(mnist: Dataset) -> None:
    """Weights so large that the first loss already is not finite: said, where there is no rate to suggest."""
    model = LeNet()
    model.parameter_buffer[...] = 1e30
    with pytest.raises(DivergedError, match="the loss is not finite before the first step"):
        find_lr(model, mnist, Recipe(), steps=3)


def test_find_lr_command(train_here: Train, small_mnist: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--batch-size", 16, "--find-lr")
    assert result.code == 0 and re.search(r"suggested --lr 0\.\d+\n$", result.out)
    rates = [float(rate) for rate in re.findall(r"^ +(\d\.\d+e[-+]\d+) +\d+\.\d+$", result.out, re.MULTILINE)]
    assert rates == sorted(rates) and len(rates) > 5


def test_an_infinite_loss_is_null_in_the_log(mnist: Dataset, tmp_path: Path) -> None:
    log, run = JsonLog(tmp_path / "log", resumed=False), Trainer(LeNet(), mnist, Recipe(seed=5))
    log.epoch(run, Epoch(1, 0.5, 0.75, math.inf, 0.875, 2.0, 100.0))
    log.close()
    found = json.loads((tmp_path / "log").read_text(), parse_constant=pytest.fail)
    assert (found["seed"], found["val_loss"], found["loss"], found["val_accuracy"]) == (5, None, 0.5, 0.875)


@pytest.mark.slow
def test_plot(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """A picture after each epoch, and one of the sweep."""
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed; pip install 'fastlenet[test]' brings it")
    epochs = ["--data-dir", small_mnist, "--epochs", 2, "--dry-run"]
    train_here(*epochs, "--plot", "curves.png"), train_here(*epochs, "--find-lr", "--plot", "sweep.svg")
    for name, start in (("curves.png", b"\x89PNG"), ("sweep.svg", b"<?xml")):
        picture = (tmp_path / name).read_bytes()
        assert picture.startswith(start) and len(picture) > 5000
    wrong = train_here(*epochs, "--plot", "curves.txt")
    assert wrong.code == 2 and "curves.txt: the name of a plot expects one of the endings" in wrong.err


@pytest.mark.slow
@pytest.mark.parametrize("networks", [1, 2])
def test_what_the_plot_of_a_run_shows(networks: int, mnist: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every curve has its name beside it, once for all networks of an ensemble, and the note of its recipe is below."""
    drawn: list[Any] = []
    monkeypatch.setattr("fastlenet.training.callbacks.plot.save_figure", lambda figure, path: drawn.append(figure))
    few = Dataset("few", mnist.train_images[:300], mnist.train_labels[:300], *mnist.part("test"), 10, mnist.mean, mnist.std)
    plot = Plot(tmp_path / "curves.png")
    for seed in range(networks):
        fit(LeNet(), few.hold_out(100), "fast", epochs=2, seed=seed, callbacks=[plot], verbose=0)
    losses, accuracies = drawn[-1].axes
    named = [line.get_label() for axes in (losses, accuracies) for line in axes.lines if not line.get_label().startswith("_")]
    assert named == ["loss", "val_loss", "accuracy", "val_accuracy"] and len(losses.lines) == 3 * networks
    assert sorted(text.get_text() for axes in (losses, accuracies) for text in axes.texts) == sorted(named)
    assert drawn[-1].get_supxlabel() == RUN_NOTE and bool(losses.get_title(loc="left")) == (networks > 1)
    assert overlaps(drawn[-1]) == []


def test_the_suggestion_stands_above_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("fastlenet.training.lr_finder.save_figure", lambda figure, path: drawn.append(figure))
    Sweep([10.0**n for n in range(-4, 1)], [2.3, 2.2, 1.0, 0.5, 3.0]).plot("sweep.png")
    (axes,) = drawn[0].axes
    assert axes.texts[0].get_text() == "suggested: 0.05" and axes.get_legend() is None
    assert axes.texts[0].get_window_extent().y0 >= axes.get_window_extent().y1


@pytest.mark.parametrize(
    ("raises", "says"),
    [
        ("ImportError('no such module')", "a plot needs matplotlib (no such module); pip install 'fastlenet[plot]'"),
        (
            "ValueError('backend: no such thing\\nsecond line')",
            "a plot needs matplotlib, which cannot be imported (backend: no such thing)",
        ),
    ],
    ids=["absent", "misconfigured"],
)
def test_a_matplotlib_that_cannot_be_used(
    raises: str, says: str, train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, before anything is trained."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text(f"raise {raises}")
    monkeypatch.syspath_prepend(tmp_path)
    result = train_here("--data-dir", small_mnist, "--plot", "curves.png")
    assert one_line(result).endswith(says) and "epoch" not in result.out


def test_a_suggestion_outlives_its_picture(train_here: Train, small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise PlotError("curves.png: cannot be drawn (no fonts)")

    monkeypatch.setattr("fastlenet.cli.checks.expect_plottable", lambda path: None)
    monkeypatch.setattr("fastlenet.training.lr_finder.Sweep.plot", fail)
    monkeypatch.setattr("fastlenet.cli.train.find_lr", lambda *arguments, **options: Sweep([0.1], [2.3]))
    result = train_here("--data-dir", small_mnist, "--find-lr", "--plot", "curves.png")
    assert one_line(result).endswith("cannot be drawn (no fonts)") and result.out.endswith("suggested --lr 0.05\n")


def test_times(train_here: Train, small_mnist: Path) -> None:
    result = train_here("--data-dir", small_mnist, "--epochs", 1, "--quiet", "--times")
    times = "   ".join(rf"{part} \d+\.\d{{3}} s" for part in ("data", "training", "evaluation"))
    assert re.fullmatch(rf"{times}\nfinal accuracy \d+\.\d\d%\n", result.out)


def speedrun(*arguments: Any) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "fastlenet.speedrun", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_speedrun(train: Train, small_mnist: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    flags = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 50, "--shift", 0]
    result = speedrun(*flags, "--seed", 5, "--seeds", 2, "--target", 99.9, "--json", path)
    assert result.code == 1, result  # the target is out of reach
    facts = json.loads(path.read_text())
    assert facts["recipe"]["name"] == "default" and facts["recipe"]["batch_size"] == 50
    (ours,) = facts["results"].values()
    assert [run["seed"] for run in ours["runs"]] == [5, 6] and ours["share_at_target"] == 0
    for run in ours["runs"]:
        parts = [run[part] for part in ("start_up", "data", "training", "evaluation")]
        assert min(parts) > 0 and sum(parts) == pytest.approx(run["seconds"])
    alone = train(*flags, "--seed", 6, "--quiet")
    assert alone.out == f"final accuracy {ours['runs'][1]['accuracy']:.2%}\n"
    assert "--seeds" in one_line(speedrun("--seeds", 0))
    failed = speedrun("--data-dir", tmp_path)
    assert failed.code == 2 and failed.err.count("\n") == 1


@pytest.mark.oracle
@pytest.mark.slow
def test_speedrun_beside_pytorch(torch: Any, small_mnist: Path, tmp_path: Path) -> None:
    """The same recipe, every feature on, learns as much there."""
    path = tmp_path / "runs.json"
    flags = ["--recipe", "best", "--epochs", 8, "--batch-size", 20, "--lr", 0.03, "--dropout", 0.2, "--ema", 0.9, "--tta"]
    result = speedrun("--data-dir", small_mnist, *flags, "--seeds", 1, "--target", 90, "--pytorch", "--json", path)
    assert result.code == 0, result
    results = json.loads(path.read_text())["results"]
    assert [entry["accuracy_mean"] > 0.9 for entry in results.values()] == [True, True]
    assert "over fastlenet" in result.out
