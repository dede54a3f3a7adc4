"""Evaluating and training: what does not go together is refused in one line, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, Recipe, fit, nn
from fastlenet.data.dataset import Dataset
from fastlenet.inference.forward import shifted, shifts
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.evaluation import evaluate, predict, score
from fastlenet.training.lr_finder import find_lr
from fastlenet.training.trainer import Trainer


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    return replace(
        mnist,
        train_images=mnist.train_images[:40],
        train_labels=mnist.train_labels[:40],
        test_images=mnist.test_images[:30],
        test_labels=mnist.test_labels[:30],
    )


# Every way to a model and data, each with options of its own.
USES: dict[str, Callable[..., Any]] = {
    "evaluate": evaluate,
    "evaluate, tta": lambda model, data, **options: evaluate(model, data, tta=True, **options),
    "predict": lambda model, data, **options: predict([LeNet(), model], data, **options),
    "fit": lambda model, data: fit(model, data, epochs=1, evaluate_every_epoch=False),
    "Trainer": lambda model, data: Trainer(model, data, Recipe(epochs=0)),
    "find_lr": lambda model, data: find_lr(model, data, Recipe(), steps=2),
}


def small_images(data: Dataset) -> Dataset:
    return replace(data, train_images=data.train_images[:, 4:-4, 4:-4], test_images=data.test_images[:, 4:-4, 4:-4])


def refused(error: type[Exception], message: str, use: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """By one line, which the pattern matches."""
    with pytest.raises(error, match=message) as caught:
        use(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, -np.inf])
@pytest.mark.parametrize("use", ["evaluate", "evaluate, tta", "predict"])
def test_a_model_that_is_not_finite(use: str, number: float, few: Dataset) -> None:
    model = LeNet()
    model.parameters()["fc1.weight"][3, 4] = number
    refused(ValueError, r"^model expects finite parameters, got NaN or infinity in fc1\.weight$", USES[use], model, few)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_models_and_data_that_do_not_go_together(use: Callable[..., Any], few: Dataset) -> None:
    model = LeNet()
    before = model.parameter_buffer.copy()
    refused(ValueError, "^MNIST: model expects 10 outputs, the data's classes, got 7 scores", use, LeNet(classes=7), few)
    other = "pixels in one channel are not for this model; layer"
    refused(ValueError, rf"^MNIST: images of 20x20 {other} '\w+'", use, model, small_images(few))
    coloured = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    refused(ValueError, f"^MNIST: images of 28x28 {other} '0'", use, coloured, few)
    unflattened = nn.Sequential(nn.Conv2d(1, 10, 28))
    refused(ValueError, r"model expects 10 outputs, .*got an output of shape \(10, 1, 1\) for an image", use, unflattened, few)
    refused(TypeError, r"data expects a Dataset\b.*, got ndarray", use, model, few.train_images)
    refused(TypeError, "model expects a Sequential such as LeNet, got str", use, "LeNet", few)
    np.testing.assert_array_equal(model.parameter_buffer, before)
    assert model.training


@pytest.mark.parametrize("use", ["evaluate", "evaluate, tta", "predict"])
def test_nothing_to_report_on(use: str, few: Dataset) -> None:
    none = replace(few, test_images=few.test_images[:0], test_labels=few.test_labels[:0])
    refused(ValueError, r"^MNIST: no test or validation images to report on; data\.split\(0\.1\)", USES[use], LeNet(), none)


@pytest.mark.parametrize("use", [USES[name] for name in ("evaluate", "evaluate, tta", "predict")])
def test_batch_sizes_of_an_evaluation(use: Callable[..., Any], few: Dataset) -> None:
    for wrong in (-1, 0):
        refused(ValueError, f"^batch_size expects a positive integer, got {wrong}$", use, LeNet(), few, batch_size=wrong)
    for odd in (1.5, 7.0, "7", None, True):
        refused(TypeError, f"^batch_size expects an integer, got {odd!r}$", use, LeNet(), few, batch_size=odd)
    expected = use(LeNet(), few, batch_size=7)
    for same in (np.int64(7), np.uint8(7)):
        np.testing.assert_array_equal(use(LeNet(), few, batch_size=same), expected)
    np.testing.assert_allclose(use(LeNet(), few, batch_size=2**62), expected, rtol=1e-6)


def test_predictions_of_no_model(few: Dataset) -> None:
    refused(ValueError, "^models expects at least one model, got none$", predict, [], few)
    models = [LeNet(0), LeNet(1)]
    expected = predict(models, few)
    np.testing.assert_array_equal(predict((model for model in models), few), expected)
    np.testing.assert_array_equal(predict(models[0], few), predict(models[:1], few))


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        (np.zeros((0, 10)), np.zeros(0, int), ValueError, "with N > 0, got shapes (0, 10) and (0,)"),
        (np.ones((3, 10)), np.zeros(4, int), ValueError, "got shapes (3, 10) and (4,)"),
        (np.ones(10), np.zeros(10, int), ValueError, "got shapes (10,) and (10,)"),
        (np.ones((3, 10)), np.eye(3, dtype=int), ValueError, "got shapes (3, 10) and (3, 3)"),
        (np.ones((3, 10)), np.array([0, 1, 10]), ValueError, "labels expects 0..9, got 0..10"),
        (np.ones((3, 10)), np.array([0, 1, -1]), ValueError, "labels expects 0..9, got -1..1"),
        (np.ones((3, 10)), np.zeros(3), TypeError, "labels expects integers, got float64"),
        (np.ones((3, 10)), np.array(["1", "2", "3"]), TypeError, "labels expects integers, got <U1"),
    ],
)
def test_wrong_scores(probabilities: Any, labels: Any, error: type[Exception], message: str) -> None:
    refused(error, re.escape(message), score, probabilities, labels)


def test_a_score() -> None:
    assert score([[0.5, 0.5], [0.25, 0.75]], [0, 0]) == (0.5, pytest.approx(-np.log([0.5, 0.25]).mean()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"test_batch_size": 0}, ValueError, "test_batch_size expects a positive integer, got 0"),
        ({"test_batch_size": 1.5}, TypeError, "test_batch_size expects an integer, got 1.5"),
        ({"evaluate_every_epoch": "no"}, TypeError, "evaluate_every_epoch expects True or False, got 'no'"),
        ({"checkpoint_seconds": -1}, ValueError, "checkpoint_seconds expects a non-negative number, got -1.0"),
        ({"checkpoint_seconds": np.nan}, ValueError, "checkpoint_seconds expects a non-negative number, got nan"),
        ({"checkpoint_seconds": "10"}, TypeError, "checkpoint_seconds expects a number, got '10'"),
        ({"recipe": 3}, TypeError, "recipe expects a Recipe, or one of default, fast, best, got 3"),
        ({"recipe": "slow"}, ValueError, "recipe expects one of default, fast, best, got 'slow'"),
        ({"epochs": 1.5}, TypeError, "epochs expects an integer, got 1.5"),
        ({"momentum": 0}, ValueError, "momentum expects a number above 0 for optimizer muon"),
        ({"speed": 1}, TypeError, "fit: unexpected argument speed; did you mean seed?"),
    ],
    ids=str,
)
def test_wrong_fits(options: dict[str, Any], error: type[Exception], message: str, few: Dataset, tmp_path: Path) -> None:
    refused(error, re.escape(message), fit, LeNet(), few, checkpoint=tmp_path / "state", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("callbacks", [(3,), 3, "x", Callback(), {Callback()}], ids=lambda callbacks: str(type(callbacks)))
def test_wrong_callbacks(callbacks: Any, few: Dataset) -> None:
    refused(TypeError, "^callbacks expects a list of Callback objects, got ", fit, LeNet(), few, epochs=1, callbacks=callbacks)


def test_wrong_options_of_the_rest(few: Dataset, tmp_path: Path) -> None:
    refused(TypeError, "^recipe expects a Recipe, got str$", Trainer, LeNet(), few, "fast")
    message = "^batches_per_epoch expects a positive integer, got 0$"
    refused(ValueError, message, Trainer, LeNet(), few, Recipe(), batches_per_epoch=0)
    refused(ValueError, r"^seconds expects a non-negative number, got -1\.0$", Saver, tmp_path / "state", -1)
    for low, high, steps, error, message in (
        (0.0, 1.0, 10, ValueError, "low expects a positive number, got 0.0"),
        (1e-4, np.inf, 10, ValueError, "high expects a positive number, got inf"),
        (1e-4, "1", 10, TypeError, "high expects a number, got '1'"),
        (1.0, 0.1, 10, ValueError, "high expects a rate above low, 1.0, got 0.1"),
        (1e-4, 1.0, 1, ValueError, "steps expects an integer of at least 2, got 1"),
        (1e-4, 1.0, 2.5, TypeError, "steps expects an integer, got 2.5"),
    ):
        refused(error, re.escape(message), find_lr, LeNet(), few, Recipe(), low=low, high=high, steps=steps)


def test_an_ensemble_beyond_the_last_seed(few: Dataset) -> None:
    """Before any of its networks is trained."""

    def make(member: int) -> Trainer:
        return Trainer(LeNet(), few, Recipe(epochs=0, seed=2**64 - 2 + member))

    assert EnsembleRun(make, 2).count == 2
    refused(ValueError, f"^seed expects at most {2**64 - 3} for 3 networks, got {2**64 - 2}$", EnsembleRun, make, 3)
    refused(ValueError, "^count expects a positive integer, got 0$", EnsembleRun, make, 0)


@pytest.mark.parametrize(("down", "right"), shifts(True))
@pytest.mark.parametrize("axes", [(2,), (2, 3)])
def test_a_shift_moves_down_and_right(axes: tuple[int, ...], down: int, right: int) -> None:
    """What leaves the image is lost, and zeros follow. A mean over all shifts does not tell one direction from the other."""
    images = np.arange(1, 1 + np.prod(axes) * 20, dtype=np.float32).reshape(*axes, 4, 5)
    expected = np.zeros_like(images)
    for row in range(4):
        for column in range(5):
            if 0 <= row + down < 4 and 0 <= column + right < 5:
                expected[..., row + down, column + right] = images[..., row, column]
    np.testing.assert_array_equal(shifted(images, down, right), expected)
