"""The captured step computes what the step op by op does, bit for bit, whatever changes between two steps."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn, ops
from fastlenet.backend import Count, Rate
from fastlenet.data import Dataset
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.host_step import HostStep
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.step import TrainingStep
from fastlenet.training.trainer import Trainer
from helpers.arrays import normals
from helpers.expect import expect_same_bits

Change = Callable[[Trainer, int], None]


class Between(Callback):
    """Calls a function after each step."""

    def __init__(self, change: Change) -> None:
        self._change, self._step = change, 0

    def batch(self, run: Any, loss: object, images: int) -> None:
        self._step += 1
        self._change(run, self._step)


def small(mnist: Dataset, images: int = 170) -> Dataset:
    arrays = mnist.train_images[:images], mnist.train_labels[:images], mnist.test_images[:3], mnist.test_labels[:3]
    return Dataset("MNIST", *arrays, 10, mean=mnist.mean, std=mnist.std)


def bits(trainer: Trainer) -> list[Any]:
    state = trainer.state
    arrays = state.model.parameter_buffer, *state.optimizer.state_dict().values(), *state.average.values()
    epochs = [(epoch.loss, epoch.accuracy) for epoch in state.history.epochs]
    return [*(zlib.crc32(np.ascontiguousarray(array)) for array in arrays), state.model.dropout_counter, epochs]


def both(
    monkeypatch: pytest.MonkeyPatch, data: Dataset, recipe: Recipe, change: Change = lambda run, step: None, **options: Any
) -> HostStep:
    """Train twice, and compare. Returns the step of the captured run."""
    captured = Trainer(LeNet.of(recipe), data, recipe, **options)
    captured.run(Between(change))
    with monkeypatch.context() as patch:
        patch.setattr("fastlenet.training.trainer.HostStep", TrainingStep)
        plain = Trainer(LeNet.of(recipe), data, recipe, **options)
        plain.run(Between(change))
    assert isinstance(captured._step, HostStep) and type(plain._step) is TrainingStep
    assert bits(captured) == bits(plain)
    return captured._step


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.02},
    "sgd, momentum 0, no shift": {"optimizer": "sgd", "lr": 0.02, "momentum": 0.0, "shift": 0},
    "muon": {"optimizer": "muon", "shift": 1, "label_smoothing": 0.1, "algorithm": "winograd"},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "loss": "mse"},
    "average": {"optimizer": "muon", "ema": 0.9, "ema_every": 2, "ema_start": 0.3},
    "growing batch": {"optimizer": "sgd", "lr": 0.02, "batch_size_end": 40, "plain_epochs": 1},
    "dropout": {"optimizer": "muon", "dropout": 0.3, "dropout_fc1": 0.2},
    "class weights": {"optimizer": "muon", "class_weight": "balanced", "rotation": 5.0},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_bits_of_a_run(name: str, mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """In epochs whose last batch is smaller."""
    recipe = Recipe(**{"epochs": 3, "batch_size": 20, **RECIPES[name]})
    graphs = both(monkeypatch, small(mnist), recipe)._graphs
    assert any(graph is not None for graph in graphs.values())


@pytest.mark.parametrize("changes", [{"clip_norm": 1.0}, {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.01}], ids=str)
def test_what_is_made_op_by_op(changes: dict[str, Any], mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not both(monkeypatch, small(mnist), Recipe(epochs=2, batch_size=20, **{"lr": 0.02, **changes}))._graphs


def test_changes_between_steps(mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the optimizer's settings, its buffers and the parameters, in place or replaced."""

    def change(run: Trainer, step: int) -> None:
        optimizer: Any = run.state.optimizer
        if step == 4:
            optimizer.momentum, optimizer.nesterov = 0.5, not optimizer.nesterov
        elif step == 7:
            optimizer.weight_decay = 0.05
        elif step == 10:
            run.state.model.parameter_buffer[:100] *= 0.5
        elif step == 12:
            optimizer.buffers["velocity"] = np.zeros_like(optimizer.buffers["velocity"])
        elif step == 14:
            run.state.model.algorithm = "winograd"
        elif step == 16:
            run.evaluate("test")
            run.state.model.load_state_dict({k: v * 0.9 for k, v in run.state.model.state_dict().items()})

    for optimizer in ("sgd", "muon"):
        recipe = Recipe(epochs=3, batch_size=20, optimizer=optimizer, lr=0.02)
        assert len(both(monkeypatch, small(mnist), recipe, change)._graphs) > 3


def test_a_loss_that_is_not_finite_stays_out_of_the_weights(mnist: Dataset) -> None:
    kept: list[Any] = []

    def change(run: Trainer, step: int) -> None:
        if step == 6:
            run.state.model.parameters()["fc2.bias"][3] = np.nan
            kept.extend((run.state.model.parameter_buffer.copy(), run.state.optimizer.buffers["velocity"].copy()))

    trainer = Trainer(LeNet(), small(mnist), Recipe(epochs=1, batch_size=20, lr=0.02))
    with pytest.raises(DivergedError, match=r"the loss is nan in epoch 1 at step 7$"):
        trainer.run(Between(change))
    step: Any = trainer._step
    assert any(step._graphs.values())
    for array, before in zip(
        (trainer.state.model.parameter_buffer, trainer.state.optimizer.buffers["velocity"]), kept, strict=True
    ):
        expect_same_bits(array, before)
    assert trainer.state.optimizer.steps == 6


class Doubled(nn.Layer):
    """Computes without ops, so that a graph would not repeat it."""

    def forward(self, x: Any, context: Any) -> Any:
        return x * np.float32(2)

    def backward(self, dy: Any, context: Any) -> Any:
        return dy * np.float32(2)


def test_a_layer_that_does_more_than_call_ops(mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for kind in (HostStep, TrainingStep):
        monkeypatch.setattr("fastlenet.training.trainer.HostStep", kind)
        model = nn.Sequential(nn.Flatten(), Doubled(), nn.Linear(784, 10), input_shape=(1, 28, 28))
        trainer = Trainer(model, small(mnist), Recipe(epochs=2, batch_size=20, lr=0.01))
        trainer.run()
        results.append(bits(trainer))
    assert results[0] == results[1]


def test_numbers_in_cells(rng: np.random.Generator) -> None:
    """A launch reads rates and counts anew, stops at a loss that is not finite, and launches graphs within it."""
    rate, count = np.array(0.5), np.array(3, np.uint64)
    p, g = normals(rng, (40,)), normals(rng, (40,))
    moments = np.zeros(40, np.float32), np.zeros(40, np.float32)
    loss = np.array(1.0)
    inner = ops.Graph(lambda: ops.relu_forward(p, out=p))

    def work() -> None:
        ops.adam_step(p, g, *moments, step=Count(count) + 1, lr=Rate(rate) * 2.0)
        ops.Graph.stop_unless_finite(loss)
        inner.launch()

    start, first = p.copy(), [array.copy() for array in moments]
    graph = ops.Graph(work)
    assert graph.reason is None and graph.calls == 3
    for lr, step, ends in ((0.5, 3, False), (0.25, 9, False), (0.125, 10, True)):
        p[...], moments[0][...], moments[1][...] = start, *first
        rate[...], count[...], loss[...] = lr, step, np.nan if ends else 1.0
        graph.launch()
        expected, others = start.copy(), [array.copy() for array in first]
        ops.adam_step(expected, g, *others, step=step + 1, lr=lr * 2.0)
        expect_same_bits(p, expected if ends else ops.relu_forward(expected))
    for missing in ({"step": 4, "lr": Rate(rate)}, {"step": Count(count), "lr": 0.5}):
        assert ops.Graph(lambda missing=missing: ops.adam_step(p, g, *moments, **missing)).reason is not None
    with pytest.raises(ValueError, match=r"^Graph\.stop_unless_finite: number expects "):
        ops.Graph.stop_unless_finite(np.zeros(3))
    with pytest.raises(TypeError, match=r"^Graph\.stop_unless_finite: number expects "):
        ops.Graph.stop_unless_finite(0.5)
