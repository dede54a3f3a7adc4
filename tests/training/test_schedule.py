"""A schedule that is a function: what rates it comes to, what is refused, and a run that is resumed with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import RECIPES, Callback, fit, nn
from fastlenet.data import Dataset
from fastlenet.optim import schedules
from fastlenet.training.callbacks.base import Run
from fastlenet.training.checkpoint import CheckpointError
from helpers.expect import expect_same_bits

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 20, "shift": 0, "lr": 0.5, "optimizer": "sgd", "verbose": 0}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:100], mnist.train_labels[:100], mnist.test_images[:20], mnist.test_labels[:20]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


def small() -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(49, 10), seed=1)


class Rates(Callback):
    def __init__(self, stop_at: int = 0) -> None:
        self.rates: list[float] = []
        self.stop_at = stop_at

    def batch(self, run: Run, loss: Any, images: int) -> None:
        self.rates.append(run.state.optimizer.lr)
        if len(self.rates) == self.stop_at:
            run.stop("for a test")


def falling(step: int, steps: int) -> float:
    return 1 - step / steps


def test_the_rates(few: Dataset) -> None:
    """The function's share of the recipe's rate, at every step of the run."""
    rates = Rates()
    fit(small(), few, callbacks=[rates], schedule=falling, **SETTINGS)
    assert rates.rates == [0.5 * (1 - step / 10) for step in range(10)]


@pytest.mark.parametrize("name", schedules.__all__)
def test_the_schedules_of_the_package(name: str, few: Dataset) -> None:
    rates, schedule = Rates(), partial(getattr(schedules, name), warm_up=0.3)
    fit(small(), few, callbacks=[rates], schedule=schedule, **SETTINGS)
    np.testing.assert_allclose(rates.rates, [schedule(step, 10, peak=0.5) for step in range(10)], rtol=1e-15)


def test_a_word_is_the_recipes_field(few: Dataset) -> None:
    word, recipe = Rates(), Rates()
    fit(small(), few, "fast", callbacks=[word], schedule="cosine", verbose=0)
    fit(small(), few, "fast", callbacks=[recipe], verbose=0)
    assert word.rates == [RECIPES["fast"].lr * schedules.cosine(step, 4) for step in range(4)] != recipe.rates
    with pytest.raises(ValueError, match=r"^schedule expects one of one-cycle, cosine, got 'linear'$"):
        fit(small(), few, schedule="linear", verbose=0)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (3, TypeError, r"schedule expects one of one-cycle, cosine, got 3"),
        (lambda step: 1.0, TypeError, r"schedule expects a function of two numbers, the step and the number of steps, got <"),
        (lambda step, steps: None, TypeError, r"schedule: step 0 of 10 expects a number, got None"),
        (
            lambda step, steps: -float(step > 7),
            ValueError,
            r"step 8 of 10 expects to return a non-negative number, got",
        ),
        (lambda step, steps: float("nan"), ValueError, r"step 0 of 10 expects to return a non-negative number, got nan"),
    ],
)
def test_what_is_no_schedule(schedule: Any, error: type[Exception], message: str, few: Dataset) -> None:
    """Refused before the first step."""
    model = small()
    before = model.parameter_buffer.copy()
    with pytest.raises(error, match=message):
        fit(model, few, schedule=schedule, **SETTINGS)
    expect_same_bits(model.parameter_buffer, before)


def test_resumed(few: Dataset, tmp_path: Path) -> None:
    """To the bits of a run without interruption; another function, or none, is another run."""
    state, expected = tmp_path / "state", small()
    fit(expected, few, schedule=falling, **SETTINGS)
    fit(small(), few, schedule=falling, callbacks=[Rates(stop_at=7)], checkpoint=state, **SETTINGS)
    for other in (None, "one-cycle", lambda step, steps: falling(step, steps) + (step == 9)):
        with pytest.raises(CheckpointError, match="made with another schedule, which fit takes as a function"):
            fit(small(), few, schedule=other, resume=state, **SETTINGS)
    model = small()
    fit(model, few, schedule=lambda step, steps: falling(step, steps), resume=state, **SETTINGS)
    expect_same_bits(model.parameter_buffer, expected.parameter_buffer)
    longer = Rates()
    fit(small(), few, schedule=falling, callbacks=[longer], resume=state, **SETTINGS | {"epochs": 3})
    assert longer.rates == [0.5 * (1 - step / 15) for step in range(7, 15)]
    plain = tmp_path / "plain"
    fit(small(), few, checkpoint=plain, **SETTINGS)
    with pytest.raises(CheckpointError, match="made with another schedule"):
        fit(small(), few, schedule=falling, resume=plain, **SETTINGS)
