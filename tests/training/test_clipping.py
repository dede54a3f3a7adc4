"""Gradient clipping: the norm of all parameters' gradient together, beside float64, off, on a GPU, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import Callback, LeNet, cuda, fit, nn, ops, reference
from fastlenet.data import Dataset
from fastlenet.training.callbacks.base import Run
from fastlenet.training.clipping import GradientClip
from helpers.expect import expect_same_bits

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 20, "shift": 0, "lr": 0.2, "optimizer": "sgd", "verbose": 0}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:100], mnist.train_labels[:100], mnist.test_images[:20], mnist.test_labels[:20]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


@pytest.mark.parametrize(
    "backend", [ops, reference, pytest.param(cuda, marks=pytest.mark.cuda)], ids=lambda module: module.name
)
@pytest.mark.parametrize("most", [1e-3, 0.5, 7.0, 49.0, 1e100])
def test_the_norm(backend: Any, most: float, rng: np.random.Generator) -> None:
    """Scaled to the largest norm where it is larger, and left to the bit where it is not."""
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 7), ops=backend)
    gradient = rng.standard_normal(model.gradient_buffer.shape).astype(np.float32)  # of a norm of 38
    norm = float(np.linalg.norm(gradient.astype(np.float64)))
    model.gradient_buffer[...] = gradient
    clip = GradientClip(model, most)
    clip.apply()
    clipped = np.array(model.gradient_buffer)
    if most > norm:
        expect_same_bits(clipped, gradient)
    else:
        np.testing.assert_allclose(clipped, gradient.astype(np.float64) * (most / norm), rtol=2e-7)
        assert np.linalg.norm(clipped.astype(np.float64)) == pytest.approx(most, rel=1e-6)
    model.gradient_buffer.fill(0)
    clip.apply()
    assert not np.array(model.gradient_buffer).any()


def test_a_step(few: Dataset) -> None:
    """Plain SGD moves by the rate times a gradient of the largest norm; the norm is over all parameters together."""

    class Moves(Callback):
        def __init__(self) -> None:
            self.before: Any = None
            self.norms: list[float] = []

        def batch(self, run: Run, loss: Any, images: int) -> None:
            now = run.state.model.parameter_buffer.astype(np.float64)
            if self.before is not None:
                self.norms.append(float(np.linalg.norm(now - self.before)) / run.state.optimizer.lr)
            self.before = now

    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    free, clipped = Moves(), Moves()
    fit(LeNet(), few, callbacks=[free], **SETTINGS | plain)
    most = sorted(free.norms)[3]
    fit(LeNet(), few, callbacks=[clipped], clip_norm=most, **SETTINGS | plain)
    assert max(free.norms) > 1.05 * most and max(clipped.norms) == pytest.approx(most, rel=1e-4)
    assert min(clipped.norms) < 0.95 * most


def test_a_limit_that_is_never_reached(few: Dataset) -> None:
    limited, free = LeNet(), LeNet()
    fit(limited, few, clip_norm=1e6, **SETTINGS)
    fit(free, few, **SETTINGS)
    expect_same_bits(limited.parameter_buffer, free.parameter_buffer)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_resumed(optimizer: str, few: Dataset, tmp_path: Path) -> None:
    class Stop(Callback):
        def batch(self, run: Run, loss: Any, images: int) -> None:
            if run.state.optimizer.steps == 7:
                run.stop()

    settings = SETTINGS | {"optimizer": optimizer, "clip_norm": 0.3, "lr": 0.01}
    straight, resumed = LeNet(), LeNet()
    fit(straight, few, **settings)
    fit(LeNet(), few, callbacks=[Stop()], checkpoint=tmp_path / "state", **settings)
    fit(resumed, few, resume=tmp_path / "state", **settings)
    expect_same_bits(resumed.parameter_buffer, straight.parameter_buffer)
    with pytest.raises(ValueError, match=r"made with clip_norm 0\.3, this run has 0\.5"):
        fit(LeNet(), few, resume=tmp_path / "state", **settings | {"clip_norm": 0.5})


@pytest.mark.cuda
def test_a_captured_step(few: Dataset) -> None:
    """The factor is found on the device at every launch."""
    models = [LeNet(ops=backend) for backend in (cuda, ops)]
    histories = [fit(model, few, clip_norm=0.5, **SETTINGS) for model in models]
    np.testing.assert_allclose(np.array(models[0].parameter_buffer), models[1].parameter_buffer, atol=2e-4)
    np.testing.assert_allclose(histories[0].history["loss"], histories[1].history["loss"], rtol=1e-3)
    free = LeNet()
    fit(free, few, **SETTINGS)
    assert np.abs(models[1].parameter_buffer - free.parameter_buffer).max() > 2e-3
