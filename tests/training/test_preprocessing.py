"""Networks on preprocessed images: what they are trained on is what they predict from, wherever they are used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, Recipe, fit, reference
from fastlenet.data import Dataset, load_idx_directory
from fastlenet.exports.content import ExportError
from fastlenet.files import CheckpointError
from fastlenet.preprocessing import Preprocessing
from fastlenet.sklearn import LeNetClassifier
from fastlenet.training.host_step import HostStep
from fastlenet.training.state import RunState
from fastlenet.training.step import TrainingStep
from helpers.command import Result
from helpers.expect import expect_same_bits

Train = Callable[..., Result]

RECIPE = Recipe(epochs=1, batch_size=100, width=12, deskew=True, shift=1, rotation=5)
KIND = Preprocessing(width=12, deskew=True)


@pytest.fixture(scope="module")
def data(mnist: Dataset) -> Dataset:
    return replace(
        mnist,
        train_images=mnist.train_images[:600],
        train_labels=mnist.train_labels[:600],
        test_images=mnist.test_images[:200],
        test_labels=mnist.test_labels[:200],
    )


@pytest.fixture(scope="module")
def model(data: Dataset) -> LeNet:
    made = LeNet.of(RECIPE)
    fit(made, data, RECIPE, verbose=0)
    return made


def looks(images: Any, data: Dataset, kind: Preprocessing = KIND) -> Any:
    """Preprocessed and normalised, by the reference."""
    views, index = kind.views(images), np.arange(len(images))
    return reference.gather_images(images, index, mean=data.mean, std=data.std, transform=views)


def test_a_model_predicts_from_what_it_was_trained_on(model: LeNet, data: Dataset, tmp_path: Path) -> None:
    """Prediction, evaluation, activations, test-time augmentation and a loaded model all preprocess; model(x) does not."""
    assert model.preprocessing == KIND
    logits = np.asarray(model(looks(data.test_images, data)))
    expected = np.exp(logits - logits.max(1, keepdims=True)).astype(np.float64)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(data.test_images), expected, atol=1e-4)
    np.testing.assert_array_equal(model.predict(data.test_images), logits.argmax(1))
    activations = model.activations(data.test_images)
    np.testing.assert_allclose(activations[model.names[-1]], logits, atol=1e-3)
    accuracy = float((logits.argmax(1) == data.test_labels).mean())
    assert model.evaluate(data).accuracy == accuracy
    assert accuracy > 0.3
    model.save(tmp_path / "m.safetensors")
    loaded = fastlenet.load(tmp_path / "m.safetensors")
    assert loaded.facts.preprocessing == KIND
    expect_same_bits(loaded.predict_proba(data.test_images), model.predict_proba(data.test_images))
    shifted = loaded.predict_proba(data.test_images, tta=True)
    moved = [np.pad(looks(data.test_images, data), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-data.mean / data.std)]
    parts = []
    for down, right in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        logits = np.asarray(model(np.ascontiguousarray(moved[0][:, :, 1 - down : 29 - down, 1 - right : 29 - right])))
        part = np.exp(logits - logits.max(1, keepdims=True)).astype(np.float64)
        parts.append(part / part.sum(1, keepdims=True))
    # What the shift brings in from outside the preprocessed image may be ink there; the digits of these images stay inside.
    assert np.mean(np.abs(shifted - np.mean(parts, axis=0)).max(axis=1) < 1e-3) > 0.9


def test_each_epoch_distorts_the_preprocessed_images(data: Dataset) -> None:
    """By the kernels' step and by its capture; at the end, without augmentation, they are preprocessed alone."""
    for kind in (HostStep, TrainingStep):
        state = RunState(LeNet(), data, replace(RECIPE, epochs=2, plain_epochs=1))
        step = kind(state, lambda step: 0.0)
        for epoch in range(2):
            state.epoch = epoch
            state.begin_epoch()
            step.start()
            for batch in range(3):
                step.run(100)
                state.position, state.images = batch + 1, 100 * (batch + 1)
            index = step._order[200:300]
            augmentation = RECIPE.augmentation if epoch == 0 else fastlenet.Augmentation()
            expected = reference.gather_images(
                data.train_images,
                index,
                mean=data.mean,
                std=data.std,
                transform=augmentation.at(RECIPE.seed, epoch, KIND.views(data.train_images)),
            )
            np.testing.assert_allclose(step._x[:100], expected, atol=1e-3)
            step.wait()


def test_a_recipe_without_it_is_as_before(data: Dataset) -> None:
    plain, other = LeNet(), LeNet()
    fit(plain, data, epochs=1, batch_size=100, verbose=0)
    fit(other, data, epochs=1, batch_size=100, width=0, deskew=False, verbose=0)
    expect_same_bits(plain.parameter_buffer, other.parameter_buffer)
    assert not plain.preprocessing
    assert "preprocessing" not in plain.metadata()


def test_resuming_refuses_another_preprocessing(data: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    fit(LeNet.of(RECIPE), data, RECIPE, verbose=0, checkpoint=checkpoint)
    for change, named in (({"width": 14}, "width expects 12, got 14|width"), ({"deskew": False}, "deskew")):
        with pytest.raises(CheckpointError, match=named):
            fit(LeNet.of(RECIPE), data, replace(RECIPE, epochs=2, **change), verbose=0, resume=checkpoint)  # type: ignore[arg-type]
    went_on, whole = LeNet.of(RECIPE), LeNet.of(RECIPE)
    fit(went_on, data, replace(RECIPE, epochs=1), verbose=0, resume=checkpoint)
    fit(whole, data, RECIPE, verbose=0)
    expect_same_bits(went_on.parameter_buffer, whole.parameter_buffer)


@pytest.mark.parametrize("shape", [(1, 20, 24), (3, 16, 16)], ids=str)
def test_other_shapes_train_and_predict(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (60, *shape), dtype=np.uint8)
    data = Dataset.from_arrays(images, np.arange(60) % 3, test=(images[:9], np.arange(9) % 3))
    model = LeNet(input_shape=shape, classes=3)
    history = fit(model, data, epochs=1, width=20, deskew=True, verbose=0)
    assert history.history["val_accuracy"] == [model.evaluate(data).accuracy]


def test_sklearn_preprocesses(data: Dataset) -> None:
    pixels = data.train_images.reshape(len(data.train_images), -1)
    found = LeNetClassifier(recipe=RECIPE, epochs=1, batch_size=100).fit(pixels, data.train_labels)
    model = found.model_
    assert model.preprocessing == KIND
    expected = model.predict_proba(data.test_images)
    np.testing.assert_allclose(found.predict_proba(data.test_images.reshape(200, -1)), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["m.onnx", "m.h", "m.html"])
def test_what_cannot_preprocess_refuses(name: str, model: LeNet, data: Dataset, tmp_path: Path) -> None:
    told = rf"{name}: the model preprocesses its images \(width 12, deskew\), which no format can hold; export a network whose"
    with pytest.raises(ExportError, match=told):
        fastlenet.export(model, tmp_path / name, data=data)
    assert not list(tmp_path.iterdir())


def test_int8_refuses(model: LeNet, data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"^quantize: the model preprocesses its images \(width 12, deskew\), which int8 "):
        model.quantize(data)
    small = LeNet.pretrained().quantize(data)
    with pytest.raises(ValueError, match="preprocessing expects none: a quantized network takes raw images, got deskew"):
        type(small)(small.layers, replace(small.facts, preprocessing=Preprocessing(deskew=True)), "LeNet")


def test_a_frozen_model_takes_what_the_model_takes(model: LeNet, data: Dataset) -> None:
    x = looks(data.test_images[:50], data)
    np.testing.assert_allclose(model.freeze()(x), model(x), atol=1e-4)


def test_a_torch_module_tells(torch: Any, model: LeNet, data: Dataset) -> None:
    with pytest.warns(UserWarning, match=r"^to_torch: the module takes images that are preprocessed \(width 12, deskew\)"):
        module = model.to_torch()
    x = looks(data.test_images[:50], data)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), model(x), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeNet().to_torch()


def test_wrong_facts_are_refused(model: LeNet, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for said, message in (
        ('{"width": 5}', "width expects 0, or pixels in 10..20, got 5"),
        ('{"slant": 1}', "preprocessing expects a Preprocessing, or an object of deskew and width"),
        ("[1]", "preprocessing expects a Preprocessing, or an object of deskew and width"),
        ("{", "preprocessing expects JSON"),
    ):
        save_file(dict(model.state_dict()), tmp_path / "odd", {**model.metadata(), "preprocessing": said})
        with pytest.raises(CheckpointError, match=message):
            fastlenet.load(tmp_path / "odd")


def test_the_commands_preprocess(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    given = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 64, "--width", 14, "--deskew"]
    result = train_here(*given, "--quiet", "--save-model", "m.safetensors")
    assert result.code == 0
    data, model = load_idx_directory(small_mnist), fastlenet.load(tmp_path / "m.safetensors")
    assert model.facts.preprocessing == Preprocessing(14, True)
    assert result.out == f"final accuracy {model.evaluate(data).accuracy:.2%}\n"
    again = train_here("--data-dir", small_mnist, "--load-model", "m.safetensors", "--quiet", "--epochs", 0)
    assert again.out == result.out
    plain = train_here("--data-dir", small_mnist, "--load-model", "m.safetensors", "--quiet", "--epochs", 0, "--width", 0)
    model.set_facts(preprocessing=Preprocessing(0, True))
    assert plain.out == f"final accuracy {model.evaluate(data).accuracy:.2%}\n"
    refused = train_here("--data-dir", small_mnist, "--width", 9)
    assert refused.code == 2 and "width expects 0, or pixels in 10..20, got 9" in refused.err
