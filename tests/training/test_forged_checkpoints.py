"""A checkpoint with a right checksum and contents that make no sense is refused, before anything in the run changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.data import load_idx_directory
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.runs import StopAt, network

Train = Callable[..., Result]
Change = Callable[[dict[str, Any], dict[str, Any]], Any]  # of the tensors and the facts
FORGERIES: dict[str, tuple[Change, str]] = {
    "no facts": (lambda tensors, facts: facts.clear(), "the facts lacks version"),
    "counter": (lambda tensors, facts: facts.update(dropout_counter=2**64), "dropout_counter in the facts expects a count"),
    "infinite": (lambda tensors, facts: facts.update(position=float("inf")), "position in the facts expects a count, got inf"),
    "NaN": (lambda tensors, facts: facts.update(epoch=float("nan")), "epoch in the facts expects a count, got nan"),
    "negative": (lambda tensors, facts: facts.update(steps=-1), "steps in the facts expects a count, got -1"),
    "true": (lambda tensors, facts: facts.update(epoch=True), "epoch in the facts expects a count, got True"),
    "sums": (
        lambda tensors, facts: facts.update(sums=[0.0, 0, 0]),
        "sums expects a number, the images that",
    ),
    "recipe": (lambda tensors, facts: facts.update(recipe=[]), "recipe in the facts expects an object"),
    "recipe's field": (lambda tensors, facts: facts["recipe"].pop("lr"), "its recipe is another version's; it differs in 'lr'"),
    "recipe's value": (lambda tensors, facts: facts["recipe"].update(lr="high"), "lr in its recipe expects float, got 'high'"),
    "network": (lambda tensors, facts: facts.update(network=[3]), r"network expects words, got \[3\]"),
    "steps": (lambda tensors, facts: facts.update(steps=15), "made for 15 steps"),
    "far": (lambda tensors, facts: facts.update(position=10**9, sums=[0.0, 0, 10**12, 0.0]), "where no batch is left"),
    "place": (lambda tensors, facts: facts.update(position=0), "there is no such place"),
    "history": (lambda tensors, facts: facts["history"].clear(), "0 epochs in its history, of 1"),
    "epoch": (lambda tensors, facts: facts["history"][0].update(loss=None), "loss in its history expects a finite number"),
    "no weight": (lambda tensors, facts: tensors.pop("model.1.bias"), "model: 1.bias is missing"),
    "stranger": (lambda tensors, facts: tensors.update(a=np.zeros(1)), "'a' is not of a run"),
    "weight's type": (lambda tensors, facts: halve(tensors, "model.1.bias"), "model: 1.bias expects float32, got float16"),
    "weight": (lambda tensors, facts: tensors["model.1.bias"].fill(np.nan), "model: 1.bias holds a number that is not finite"),
    "average": (
        lambda tensors, facts: tensors["average.parameters"].fill(np.inf),
        "average: parameters holds a number that is not finite",
    ),
    "moment": (
        lambda tensors, facts: tensors["optimizer.first_moment"].fill(np.nan),
        "AdamW: state: first_moment holds a number that is not finite",
    ),
    "square": (lambda tensors, facts: tensors["optimizer.second_moment"].fill(-1), "second_moment expects a mean of squares"),
    "steps' type": (lambda tensors, facts: halve(tensors, "optimizer.steps"), "steps expects int64, got float16"),
    "steps' shape": (
        lambda tensors, facts: tensors.update({"optimizer.steps": np.array(10)}),
        r"steps expects shape \(1,\), got \(\)",
    ),
    "steps' value": (lambda tensors, facts: tensors["optimizer.steps"].fill(-3), "steps expects a count, got -3"),
}


def halve(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = tensors[name].astype(np.float16)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_right_checksum_is_not_enough(name: str, tiny_mnist: Path, tmp_path: Path) -> None:
    """A checkpoint of which something makes no sense is refused in one line, before anything in the run changes."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=2, batch_size=64, optimizer="adamw", lr=1e-3, ema=0.9, ema_start=0.1)
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(1, 3))
    run.save(path)
    tensors, facts = load_checkpoint(path)
    forge, message = FORGERIES[name]
    forge(tensors, facts)
    save_checkpoint(path, tensors, facts)
    fresh = Trainer(network(), data, recipe)
    before = {name: array.tobytes() for part in fresh.state.tensors().values() for name, array in part.items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        fresh.restore(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "--" not in str(caught.value)
    assert {name: array.tobytes() for part in fresh.state.tensors().values() for name, array in part.items()} == before
    state = fresh.state
    assert (state.epoch, state.position, state.images, state.model.dropout_counter, state.history.epochs) == (0, 0, 0, 0, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "x"),
        ("ensemble", 0),
        ("data_dir", 7),
        ("device", "tpu"),
        ("recipe", "mine"),
        ("data", 7),
        ("network", "x"),
        ("dry_run", 1),
    ],
)
def test_forged_settings(name: str, value: Any, run_of_one_epoch: Path, train_here: Train) -> None:
    tensors, facts = load_checkpoint("state")
    facts["settings"][name] = value
    save_checkpoint("state", tensors, facts)
    assert f"{name} in its settings expects" in one_line(train_here("--resume", "state"))


def test_forged_members(run_of_one_epoch: Path, train_here: Train) -> None:
    """Networks in a plain run's checkpoint, and a seed that is none of the run's."""
    tensors, facts = load_checkpoint("state")
    save_checkpoint("state", tensors | {"passenger.member0.a": np.ones(1, np.float32)}, facts)
    assert "holds 1 finished networks, not 0" in one_line(train_here("--resume", "state"))
    facts["recipe"]["seed"] = 2**64 - 1
    save_checkpoint("state", tensors, facts)
    assert "of seed 18446744073709551615, this run has 0 to 0" in one_line(train_here("--resume", "state"))
