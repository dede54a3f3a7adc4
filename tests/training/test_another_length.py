"""A run goes on longer or shorter: the rate, the batches and the average are those of the new length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import load_idx_directory
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.fit import fit
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits
from helpers.runs import StopAt, network

Train = Callable[..., Result]


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
        self.rates.append(trainer.state.optimizer.lr)


@pytest.mark.parametrize("place", [(1, 3), (2, 0)], ids=["in an epoch", "finished"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_longer(place: tuple[int, int], schedule: str, tiny_mnist: Path, tmp_path: Path) -> None:
    """From the step at hand on the rate is that of the new length; nothing else is other than in a run without a break."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    old = Recipe(epochs=2, batch_size=64, schedule=schedule, warm_up=0.3)
    new = replace(old, epochs=5)
    run, steps = Trainer(network(), data, old), place[0] * 7 + place[1]
    if place[1]:
        with pytest.raises(InterruptedRunError):
            run.run(StopAt(*place))
    else:
        run.run()
    run.save(path)
    longer, rates = network(), Rates()
    history = fit(longer, data, new, resume=path, checkpoint=path, callbacks=(rates,))
    assert rates.rates == [new.rate(step, 35) for step in range(steps, 35)]
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4, 5]
    straight = Trainer(network(), data, new, rate=lambda step: old.rate(step, 14) if step < steps else new.rate(step, 35))
    expected = straight.run()
    expect_same_bits(longer.parameter_buffer, straight.state.model.parameter_buffer)
    assert [epoch.loss for epoch in history.epochs] == [epoch.loss for epoch in expected.epochs]
    assert load_checkpoint(path)[1]["recipe"]["epochs"] == 5
    fit(network(), data, new, resume=path)  # finished, of the new length


def test_in_python_by_epochs_alone(tiny_mnist: Path, tmp_path: Path) -> None:
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    fit(network(), data, epochs=1, checkpoint=path)
    assert len(fit(network(), data, epochs=2, resume=path).epochs) == 2


@pytest.mark.parametrize("epochs", [2, 6])
def test_growing_batches(epochs: int, tiny_mnist: Path, tmp_path: Path) -> None:
    """The schedule of another length ends where the run does; a run that is interrupted once more comes to the same bits."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    old = Recipe(epochs=4, batch_size=16, batch_size_end=96)
    new = replace(old, epochs=epochs)
    run = Trainer(network(), data, old)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(1, 4))
    run.save(path)
    straight, rates = Trainer(network(), data, new), Rates()
    straight.restore(path)
    straight.run(rates)
    assert straight.state.optimizer.steps == straight.state.steps
    assert rates.rates[-1] == new.rate(straight.state.steps - 1, straight.state.steps)
    again = Trainer(network(), data, new)
    again.restore(path)
    with pytest.raises(InterruptedRunError):
        again.run(StopAt(1, again.state.position + 3))
    again.save(path)
    resumed = Trainer(network(), data, new)
    resumed.restore(path)
    assert resumed.state.schedule_note == ""
    resumed.run()
    expect_same_bits(resumed.state.model.parameter_buffer, straight.state.model.parameter_buffer)
    losses = [[epoch.loss for epoch in trainer.state.history.epochs] for trainer in (straight, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == epochs


def test_shorter(tiny_mnist: Path, tmp_path: Path) -> None:
    """No fewer epochs than are done, or begun."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=9, batch_size=64)
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(2, 3))
    run.save(path)
    with pytest.raises(CheckpointError, match="does not fit this run; epochs expects at least 3, where it stands, got 2"):
        fit(network(), data, recipe, epochs=2, resume=path)
    rates = Rates()
    history = fit(network(), data, recipe, epochs=3, resume=path, callbacks=(rates,))
    assert len(history.epochs) == 3 and rates.rates == [replace(recipe, epochs=3).rate(step, 21) for step in range(17, 21)]


def test_the_average_of_another_length(tiny_mnist: Path, tmp_path: Path) -> None:
    """Begins at its share of the new length; where that is past, at once; where it is still to come, anew."""
    data, path = load_idx_directory(tiny_mnist), tmp_path / "state"
    recipe = Recipe(epochs=8, batch_size=64, ema=0.9, ema_start=0.5)  # 7 steps an epoch: begins with step 28
    run = Trainer(network(), data, recipe)
    with pytest.raises(InterruptedRunError):
        run.run(StopAt(2, 1))
    run.save(path)
    shorter = Trainer(network(), data, replace(recipe, epochs=4))  # would have begun with step 14, of 15 that are done
    shorter.restore(path)
    expect_same_bits(shorter.state.average["parameters"], run.state.model.parameter_buffer)
    expected = run.state.model.parameter_buffer.astype(np.float64)
    with pytest.raises(InterruptedRunError):
        shorter.run(StopAt(2, 2))
    expected = 0.9 * expected + 0.1 * shorter.state.model.parameter_buffer
    np.testing.assert_allclose(shorter.state.average["parameters"], expected, rtol=1e-5, atol=1e-7)
    shorter.stop_requested = False
    shorter.run()
    shorter.save(path)
    longer = Trainer(network(), data, replace(recipe, epochs=10))  # begins with step 35, of 28 that are done
    longer.restore(path)
    seen = {}

    class Look(Callback):
        def batch(self, trainer: Trainer, loss: Any, images: int) -> None:
            state = trainer.state
            seen[state.optimizer.steps] = state.average["parameters"].tobytes() == state.model.parameter_buffer.tobytes()

    longer.run(Look())
    assert [step for step, same in seen.items() if same] == [35]


def test_the_command_says_what_the_rate_does(run_of_one_epoch: Path, train_here: Train) -> None:
    result = train_here("--resume", "state", "--epochs", 3)
    assert result.code == 0, result.err
    note = "3 epochs instead of 1: the learning rate goes on as in a run of 21 steps, from step 7 on"
    assert note in result.out.splitlines() and "epoch 3/3" in result.out
    again = train_here("--resume", "state")
    assert again.code == 0 and "instead of" not in again.out and again.out.splitlines()[-1] == result.out.splitlines()[-1]
    message = one_line(train_here("--resume", "state", "--epochs", 2))
    assert message.endswith("--epochs 2: state has reached epoch 3; give at least 3")


def test_ensembles(train_here: Train, tiny_mnist: Path, tmp_path: Path) -> None:
    """While the first network is trained the length may change for all; afterwards those that are finished cannot go on."""
    settings = ["--data-dir", tiny_mnist, "--epochs", 1, "--ensemble", 2]
    assert train_here(*settings, "--checkpoint", "state").code == 0
    message = one_line(train_here("--resume", "state", "--epochs", 2))
    assert message.endswith("--epochs 2: state holds a network finished after 1 epoch; leave --epochs out")
    assert train_here("--resume", "state", "--epochs", 1).code == 0
    first = Trainer(LeNet(), load_idx_directory(tiny_mnist), replace(recipe_in("state"), seed=0), settings=settings_in("state"))
    first.run()
    first.save("state")
    result = train_here("--resume", "state", "--epochs", 2, "--save-model", "resumed")
    assert result.code == 0, result.err
    assert result.out.count("epoch 2/2") == 2 and "network 2 of 2" in result.out


def recipe_in(path: str) -> Recipe:
    return Recipe(**load_checkpoint(path)[1]["recipe"])


def settings_in(path: str) -> dict[str, Any]:
    settings: dict[str, Any] = load_checkpoint(path)[1]["settings"]
    return settings
