"""LeNet: the assignment's table, and the whole network on the kernels against the whole network in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, ops, reference
from fastlenet.optim import SGD
from helpers.arrays import normals
from helpers.expect import expect_as_exact, expect_same_bits, float64_reference

Rng = np.random.Generator

# The assignment's table: name, output shape, parameters, multiply-adds.
TABLE = [
    ("conv1", "20x24x24", "520", "288,000"),
    ("pool1", "20x12x12", "0", "0"),
    ("conv2", "50x8x8", "25,050", "1,600,000"),
    ("pool2", "50x4x4", "0", "0"),
    ("fc1", "500", "400,500", "400,000"),
    ("fc2", "10", "5,010", "5,000"),
]


def test_summary() -> None:
    lines = [line.split() for line in LeNet().summary((1, 28, 28)).splitlines()]
    rows = {line[0]: line for line in lines}
    for name, shape, parameters, multiply_adds in TABLE:
        assert rows[name][2:5] == [shape, parameters, multiply_adds]
    assert rows["total"][:3] == ["total", "431,080", "2,293,000"]


def test_shapes_of_the_state_dict() -> None:
    assert {name: array.shape for name, array in LeNet().state_dict().items()} == {
        "conv1.weight": (20, 1, 5, 5),
        "conv1.bias": (20,),
        "conv2.weight": (50, 20, 5, 5),
        "conv2.bias": (50,),
        "fc1.weight": (500, 800),
        "fc1.bias": (500,),
        "fc2.weight": (10, 500),
        "fc2.bias": (10,),
    }
    assert LeNet(classes=26).state_dict()["fc2.weight"].shape == (26, 500)


@pytest.mark.parametrize(
    "shape", [(3, 28, 28), (1, 8, 8), (3, 32, 32), (2, 4, 4), (1, 15, 16), (4, 16, 7), (1, 64, 20)], ids=str
)
def test_other_images(shape: tuple[int, int, int], rng: Rng) -> None:
    """fc1 follows from the size, a pass agrees with NumPy's, and every parameter has a gradient."""
    model = LeNet(input_shape=shape, classes=4)
    judges = [LeNet(input_shape=shape, classes=4, ops=backend) for backend in (reference, float64_reference())]
    assert model.input_shape == shape
    x, labels = normals(rng, (5, *shape)), rng.integers(0, 4, 5)
    results = []
    for network in (model, *judges):
        loss, dlogits = network.ops.softmax_cross_entropy(network(x.astype(network.parameter_buffer.dtype)), labels)
        network.backward(dlogits)
        results.append(network.gradient_buffer)
        assert np.isfinite(loss)
    expect_as_exact(*results)
    for name, gradient in model.gradients().items():
        assert gradient.any(), name


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        *(((28, 28, 3), "; put the channels first, (3, 28, 28)"), ((32, 30, 1), "; put the channels first, (1, 32, 30)")),
        *((shape, "") for shape in ((28, 28), (1, 3, 9), (1, 9, 3), (0, 28, 28), (1, 28.0, 28), (1, 28, -28), 28, "128", None)),
    ],
    ids=str,
)
def test_shapes_that_it_refuses(shape: Any, cure: str) -> None:
    expected = "LeNet: input_shape expects (channels, height, width), at least 1 channel and 4 pixels a side, got "
    with pytest.raises(ValueError) as caught:
        LeNet(input_shape=shape)
    assert str(caught.value) == f"{expected}{shape!r}{cure}"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((2, 3, 28, 28), "layer 'conv1': x expects shape (n, 1, h, w), got (2, 3, 28, 28)"),
        ((2, 28, 28), "layer 'conv1': x expects shape (n, 1, h, w), got (2, 28, 28)"),
        ((28, 28), "layer 'conv1': x expects shape (n, 1, h, w), got (28, 28)"),
        ((2, 784), "layer 'conv1': x expects shape (n, 1, h, w), got (2, 784)"),
        ((2, 1, 4, 4), "layer 'conv1': x expects shape (n, 1, h >= 6, w >= 6), got (2, 1, 4, 4)"),
        ((2, 1, 12, 12), "layer 'conv2': x expects shape (n, 20, h >= 6, w >= 6), got (2, 20, 4, 4)"),
        ((2, 1, 32, 32), "layer 'fc1': x expects shape (n, 800), got (2, 1250)"),
    ],
    ids=str,
)
def test_images_of_other_shapes(images: tuple[int, ...], message: str) -> None:
    """One line that names the layer, what it expects, and what it got."""
    for model in (LeNet(), LeNet().eval(), LeNet().freeze(), LeNet(ops=reference)):
        with pytest.raises(ValueError) as caught:
            model(np.zeros(images, np.float32))
        assert str(caught.value) == message


def test_three_steps_on_both_backends(level: str, threads: int, rng: Rng) -> None:
    """Losses, gradients and parameters of three training steps are as exact as NumPy's in float32; float64 is the judge."""
    models = [LeNet(seed=2, ops=backend) for backend in (ops, reference, float64_reference())]
    optimizers = [SGD(model, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3) for model in models]
    losses: list[list[float]] = [[], [], []]
    for _ in range(3):
        x, labels = normals(rng, (6, 1, 28, 28)), rng.integers(0, 10, 6)
        for model, optimizer, of_model in zip(models, optimizers, losses, strict=True):
            loss, dlogits = model.ops.softmax_cross_entropy(model(x.astype(model.parameter_buffer.dtype)), labels)
            model.backward(dlogits)
            optimizer.step()
            of_model.append(loss)
    expect_as_exact(*losses)
    for arrays in zip(*(model.gradients().values() for model in models), strict=True):
        assert arrays[2].any()
        expect_as_exact(*arrays)
    for arrays in zip(*(model.parameters().values() for model in models), strict=True):
        expect_as_exact(*arrays)


def test_an_image_alone_and_in_a_batch(level: str, threads: int, rng: Rng) -> None:
    model = LeNet()
    model.eval()
    x = normals(rng, (37, 1, 28, 28))
    together = model(x)
    for i in (0, 5, 16, 36):
        expect_same_bits(model(x[i : i + 1])[0], together[i])


def test_same_gradients_for_any_number_of_threads(level: str, rng: Rng) -> None:
    from fastlenet import get_num_threads, set_num_threads

    before = get_num_threads()
    model, x, dy = LeNet(), normals(rng, (37, 1, 28, 28)), normals(rng, (37, 10))
    gradients = []
    for count in (1, 2, 3, 5):
        set_num_threads(count)
        model(x)
        model.backward(dy)
        gradients.append(model.gradient_buffer.copy())
    set_num_threads(before)
    for other in gradients[1:]:
        expect_same_bits(other, gradients[0])
