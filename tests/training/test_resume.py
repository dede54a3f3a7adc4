"""Stopped and resumed, a run goes on as if nothing had happened; files that do not fit are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, _core, nn
from fastlenet.data import load_idx_directory
from fastlenet.nn import Conv2d, Dropout, Flatten, Linear, Sequential
from fastlenet.training.checkpoint import CheckpointError, OtherLevelError, load_checkpoint
from fastlenet.training.fit import fit
from fastlenet.training.recipe import named_recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.runs import StopAt, network

Train = Callable[..., Result]


def interrupted(data: Any, path: Path, make: Callable[[], Sequential] = LeNet, **recipe: Any) -> Trainer:
    """A run that stopped in its second epoch and saved."""
    trainer = Trainer(make(), data, named_recipe("default", epochs=3, batch_size=100, **recipe))
    with pytest.raises(InterruptedRunError):
        trainer.run(StopAt(1, 7))
    trainer.save(path)
    return trainer


def test_dropout_goes_on(small_mnist: Path, tmp_path: Path) -> None:
    """Its masks are part of the stream that a checkpoint continues."""

    def make() -> Sequential:
        return Sequential(Conv2d(1, 2, 5, stride=3), Flatten(), Dropout(0.5), Linear(128, 10))

    data = load_idx_directory(small_mnist)
    interrupted(data, tmp_path / "state", make)
    resumed, straight = make(), make()
    history = fit(resumed, data, epochs=3, batch_size=100, resume=tmp_path / "state")
    expected = fit(straight, data, epochs=3, batch_size=100)
    assert resumed.parameter_buffer.tobytes() == straight.parameter_buffer.tobytes()
    assert history.history == expected.history


def test_a_checkpoint_holds_every_setting(small_mnist: Path, tmp_path: Path) -> None:
    interrupted(load_idx_directory(small_mnist), tmp_path / "state", seed=5, lr=0.02)
    tensors, facts = load_checkpoint(tmp_path / "state")
    assert facts["recipe"]["seed"] == 5 and facts["recipe"]["lr"] == 0.02
    assert (facts["epoch"], facts["position"], facts["steps"]) == (1, 7, 60)
    assert facts["level"] == _core.level()
    assert tensors["optimizer.velocity"].any() and tensors["optimizer.steps"].tolist() == [27]


def test_what_does_not_fit_is_refused(small_mnist: Path, tmp_path: Path) -> None:
    """Another recipe, other data, another network: one line, and nothing is changed."""
    data, path = load_idx_directory(small_mnist), tmp_path / "state"
    interrupted(data, path)

    def refused(message: str, model: Sequential, data: Any = data, **recipe: Any) -> None:
        before = model.parameter_buffer.copy()
        with pytest.raises(CheckpointError, match=message) as caught:
            fit(model, data, resume=path, **({"epochs": 3, "batch_size": 100} | recipe))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        assert model.parameter_buffer.tobytes() == before.tobytes()

    refused("made with batch_size 100, this run has 50", LeNet(), batch_size=50)
    refused("made with lr 0.05, this run has 0.2", LeNet(), lr=0.2)
    refused("made on other training data", LeNet(), data.hold_out(100))
    refused("does not fit this run", Sequential(Flatten(), Linear(784, 10)))


@pytest.mark.slow
def test_another_level_is_refused(train: Train, small_mnist: Path, tmp_path: Path) -> None:
    levels = _core.levels_available()
    if len(levels) == 1:
        assert levels == _core.levels_built(), "a CPU without a second level to test"
        return
    arguments = ["--data-dir", small_mnist, "--epochs", 1, "--checkpoint", "state"]
    assert train(*arguments, FASTLENET_ISA=levels[0]).code == 0
    refused = train("--resume", "state", FASTLENET_ISA=levels[1])
    assert refused.code == 2 and f"made at level {levels[0]}, this is {levels[1]}" in refused.err
    assert refused.err.count("\n") == 1
    allowed = train("--resume", "state", "--allow-level-change", FASTLENET_ISA=levels[1])
    assert allowed.code == 0


def test_another_level_in_words_of_python(tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(network(), data, epochs=1, checkpoint=path)
    monkeypatch.setattr("fastlenet.training.checkpoint._level", lambda model: "another")
    with pytest.raises(
        OtherLevelError, match=r"another, whose last bits differ; .*or allow it with allow_level_change=True$"
    ) as caught:
        fit(network(), data, epochs=1, resume=path)
    assert "--" not in str(caught.value) and f"level {_core.level()}" in str(caught.value) and caught.value.field == "level"
    assert len(fit(network(), data, epochs=1, resume=path, allow_level_change=True).epochs) == 1


def test_another_network_of_the_same_shapes(tiny_mnist: Path, tmp_path: Path) -> None:
    """Layers without parameters would not be missed by their shapes."""

    def made(activation: nn.Layer, *others: nn.Layer) -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), activation, *others, names=["a\n", *"bcde"[: 2 + len(others)]])

    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(made(nn.ReLU()), data, epochs=1, checkpoint=path)
    for model, message in (
        (made(nn.Tanh()), r"made with another network; c ReLU there, c Tanh here$"),
        (made(nn.ReLU(), nn.ReLU()), r"made with another network; no more layer there, d ReLU here$"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fit(model, data, epochs=2, resume=path)
    assert len(fit(made(nn.ReLU()), data, epochs=2, resume=path).epochs) == 2


def test_flags_that_contradict(train_here: Train, small_mnist: Path) -> None:
    assert train_here("--data-dir", small_mnist, "--epochs", 1, "--checkpoint", "state").code == 0
    for flags in [
        ["--lr", 0.2],
        ["--batch-size", 32],
        ["--recipe", "best"],
        ["--tta"],
        ["--seed", 1],
        ["--momentum", 0.5],
        ["--validation", 10],
        ["--algorithm", "direct"],
        ["--dry-run"],
    ]:
        message = one_line(train_here("--resume", "state", *flags))
        assert f"{flags[0]} " in message and "contradicts state, which was made with" in message


def test_flags_that_agree(train_here: Train, small_mnist: Path) -> None:
    first = train_here("--data-dir", small_mnist, "--epochs", 1, "--checkpoint", "state")
    result = train_here("--resume", "state", "--epochs", 1, "--threads", 3, "--data-dir", small_mnist)
    assert result.code == 0 and result.out.splitlines()[-1] == first.out.splitlines()[-1]


def test_the_log_goes_on(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """A log that is given to a resumed run keeps the lines it has."""
    process = [*map(str, ("--data-dir", small_mnist, "--epochs", 2, "--checkpoint", "state", "--log-json", "log"))]
    assert train_here(*process).code == 0
    assert train_here("--resume", "state", "--log-json", "log").code == 0
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log").read_text().splitlines()] == [1, 2]


def test_damaged_and_foreign_files(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    train_here("--data-dir", small_mnist, "--epochs", 1, "--checkpoint", "state", "--save-model", "model")
    good = (tmp_path / "state").read_bytes()
    draw = np.random.default_rng(0)
    for content in (good[: len(good) // 2], good[:-1], bytes(draw.integers(0, 256, 1000, np.uint8)), b""):
        (tmp_path / "damaged").write_bytes(content)
        result = train_here("--resume", "damaged")
        assert result.code == 2 and "damaged" in result.err and result.err.count("\n") == 1
    result = train_here("--resume", "model")
    assert result.code == 2 and "model: not a checkpoint of fastlenet" in result.err
    assert os.path.getsize(tmp_path / "state") == len(good)
