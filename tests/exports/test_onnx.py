"""The exported ONNX file, run by ONNX Runtime: the model's outputs in float32, and the quantized model's bits in integers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import fastlenet
from fastlenet import LeNet
from fastlenet.data import Dataset
from fastlenet.exports import Exported, ExportError
from fastlenet.exports.onnx_file import write
from fastlenet.inference.forward import softmax
from fastlenet.models import LeNet5
from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
from fastlenet.quantization import QuantizedModel
from helpers.arrays import Array
from helpers.expect import expect_same_bits, expect_within
from helpers.rounding import exact_logits
from helpers.small_networks import QUANTIZED, small


def known(model: Sequential, mean: object = 0.1307, std: object = 0.3081) -> Sequential:
    model.set_facts(mean=mean, std=std)  # type: ignore[arg-type]
    return model


def colours() -> Sequential:
    layers: list[Layer] = [
        Conv2d(3, 8, (3, 5), padding="same"),
        Tanh(),
        AvgPool2d(3, 2, 1),
        Conv2d(8, 6, 3, stride=2, padding=(1, 2)),
    ]
    layers += [LeakyReLU(0.2), MaxPool2d(3, 2, 1), Dropout(0.4), Flatten(), Linear(54, 9, bias=False), Sigmoid(), Linear(9, 5)]
    return known(Sequential(*layers, input_shape=(3, 17, 16), seed=4), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


NETWORKS = {name: (lambda name=name: QUANTIZED[name]) for name in QUANTIZED} | {
    "LeNet": LeNet.pretrained,
    "LeNet5": lambda: known(LeNet5(input_shape=(1, 28, 28), seed=2)),
    "RGB": colours,
}


def session(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(written: Exported, x: Array) -> Array:
    """The output of the file's only input."""
    ready = session(written.path.read_bytes())
    (answer,) = ready.run(None, {ready.get_inputs()[0].name: x})
    return np.asarray(answer)


def normalised(model: Sequential, images: Array) -> Array:
    return np.asarray(model.ops.gather_images(images, np.arange(len(images)), mean=model.mean, std=model.std))


def images_for(model: Sequential, rng: np.random.Generator, count: int = 30) -> Array:
    return rng.integers(0, 256, (count, *(model.input_shape or ())), np.uint8)


# --- float32 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_scores(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Both are within what float32 may round of the exact scores, and 1e-5 of the largest from each other."""
    model = NETWORKS[name]()
    images = images_for(model, rng)
    x = normalised(model, images)
    found, ours = run(fastlenet.export(model, tmp_path / "m.onnx"), x), model.eval()(x)
    exact, bound = exact_logits(model, images)
    expect_within(found, exact, bound)
    expect_within(found, np.asarray(ours, np.float64), 1e-5 * max(1, float(np.abs(exact).max())))


@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """A score that is off by d moves a probability by at most d, and softmax itself rounds a few times."""
    model = NETWORKS[name]()
    images = images_for(model, rng)
    found = run(fastlenet.export(model, tmp_path / "m.onnx", with_normalisation=True), images)
    exact, bound = exact_logits(model, images)
    assert found.dtype == np.float32
    expect_within(found, softmax(exact), bound.max(axis=1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("count", [1, 7, 250])
@pytest.mark.parametrize("int8", [False, True])
def test_any_batch(count: int, int8: bool, tmp_path: Path, mnist: Dataset) -> None:
    model, images = LeNet.pretrained(), mnist.test_images[:count, np.newaxis]
    written = fastlenet.export(model, tmp_path / "m.onnx", int8=int8, with_normalisation=True, data=images[:20])
    predictor: LeNet | QuantizedModel = written.quantized or model
    expect_within(run(written, images), predictor.predict_proba(images), 1e-5)


def test_examples_that_are_no_images(tmp_path: Path, rng: np.random.Generator) -> None:
    model, x = Sequential(Linear(5, 4), ReLU(), Linear(4, 3), input_shape=(5,)), rng.standard_normal((6, 5)).astype(np.float32)
    expect_within(run(fastlenet.export(model, tmp_path / "m.onnx"), x), np.asarray(model(x), np.float64), 1e-6)


def test_images_that_come_out_as_images(tmp_path: Path, rng: np.random.Generator) -> None:
    model = Sequential(Conv2d(2, 3, 3), input_shape=(2, 5, 6))
    x = rng.standard_normal((4, 2, 5, 6)).astype(np.float32)
    expect_within(run(fastlenet.export(model, tmp_path / "m.onnx"), x), np.asarray(model(x), np.float64), 1e-5)


# --- integers of 8 bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_have_the_bits(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Of the scores, and of each layer between."""
    model = NETWORKS[name]()
    images = images_for(model, rng)
    written = fastlenet.export(model, tmp_path / "m.onnx", int8=True, data=images)
    assert written.quantized is not None
    expect_same_bits(run(written, images), written.quantized.logits(images))
    graph = onnx.load(written.path)
    layers = {
        layer.name: [n.output[0] for n in graph.graph.node if n.name.startswith(f"{layer.name}/")][-1]
        for layer in written.quantized
    }
    graph.graph.output.extend(onnx.ValueInfoProto(name=value) for value in layers.values() if value != "scores")
    found = session(graph.SerializeToString()).run(list(layers.values()), {"images": images})
    expected = written.quantized.activations(images)
    assert list(layers) == list(expected)
    for ours, theirs in zip(expected.values(), found, strict=True):
        expect_same_bits(theirs, ours)


def test_extreme_integers(tmp_path: Path) -> None:
    """The largest sums: white images, and weights of one size. Sums of pairs would not fit 16 bits."""
    layers = Conv2d(4, 3, 3), Tanh(), Flatten(), Linear(27, 6)
    model = known(Sequential(*layers, input_shape=(4, 5, 5)), 0.0, 1.0)
    for array in model.parameters().values():
        array[...] = 0.03 * (-1) ** np.arange(len(array)).reshape(-1, *[1] * (array.ndim - 1))
    images = np.stack([np.full((4, 5, 5), value, np.uint8) for value in (0, 1, 128, 254, 255)])
    written = fastlenet.export(model, tmp_path / "m.onnx", int8=True, data=images)
    assert written.quantized is not None
    expect_same_bits(run(written, images), written.quantized.logits(images))


def test_lenet_in_integers(mnist: Dataset, tmp_path: Path) -> None:
    written = fastlenet.export(LeNet.pretrained(), tmp_path / "m.onnx", int8=True)
    images = mnist.test_images[:500, np.newaxis]
    assert written.quantized is not None and written.bytes < 450_000
    expect_same_bits(run(written, images), written.quantized.logits(images))


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_lenet_on_the_test_set(int8: bool, mnist: Dataset, tmp_path: Path) -> None:
    model, images = LeNet.pretrained(), mnist.test_images[:, np.newaxis]
    written = fastlenet.export(model, tmp_path / "m.onnx", int8=int8, with_normalisation=True)
    predictor: LeNet | QuantizedModel = written.quantized or model
    found, expected = run(written, images), predictor.predict_proba(images)
    expect_within(found, expected, 1e-5)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    assert (first - second > 2e-5).all()
    np.testing.assert_array_equal(found.argmax(axis=1), predictor.predict(images))


# --- the file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("with_normalisation", [False, True])
def test_the_file_says_what_it_is(int8: bool, with_normalisation: bool, tmp_path: Path) -> None:
    model = known(Sequential(Flatten(), Linear(6, 2), input_shape=(1, 2, 3)), 0.25, 0.5)
    model.set_facts(class_names=("Katze 🐈", "\ud800\"'\n"))
    images = np.zeros((3, 1, 2, 3), np.uint8)
    written = fastlenet.export(model, tmp_path / "m.onnx", int8=int8, with_normalisation=with_normalisation, data=images)
    loaded = onnx.load(written.path)
    onnx.checker.check_model(loaded, full_check=True)
    ready = session(written.path.read_bytes())
    (source,), (result,), facts = ready.get_inputs(), ready.get_outputs(), ready.get_modelmeta().custom_metadata_map
    raw = int8 or with_normalisation
    assert (source.name, source.type) == (("images", "tensor(uint8)") if raw else ("input", "tensor(float)"))
    assert source.shape == ["n", 1, 2, 3] and result.shape == ["n", 2] and result.type == "tensor(float)"
    assert result.name == ("probabilities" if with_normalisation else "scores")
    assert tuple(json.loads(facts["class_names"])) == model.class_names
    assert [json.loads(facts[name]) for name in ("mean", "std", "input_shape")] == [0.25, 0.5, [1, 2, 3]]
    assert facts["network"] == "Sequential" and loaded.producer_name == "fastlenet"
    assert (loaded.ir_version, [(opset.domain, opset.version) for opset in loaded.opset_import]) == (7, [("", 13)])
    kind, name = ("uint8", "images") if raw else ("float32", "input")
    assert written.lines == (f"{name}: {kind} (n, 1, 2, 3) -> {result.name}: float32 (n, 2)",)


def test_any_names_of_layers(tmp_path: Path) -> None:
    names = ["input", "", "scores", "\ud800", "\\ud800", "a/Relu", "a", "a/Gemm"]
    model = Sequential(
        Flatten(), Linear(4, 4), ReLU(), ReLU(), Linear(4, 4), Linear(4, 4), ReLU(), ReLU(), names=names, input_shape=(1, 2, 2)
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    expect_within(run(fastlenet.export(model, tmp_path / "m.onnx"), x), np.asarray(model(x), np.float64), 1e-5)
    images = x.astype(np.uint8)
    written = fastlenet.export(known(model), tmp_path / "m.onnx", int8=True, data=images)
    assert written.quantized is not None
    expect_same_bits(run(written, images), written.quantized.logits(images))


def test_the_way_back(tmp_path: Path) -> None:
    model = LeNet(seed=5, input_shape=(1, 28, 28))
    model.set_facts(mean=0.25, std=0.5)
    again = fastlenet.load(fastlenet.export(model, tmp_path / "m.onnx", with_normalisation=True).path)
    assert isinstance(again, LeNet)
    expect_within(np.array([again.mean, again.std]), np.array([0.25, 0.5]), 4 * 2.0**-24)  # of a factor and a sum in float32
    expect_same_bits(again.parameter_buffer, model.parameter_buffer)


class Own(ReLU):
    pass


class Doubled(Sequential):
    def __call__(self, x: Array) -> Array:
        return 2 * super().__call__(x)


REFUSED: list[tuple[Callable[[], Sequential], bool, type[Exception], str]] = [
    (lambda: Sequential(Linear(4, 2)), False, ExportError, r"shape of its input; .*set_facts\(input_shape="),
    (lambda: Sequential(Flatten(), Linear(4, 2), input_shape=(1, 2, 2)), True, ExportError, r"normalised; .*set_facts\(mean="),
    (lambda: Sequential(Linear(4, 2), input_shape=(4,)), True, ExportError, r"shape \(4,\); with_normalisation expects images"),
    (lambda: known(Sequential(Conv2d(1, 2, 2), input_shape=(1, 2, 2))), True, ExportError, r"shape \(2, 1, 1\).*add Flatten"),
    (lambda: Sequential(Own(), input_shape=(4,)), False, TypeError, "layer '0': Own is not a layer of the library"),
    (
        lambda: Doubled(ReLU(), input_shape=(4,)),
        False,
        TypeError,
        "export: Doubled defines __call__, which no file",
    ),
]


@pytest.mark.parametrize(("make", "with_normalisation", "kind", "message"), REFUSED)
def test_what_is_refused(
    make: Callable[[], Sequential], with_normalisation: bool, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message) as refused:
        fastlenet.export(make(), tmp_path / "m.onnx", with_normalisation=with_normalisation)
    assert "\n" not in str(refused.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite(value: float, tmp_path: Path) -> None:
    model = small(2)
    model.parameters()["1.bias"][0] = value
    with pytest.raises(ExportError, match=r"finite parameters, got NaN or infinity in 1\.bias"):
        fastlenet.export(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"m\.onnx: this format needs the package onnx .*; pip install 'fastlenet\[onnx\]'"):
        fastlenet.export(small(2), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(f"{write.__module__}._MOST_BYTES", 39)
    with pytest.raises(ExportError, match="at most 39 bytes of parameters, and the model has 40"):
        fastlenet.export(small(2), tmp_path / "m.onnx")


def test_an_old_file_stays_if_the_new_one_cannot_be_made(tmp_path: Path) -> None:
    path = fastlenet.export(small(2), tmp_path / "m.onnx").path
    before = path.read_bytes()
    with pytest.raises(ExportError):
        fastlenet.export(Sequential(Linear(4, 2)), path)
    assert path.read_bytes() == before
    fastlenet.export(small(3), path)
    assert path.read_bytes() != before and [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]
