"""Ensembles: as good as the mean of their members' probabilities says, one file, and nothing lost when stopped."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fastlenet import LeNet, fit, load
from fastlenet.data import load_idx_directory
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError
from fastlenet.training.ensemble import join_members, split_members
from fastlenet.training.evaluation import predict, score
from fastlenet.training.history import History
from fastlenet.training.trainer import Trainer
from helpers.command import Result, one_line, train_command
from helpers.expect import expect_same_bits

Train = Callable[..., Result]


def test_members_of_one_file() -> None:
    states = [LeNet(seed).state_dict() for seed in range(12)]
    for count in (1, 2, 12):
        members = split_members(join_members(states[:count]), "file")
        assert len(members) == count
        for member, state in zip(members, states, strict=False):
            assert member.keys() == state.keys()
            for name, array in state.items():
                expect_same_bits(member[name], array)
    with pytest.raises(CheckpointError, match="file: an ensemble without member 0"):
        split_members({"member1.a": np.zeros(1)}, "file")


def test_an_ensemble(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """Its members are the single runs of their seeds; its accuracy is that of the mean of their probabilities."""
    settings = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 64, "--dropout", 0.2, "--ema", 0.9]
    result = train_here(*settings, "--seed", 3, "--ensemble", 3, "--save-model", "three")
    assert result.code == 0
    assert re.findall(r"network (\d) of 3, seed (\d)", result.out) == [("1", "3"), ("2", "4"), ("3", "5")]
    recipe = load(tmp_path / "three").facts.recipe
    assert recipe is not None and (recipe["seed"], recipe["dropout"]) == (3, 0.2)  # the first one's
    data, models = load_idx_directory(small_mnist), []
    for number, state in enumerate(split_members(load_file(tmp_path / "three"), "three")):
        models.append(LeNet(3 + number, dropout=0.2))
        fit(models[-1], data, epochs=1, batch_size=64, dropout=0.2, ema=0.9, seed=3 + number, verbose=0)
        for name, array in models[-1].state_dict().items():
            expect_same_bits(array, state[name])
    accuracy, _ = score(predict(models, data), data.test_labels)
    assert result.out.endswith(f"final accuracy {accuracy:.2%}\n")
    again = train_here("--data-dir", small_mnist, "--load-model", "three", "--quiet")
    assert (again.code, again.out) == (0, f"final accuracy {accuracy:.2%}\n")
    refused = train_here("--data-dir", small_mnist, "--load-model", "three", "--epochs", 1)
    assert refused.code == 2 and "three is an ensemble, which can be evaluated, not trained on" in refused.err
    save_file({name: array for name, array in load_file(tmp_path / "three").items() if "member1" not in name}, tmp_path / "two")
    assert "two: an ensemble without member 1" in train_here("--load-model", "two").err


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_networks(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    settings = ["--data-dir", small_mnist, "--epochs", 2, "--batch-size", 40, "--ensemble", 2, "--shift", 0]
    process = subprocess.Popen(
        train_command(*map(str, settings)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("network 2"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130 and err.endswith("--resume fastlenet-interrupted.safetensors\n"), err
    resumed = train_here("--resume", "fastlenet-interrupted.safetensors", "--save-model", "resumed")
    assert resumed.code == 0 and "network 2 of 2" in resumed.out and "network 1 of 2" not in resumed.out
    train_here(*settings, "--save-model", "undisturbed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "undisturbed").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--save-model", "mine.safetensors"]], ids=["default", "save-model"])
def test_a_network_that_diverges_loses_no_other(
    flags: list[str], train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finished ones are saved, the one line says where, and they can be evaluated."""
    run = Trainer.run

    def diverge(trainer: Trainer, *callbacks: Callback) -> History:
        if trainer.state.recipe.seed == 7:  # the third network
            trainer.state.model.parameter_buffer[:] = np.nan
        return run(trainer, *callbacks)

    monkeypatch.setattr(Trainer, "run", diverge)
    settings = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 100, "--seed", 5]
    message = one_line(train_here(*settings, "--ensemble", 4, *flags))
    path = "mine.safetensors" if flags else "fastlenet-finished.safetensors"
    assert "the loss is nan in epoch 1 at step 1" in message
    assert message.endswith(f"; {path} holds the 2 networks finished before, for --load-model")
    for number, state in enumerate(split_members(load_file(tmp_path / path), path)):
        train_here(*settings[:-1], 5 + number, "--save-model", f"{number}")
        alone = load_file(tmp_path / f"{number}")
        for name, array in alone.items():
            expect_same_bits(state[name], array)
    assert number == 1
    assert re.fullmatch(
        r"final accuracy \d+\.\d\d%\n", train_here("--data-dir", small_mnist, "--load-model", path, "--quiet").out
    )
