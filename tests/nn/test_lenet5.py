"""LeNet-5: its table, its formula in NumPy, its gradients, its files, and the images that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, get_num_threads, nn, ops, reference, set_num_threads
from fastlenet.backend import Array
from fastlenet.files import CheckpointError
from fastlenet.formats.parameters import load_model, save_model
from fastlenet.models import LeNet5
from fastlenet.optim import SGD
from fastlenet.training.recipe import Recipe
from helpers.arrays import normals
from helpers.expect import expect_as_exact, expect_equal, expect_same_bits, float64_reference

Rng = np.random.Generator

# Name, output shape, parameters, multiply-adds.
TABLE = [
    ("conv1", "6x28x28", "156", "117,600"),
    ("tanh1", "6x28x28", "0", "0"),
    ("pool1", "6x14x14", "0", "0"),
    ("conv2", "16x10x10", "2,416", "240,000"),
    ("tanh2", "16x10x10", "0", "0"),
    ("pool2", "16x5x5", "0", "0"),
    ("flatten", "400", "0", "0"),
    ("fc1", "120", "48,120", "48,000"),
    ("tanh3", "120", "0", "0"),
    ("fc2", "84", "10,164", "10,080"),
    ("tanh4", "84", "0", "0"),
    ("fc3", "10", "850", "840"),
]


def test_summary() -> None:
    lines = [line.split() for line in LeNet5().summary((1, 28, 28)).splitlines()]
    assert [(line[0], *line[2:5]) for line in lines[2:-2]] == TABLE
    assert lines[-1][:3] == ["total", "61,706", "416,520"]
    assert LeNet5().parameter_buffer.shape == (61_706,)


def test_shapes_of_the_state_dict() -> None:
    shapes = {name: array.shape for name, array in LeNet5().state_dict().items()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5),
        "conv2.bias": (16,),
        "fc1.weight": (120, 400),
        "fc1.bias": (120,),
        "fc2.weight": (84, 120),
        "fc2.bias": (84,),
        "fc3.weight": (10, 84),
        "fc3.bias": (10,),
    }
    assert LeNet5(classes=26).state_dict()["fc3.weight"].shape == (26, 84)


def convolved(x: Array, weight: Array, bias: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("ncpqrs,kcrs->nkpq", windows, weight) + bias[:, None, None]


def averaged(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def test_formula(level: str, rng: Rng) -> None:
    """The logits are those of the formula, in float64 and without the package's ops."""
    model, images = LeNet5(seed=4), normals(rng, (5, 1, 28, 28))
    p = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    x = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert x.shape == (5, 1, 32, 32)
    x = averaged(np.tanh(convolved(x, p["conv1.weight"], p["conv1.bias"])))
    x = averaged(np.tanh(convolved(x, p["conv2.weight"], p["conv2.bias"])))
    x = np.tanh(x.reshape(5, 400) @ p["fc1.weight"].T + p["fc1.bias"])
    x = np.tanh(x @ p["fc2.weight"].T + p["fc2.bias"])
    x = x @ p["fc3.weight"].T + p["fc3.bias"]
    assert np.abs(model(images) - x).max() < 1e-6 < np.abs(x).max()
    assert np.abs(model.freeze()(images) - x).max() < 1e-6


def test_three_steps_on_both_backends(level: str, rng: Rng) -> None:
    """Losses, gradients and parameters of three training steps are as exact as NumPy's in float32; float64 is the judge."""
    models = [LeNet5(seed=2, ops=backend) for backend in (ops, reference, float64_reference())]
    optimizers = [SGD(model, lr=0.1, momentum=0.9) for model in models]
    losses: list[list[float]] = [[], [], []]
    for _ in range(3):
        x, labels = normals(rng, (6, 1, 28, 28)), rng.integers(0, 10, 6)
        for model, optimizer, of_model in zip(models, optimizers, losses, strict=True):
            loss, dlogits = model.ops.softmax_cross_entropy(model(x.astype(model.parameter_buffer.dtype)), labels)
            model.backward(dlogits)
            optimizer.step()
            of_model.append(float(loss))
    expect_as_exact(*losses)
    for arrays in zip(*(model.gradients().values() for model in models), strict=True):
        assert arrays[2].any()
        expect_as_exact(*arrays)
    expect_as_exact(*(model.parameter_buffer for model in models))


def test_gradient_by_difference_quotients(rng: Rng) -> None:
    """dL/dw is (L(w + d) - L(w - d)) / 2d in float64, along one random direction in each parameter."""
    model = LeNet5(seed=1, ops=float64_reference())
    x, labels = rng.standard_normal((3, 1, 28, 28)), rng.integers(0, 10, 3)

    def loss() -> float:
        return float(model.ops.softmax_cross_entropy(model(x), labels)[0])

    model.backward(model.ops.softmax_cross_entropy(model(x), labels)[1])
    gradients = {name: array.copy() for name, array in model.gradients().items()}
    for name, array in model.parameters().items():
        direction, before = 1e-5 * rng.standard_normal(array.shape), array.copy()
        array[...] = before + direction
        more = loss()
        array[...] = before - direction
        quotient, slope = (more - loss()) / 2, float((gradients[name] * direction).sum())
        array[...] = before
        assert abs(quotient - slope) < 1e-5 * abs(slope) + 1e-12, name


@pytest.mark.oracle
def test_same_as_pytorch(torch: Any, rng: Rng) -> None:
    """PyTorch's network takes the state_dict as it is, and gives the same logits and gradients."""
    from torch import nn as tnn

    layers = {
        "conv1": tnn.Conv2d(1, 6, 5, padding=2),
        "tanh1": tnn.Tanh(),
        "pool1": tnn.AvgPool2d(2),
        "conv2": tnn.Conv2d(6, 16, 5),
        "tanh2": tnn.Tanh(),
        "pool2": tnn.AvgPool2d(2),
        "flatten": tnn.Flatten(),
        "fc1": tnn.Linear(400, 120),
        "tanh3": tnn.Tanh(),
        "fc2": tnn.Linear(120, 84),
        "tanh4": tnn.Tanh(),
        "fc3": tnn.Linear(84, 10),
    }
    theirs, ours = tnn.Sequential(), LeNet5(seed=6)
    for name, layer in layers.items():
        theirs.add_module(name, layer)
    theirs.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in ours.state_dict().items()})
    x, labels = normals(rng, (7, 1, 28, 28)), rng.integers(0, 10, 7)
    logits = theirs(torch.from_numpy(x))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    y = ours(x)
    np.testing.assert_allclose(y, logits.detach().numpy(), rtol=1e-4, atol=1e-6)
    ours.backward(ops.softmax_cross_entropy(y, labels)[1])
    expected = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    for name, gradient in ours.gradients().items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_same_bits_for_any_number_of_threads(level: str, rng: Rng) -> None:
    before, results = get_num_threads(), []
    model, x, dy = LeNet5(), normals(rng, (37, 1, 28, 28)), normals(rng, (37, 10))
    for count in (1, 2, 3, 5):
        set_num_threads(count)
        logits = model(x)
        model.backward(dy)
        results.append((logits, model.gradient_buffer.copy()))
    set_num_threads(before)
    for other in results[1:]:
        expect_same_bits(other, results[0])


def test_an_image_alone_and_in_a_batch(level: str, rng: Rng) -> None:
    model, x = LeNet5().eval(), normals(rng, (37, 1, 28, 28))
    together, frozen = model(x), model.freeze()
    for i in (0, 16, 36):
        expect_same_bits(model(x[i : i + 1])[0], together[i])
        expect_same_bits(frozen(x[i : i + 1])[0], together[i])


def test_save_and_load(tmp_path: Path, rng: Rng) -> None:
    model, path = LeNet5(seed=9), tmp_path / "lenet5.safetensors"
    save_model(path, model.state_dict())
    other = LeNet5(seed=1)
    other.load_state_dict(load_model(path, other))
    expect_same_bits(other.parameter_buffer, model.parameter_buffer)
    with pytest.raises(CheckpointError, match=r"not this network's parameters; conv1\.bias expects shape \(20,\), got \(6,\)"):
        load_model(path, LeNet())


def test_padding_is_to_32_pixels(rng: Rng) -> None:
    """An image of 28x28 is the same as one of 32x32 with zeros around it, for the same parameters."""
    x = normals(rng, (2, 1, 28, 28))
    around = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    expect_equal(LeNet5(seed=3)(x), LeNet5(seed=3, input_shape=(1, 32, 32))(around))


@pytest.mark.parametrize(
    ("shape", "columns"), [((1, 1, 1), 25), ((1, 8, 8), 25), ((1, 27, 31), 25), ((3, 32, 32), 25), ((2, 40, 36), 42)]
)
def test_images_of_other_sizes(shape: tuple[int, int, int], columns: int, rng: Rng) -> None:
    model = LeNet5(input_shape=shape)
    assert model.input_shape == shape
    assert model.state_dict()["conv1.weight"].shape == (6, shape[0], 5, 5)
    assert model.state_dict()["fc1.weight"].shape == (120, 16 * columns)
    y = model(normals(rng, (2, *shape)))
    assert y.shape == (2, 10)
    model.backward(y)
    assert all(array.any() for array in model.gradients().values())


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28, 1), (0, 28, 28), (1, 28, -28), (1, 28.0, 28), "28", None, 28])
def test_wrong_sizes(shape: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^LeNet5: input_shape expects \(channels, height, width\), at least 1 channel and 1 pixel a side, got ",
    ):
        LeNet5(input_shape=shape)


def test_from_a_recipe() -> None:
    model = LeNet5.of(Recipe(seed=7, dropout=0.25, dropout_fc1=0.125, algorithm="winograd"), input_shape=(3, 8, 8), classes=4)
    kinds = [(name, layer.p) for name, layer in zip(model.names, model.layers, strict=True) if isinstance(layer, nn.Dropout)]
    assert kinds == [("dropout1", 0.125), ("dropout2", 0.25)]
    assert model.names[model.names.index("dropout1") + 1] == "fc1" and model.names[model.names.index("dropout2") + 1] == "fc2"
    assert (model.seed, model.algorithm, model.input_shape) == (7, "winograd", (3, 8, 8))
    expect_same_bits(model.parameter_buffer, LeNet5(7, input_shape=(3, 8, 8), classes=4).parameter_buffer)
    with pytest.raises(TypeError, match=r"LeNet5\.of: recipe expects a Recipe, got str"):
        LeNet5.of("default")  # type: ignore[arg-type]
