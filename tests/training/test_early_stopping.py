"""A run that no longer improves stops, with the weights of its best epoch if asked for; resumed, it does the same."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import Callback, EarlyStopping, LeNet, fit, nn
from fastlenet.data import Dataset
from fastlenet.training.callbacks.base import Run
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.training.history import Epoch, History
from helpers.expect import expect_same_bits

# Of a network so small that it overfits at once: what it comes to is known by a run without early stopping.
SETTINGS: dict[str, Any] = {"epochs": 12, "batch_size": 20, "shift": 0, "lr": 0.3, "optimizer": "sgd", "verbose": 0}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:100], mnist.train_labels[:100], mnist.test_images[:50], mnist.test_labels[:50]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


def small() -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(49, 10), seed=1)


class Weights(Callback):
    """Those that each epoch was evaluated with."""

    def __init__(self) -> None:
        self.after: dict[int, Any] = {}

    def epoch(self, run: Run, epoch: Epoch) -> None:
        with run.state.averaged():
            self.after[epoch.epoch] = run.state.model.parameter_buffer.copy()


def expected_stop(values: list[float], patience: int, better: Any) -> tuple[int, int]:
    """The epoch after which a run stops, and its best one, from 1."""
    best = 0
    for epoch in range(1, len(values)):
        if better(values[epoch], values[best]):
            best = epoch
        elif epoch - best >= max(1, patience):
            return epoch + 1, best + 1
    return len(values), best + 1


@pytest.mark.parametrize("averages", [{}, {"ema": 0.8, "ema_start": 0.0}], ids=["", "average"])
@pytest.mark.parametrize(
    ("monitor", "patience", "better"),
    [
        ("val_loss", 2, lambda new, old: new < old),
        ("val_accuracy", 1, lambda new, old: new > old),
        ("val_loss", 0, lambda new, old: new < old),
        ("loss", 3, lambda new, old: new < old),
    ],
)
def test_when_it_stops(monitor: str, patience: int, better: Any, averages: dict[str, Any], few: Dataset) -> None:
    weights = Weights()
    whole = fit(small(), few, callbacks=[weights], **SETTINGS | averages)
    last, best = expected_stop(whole.history[monitor], patience, better)
    stopping, model = EarlyStopping(monitor, patience=patience, restore_best=True), small()
    history = fit(model, few, callbacks=[stopping], **SETTINGS | averages)
    assert len(history.epochs) == last and history.history == {key: values[:last] for key, values in whole.history.items()}
    assert (stopping.best_epoch, stopping.best) == (best, whole.history[monitor][best - 1])
    expect_same_bits(model.parameter_buffer, weights.after[best])
    assert not model.training and not history.interrupted
    if last < SETTINGS["epochs"]:
        epochs = "an epoch" if last - best == 1 else f"{last - best} epochs"
        assert history.stopped == f"{monitor} has not improved for {epochs}; the model has the weights of epoch {best}"
    else:
        assert history.stopped == ""


def test_it_really_stops_early(few: Dataset) -> None:
    """What the test above relies on: the validation loss rises before the end."""
    values = fit(small(), few, **SETTINGS).history["val_loss"]
    assert expected_stop(values, 2, lambda new, old: new < old)[0] < SETTINGS["epochs"]


def test_without_restoring(few: Dataset) -> None:
    weights, model = Weights(), small()
    history = fit(model, few, callbacks=[EarlyStopping(patience=2), weights], **SETTINGS)
    expect_same_bits(model.parameter_buffer, weights.after[len(history.epochs)])
    assert history.stopped == "val_loss has not improved for 2 epochs"


def judged(stopping: EarlyStopping, values: list[float]) -> int:
    """The epochs that a run with these losses has, where it is stopped."""

    class Judged:
        state = type("State", (), {"history": History(), "passengers": {}, "model": small()})()
        stopped = ""

        def stop(self, reason: str = "") -> None:
            self.stopped = reason

    run: Any = Judged()
    stopping.begin(run)
    for number, value in enumerate(values, 1):
        stopping.epoch(run, Epoch(number, value, value, value, value, 1.0, 1.0))
        if run.stopped:
            return number
    return len(values)


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({"patience": 1}, [3, 2, 1, 2, 0], 4),
        ({"patience": 2}, [3, 2, 2, 2, 0], 4),
        ({"patience": 2}, [3, 2, 2, 1, 1, 1], 6),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.75, 2.51, 2, 1], 3),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.25, 1.5, 1.0], 4),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 3, 4], 4),
        ({"monitor": "accuracy", "patience": 1}, [1, 2, 1.5, 4], 3),
        ({"monitor": "accuracy", "patience": 1, "mode": "min"}, [1, 2, 1.5, 4], 2),
        ({"patience": 2}, [np.nan, np.nan, 1, 0, -1], 2),
        ({"patience": 3}, [np.nan, 1, np.nan, 0, 0, 0, 0], 7),
        ({"patience": 9}, [1, 1, 1], 3),
    ],
)
def test_what_an_improvement_is(options: dict[str, Any], values: list[float], epochs: int) -> None:
    stopping = EarlyStopping(**options)
    assert judged(stopping, values) == epochs
    assert judged(stopping, values) == epochs  # it starts anew with every run


def test_resumed(few: Dataset, tmp_path: Path) -> None:
    """Stopped by Ctrl-C in each epoch: the same end, with the same weights, as of a run that was not."""
    options = SETTINGS | {"checkpoint": tmp_path / "state"}
    expected, straight = small(), EarlyStopping(patience=3, restore_best=True)
    whole = fit(expected, few, callbacks=[straight], **SETTINGS)

    class CtrlC(Callback):
        def batch(self, run: Run, loss: Any, images: int) -> None:
            if run.state.position == 2 and run.state.epoch not in seen:
                seen.add(run.state.epoch)
                signal.raise_signal(signal.SIGINT)

    seen: set[int] = set()
    history = fit(small(), few, callbacks=[EarlyStopping(patience=3, restore_best=True), CtrlC()], **options)
    while history.interrupted:
        assert history.stopped == "interrupted by Ctrl-C"
        model, stopping = small(), EarlyStopping(patience=3, restore_best=True)
        history = fit(model, few, callbacks=[stopping, CtrlC()], resume=tmp_path / "state", **options)
    assert len(seen) == len(whole.epochs) and history.stopped == whole.stopped and history.history == whole.history
    assert (stopping.best, stopping.best_epoch) == (straight.best, straight.best_epoch)
    expect_same_bits(model.parameter_buffer, expected.parameter_buffer)
    # A run that was over stays over; with more patience it goes on.
    model = small()
    history = fit(model, few, callbacks=[EarlyStopping(patience=3, restore_best=True)], resume=tmp_path / "state", **options)
    assert history.stopped == whole.stopped and history.history == whole.history
    expect_same_bits(model.parameter_buffer, expected.parameter_buffer)
    history = fit(small(), few, callbacks=[EarlyStopping(patience=4)], resume=tmp_path / "state", **options)
    assert len(history.epochs) > len(whole.epochs)


def test_ctrl_c_restores_the_best_weights(few: Dataset) -> None:
    class CtrlC(Callback):
        def epoch(self, run: Run, epoch: Epoch) -> None:
            if epoch.epoch == 4:
                signal.raise_signal(signal.SIGINT)

    weights, model = Weights(), small()
    stopping = EarlyStopping(patience=10, restore_best=True)
    history = fit(model, few, callbacks=[stopping, weights, CtrlC()], **SETTINGS)
    assert history.interrupted and len(history.epochs) == 4 and stopping.best_epoch < 4
    expect_same_bits(model.parameter_buffer, weights.after[stopping.best_epoch])


def test_best_weights_of_another_run(few: Dataset, tmp_path: Path) -> None:
    """A checkpoint's weights are taken only where they are of the epoch that is now the best, and fit the model."""
    path, options = tmp_path / "state", SETTINGS | {"epochs": 6}
    fit(small(), few, callbacks=[EarlyStopping("val_loss", patience=9, restore_best=True)], checkpoint=path, **options)
    model, plain = small(), small()
    accuracy = EarlyStopping("loss", patience=9, restore_best=True)
    fit(model, few, callbacks=[accuracy], resume=path, **options)
    fit(plain, few, resume=path, **options)
    assert accuracy.best_epoch == 6  # whose weights the model has anyway
    expect_same_bits(model.parameter_buffer, plain.parameter_buffer)
    tensors, facts = load_checkpoint(path)
    tensors["passenger.early_stopping.best"] = np.zeros(3, np.float32)
    save_checkpoint(tmp_path / "forged", tensors, facts)
    with pytest.raises(CheckpointError, match=r"its best weights: early_stopping\.best expects shape \(500,\), got \(3,\)"):
        fit(small(), few, callbacks=[EarlyStopping(restore_best=True)], resume=tmp_path / "forged", **options)


def test_numbers_that_are_not_computed(few: Dataset) -> None:
    message = r"^EarlyStopping: monitor val_loss expects an evaluation after every epoch, got none; give fit validation_data"
    with pytest.raises(ValueError, match=message):
        fit(small(), few, callbacks=[EarlyStopping()], evaluate_every_epoch=False, **SETTINGS)
    with pytest.raises(ValueError, match=message):
        fit(small(), few.train_images, few.train_labels, callbacks=[EarlyStopping()], **SETTINGS)
    history = fit(small(), few, callbacks=[EarlyStopping("loss")], evaluate_every_epoch=False, **SETTINGS)
    assert len(history.epochs) <= SETTINGS["epochs"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"monitor": "val_los"}, ValueError, "monitor expects one of loss, accuracy, val_loss, val_accuracy, got 'val_los'"),
        ({"monitor": None}, TypeError, "monitor expects one of loss, accuracy, val_loss, val_accuracy, got None"),
        ({"patience": -1}, ValueError, "patience expects a non-negative integer, got -1"),
        ({"patience": 1.5}, TypeError, "patience expects an integer, got 1.5"),
        ({"min_delta": -0.1}, ValueError, "min_delta expects a non-negative number, got -0.1"),
        ({"min_delta": float("nan")}, ValueError, "min_delta expects a non-negative number, got nan"),
        ({"mode": "maximum"}, ValueError, "mode expects one of auto, min, max, got 'maximum'"),
        ({"restore_best": 1}, TypeError, "restore_best expects True or False, got 1"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^EarlyStopping: {message}$"):
        EarlyStopping(**options)


def test_numpy_numbers() -> None:
    stopping = EarlyStopping(patience=np.int64(3), min_delta=np.float32(0.5))
    assert type(stopping.patience) is int and type(stopping.min_delta) is float


def test_lenet_is_a_model_like_any_other(few: Dataset) -> None:
    history = fit(LeNet(), few, epochs=2, callbacks=(EarlyStopping(patience=1),), verbose=0)
    assert 1 <= len(history.epochs) <= 2
