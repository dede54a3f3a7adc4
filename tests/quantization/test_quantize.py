"""Networks in integers of 8 bits: their bits by another way of counting, their closeness to the network, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastlenet
from fastlenet import nn
from fastlenet.data import load_mnist
from fastlenet.quantization import QuantizedConv2d, QuantizedLinear, QuantizedModel, quantize
from helpers.arrays import Array
from helpers.networks import NETWORKS, normalised, some_images, with_facts


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_close(name: str) -> None:
    """Each layer adds at most half a unit of its range, and each weight half a unit of the largest: some per cent in all."""
    model = NETWORKS[name]()
    images = some_images(model, 60)
    small = model.quantize(images)
    exact, found = model(normalised(model, images)), small.logits(images)
    assert found.dtype == np.float32 and found.shape == exact.shape
    assert np.abs(found - exact).max() <= 0.1 * np.abs(exact).max()
    assert small.predict(images[0]) == small.predict(images)[0]
    assert list(small.activations(images[:2]))[-1] == small.layers[-1].name


def test_the_calibration_images_are_spread_over_all() -> None:
    """500 of 2,000 images: every fourth, from the first on. The first 500 alone are black."""
    model = NETWORKS["oblong"]()
    images = some_images(model, 2000)
    images[:500] = 0
    chosen, first = model.quantize(images[::4]), model.quantize(images[:500])
    found = model.quantize(images)
    for layer, same, other in zip(found, chosen, first, strict=True):
        for name, value in vars(layer).items():
            assert np.array_equal(value, getattr(same, name)), (layer.name, name)
        if isinstance(layer, QuantizedConv2d):
            assert not np.array_equal(layer.multiplier, other.multiplier)


@pytest.mark.parametrize("name", ["oblong", "colours, strides, padding"])
def test_every_calibration_image_counts(name: str) -> None:
    """In whatever order: only the last tenth, or the first, gives other outputs than zeros do."""
    model = NETWORKS[name]()
    images = some_images(model, 250)
    images[:225] = 0
    one, other = model.quantize(images), model.quantize(images[::-1])
    for layer, same in zip(one, other, strict=True):
        for key, value in vars(layer).items():
            assert np.array_equal(value, getattr(same, key)), (layer.name, key)


def by_hand(layer: QuantizedConv2d | QuantizedLinear, x: Array) -> Array:
    """One image's sums in Python's integers, then one product in float32, rounded to even: what every program must give."""
    if isinstance(layer, QuantizedLinear):
        places, weights, shape = [x.reshape(-1).tolist()], layer.weight, layer.output_shape
    else:
        (rows, columns), (r, s) = layer.padding, layer.weight.shape[2:]
        frame = (rows, rows), (columns, columns)
        planes = zip(x, layer.padding_value, strict=True)
        framed = np.stack([np.pad(plane, frame, constant_values=value) for plane, value in planes])
        shape = layer.output_shape
        corners = [(i * layer.stride[0], j * layer.stride[1]) for i in range(shape[1]) for j in range(shape[2])]
        places = [framed[:, i : i + r, j : j + s].reshape(-1).tolist() for i, j in corners]
        weights = layer.weight.reshape(len(layer.weight), -1)
    y = np.empty((len(weights), len(places)))
    for k, row in enumerate(weights.tolist()):
        for at, place in enumerate(places):
            total = sum(a * b for a, b in zip(row, place, strict=True)) + int(layer.bias[k])
            assert abs(total) < 2**31
            scaled = np.float32(total) * layer.multiplier[k]
            y[k, at] = scaled if layer.zero_point is None else min(max(round(float(scaled)) + layer.zero_point, 0), 255)
    return y.reshape(shape)


@pytest.mark.parametrize("name", ["colours, strides, padding", "a maximum first", "one layer"])
def test_products_by_hand(name: str) -> None:
    model = NETWORKS[name]()
    x = some_images(model, 1)
    small = model.quantize(x)
    for layer in small:
        y = layer(x)
        if isinstance(layer, (QuantizedConv2d, QuantizedLinear)):
            assert np.array_equal(y[0], by_hand(layer, x[0])), layer.name
        x = y  # type: ignore[assignment]


def test_the_packages_network_keeps_its_answers() -> None:
    data, model = load_mnist(), fastlenet.LeNet.pretrained()
    small = model.quantize(data)
    images, labels = data.test_images[:1000], data.test_labels[:1000]
    assert int((small.predict(images) != model.predict(images)).sum()) <= 2
    assert small.evaluate(images[:200], labels[:200]).accuracy == model.evaluate(images[:200], labels[:200]).accuracy
    assert small.nbytes == 431_080 + 580 * 8 + 1 - 580 + 20  # int8 weights, int32 biases, float32 multipliers
    assert small.predict(images[:9] / 255).tolist() == small.predict(images[:9]).tolist()
    assert small.predict_proba(images[:9], tta=True).shape == (9, 10)


@pytest.mark.slow
def test_trained_networks_keep_their_answers() -> None:
    """Within 0.03 points, in the mean over seeds, and at most 15 of 10,000 answers changed; the package's network keeps all."""
    data, kept = load_mnist(), fastlenet.LeNet.pretrained()
    assert np.array_equal(kept.quantize(data).predict(data.test_images), kept.predict(data.test_images))
    gains = []
    for seed in range(3):
        model = fastlenet.LeNet(seed=seed)
        fastlenet.fit(model, data, "fast", seed=seed, verbose=False)
        small = model.quantize(data)
        assert int((small.predict(data.test_images) != model.predict(data.test_images)).sum()) <= 15
        gains.append(small.evaluate(data).accuracy - model.evaluate(data).accuracy)
    assert abs(float(np.mean(gains))) <= 0.0003


def test_sums_fit_32_bits() -> None:
    """66,000 inputs of 255 times 127 would not: the weights take fewer bits then."""
    model = with_facts(nn.Sequential(nn.Flatten(), nn.Linear(90_000, 2)), (1, 300, 300))
    model.state_dict()["1.weight"][...] = 1.0
    images = np.full((3, 300, 300), 255, np.uint8)
    (small,) = [layer for layer in model.quantize(images) if isinstance(layer, QuantizedLinear)]
    assert 255 * int(np.abs(small.weight.astype(np.int64)).sum(axis=1).max()) + int(np.abs(small.bias).max()) <= 2**31 - 1
    found, exact = model.quantize(images).predict_proba(images), model.predict_proba(images)
    assert np.allclose(found, exact, atol=0.02)


def test_a_layer_that_gives_nothing() -> None:
    """All zeros have a scale too."""
    model = with_facts(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 6 * 6, 3)), (1, 8, 8))
    for name in ("0.weight", "0.bias"):
        model.state_dict()[name][...] = 0
    images = some_images(model, 5)
    assert np.allclose(model.quantize(images).predict_proba(images), model.predict_proba(images), atol=0.01)


class Swish(nn.ReLU):
    """A layer of one's own."""


def infinite(model: nn.Sequential) -> nn.Sequential:
    model.state_dict()["conv1.bias"][3] = np.inf
    return model


def test_what_is_refused() -> None:
    images = np.zeros((4, 28, 28), np.uint8)
    unknown = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    own = with_facts(nn.Sequential(nn.Flatten(), Swish(), nn.Linear(784, 10)), (1, 28, 28))
    colours = with_facts(nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    dark = with_facts(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(1568, 3)), (1, 28, 28), mean=-0.3)
    for model, given, message in (
        (dark, images, "layer '0': pads the image by zeros, for which there is no byte; its mean expects numbers in [0, 1]"),
        (unknown, images, "quantize: the model does not know the shape of its images"),
        (own, images, "quantize: layer '1': Swish is not a layer of the library"),
        (infinite(fastlenet.LeNet.pretrained()), images, "got NaN or infinity in conv1.bias"),
        (colours, np.zeros((2, 3, 2, 2), np.uint8), "layer '0': is computed from the image itself"),
        (fastlenet.LeNet.pretrained(), images[:, :5], "images expects images (n, 28, 28)"),
        (fastlenet.LeNet.pretrained(), images[:0], "at least one image"),
        (fastlenet.Chain(), images, "quantize: the model takes examples of shape (1,), not images"),
    ):
        with pytest.raises((TypeError, ValueError)) as refused:
            model.quantize(given)
        assert message in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(TypeError, match="model expects a Sequential"):
        quantize(images, images)  # type: ignore[arg-type]
    small: QuantizedModel = fastlenet.LeNet.pretrained().quantize(images)
    with pytest.raises(ValueError, match="uint8 images"):
        small.logits(images)
