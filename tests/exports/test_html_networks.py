"""Pages of networks of every kind, in a real browser: their scores are Python's to the bit, and their words are words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet import nn, predict_image
from helpers.browser import Browser
from helpers.exported import draw, seen, text_of

pytestmark = pytest.mark.browser

NAMES = (
    "</script><script>globalThis.hacked=1</script>",
    "<img src=x onerror=globalThis.hacked=1>",
    'a "quoted" & long word: é 猫 \u202e',
)


def small(input_shape: tuple[int, int, int], names: tuple[str, ...], *layers: nn.Layer) -> nn.Sequential:
    model = nn.Sequential(*layers, seed=3, input_shape=input_shape)
    model.set_facts(mean=[0.4] * input_shape[0], std=[0.3] * input_shape[0], class_names=names)
    return model.eval()


def rgb() -> nn.Sequential:
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(360, 3)
    return small((3, 12, 20), NAMES, *layers)


def large() -> nn.Sequential:
    layers = nn.Conv2d(1, 5, (3, 5), 2, (1, 2)), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(400, 2)
    return small((1, 40, 32), ("ja", "nein"), *layers)


def no_convolution() -> nn.Sequential:
    return small((1, 8, 8), tuple("abcdefghijklmnopqrstuvw"), nn.Flatten(), nn.Linear(64, 23))


def three_convolutions() -> nn.Sequential:
    first = nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 70, 3), nn.ReLU(), nn.AvgPool2d(3)
    last = nn.Conv2d(70, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(108, 2), nn.Sigmoid()
    return small((1, 28, 28), ("left", "right"), *first, *last)


@pytest.mark.parametrize("make", [rgb, large, no_convolution, three_convolutions])
def test_other_networks(browser: Browser, tmp_path: Path, make: Callable[[], nn.Sequential], rng: np.random.Generator) -> None:
    model = make()
    shape = model.facts.input_shape
    assert shape is not None
    images = rng.integers(0, 256, (50, *shape), dtype=np.uint8)
    quantized = model.quantize(images)
    browser.open(fastlenet.export(model, tmp_path / "m.html", data=images).path, 390)
    draw(browser, 3)
    answer = seen(browser)
    if shape == (1, 28, 28):
        expected = predict_image(model, answer.pixels).image[None]
    else:
        h, w = answer.pixels.shape[:2]
        assert max(h, w) == 400 and abs(h * shape[2] - w * shape[1]) <= max(shape)  # the same form
        expected = np.repeat(averaged(255 - answer.pixels[:, :, 0].astype(int), *shape[1:])[None], shape[0], 0)
    np.testing.assert_array_equal(answer.image.reshape(shape), expected)
    assert expected.max() > 200  # strokes are as wide as pixels
    np.testing.assert_array_equal(answer.logits, quantized.logits(expected[None])[0])
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in model.layers)
    titles = browser.run("return [...document.querySelectorAll('#layers h2')].map(e => e.textContent)")
    assert titles == [f"convolution {number + 1}" for number in range(convolutions)]
    names = list(map(str, model.facts.class_names))
    best = names[int(answer.logits.argmax())]
    shown = browser.run("return [...document.querySelectorAll('#bars .name')].map(e => e.textContent)")
    assert text_of(browser, "label") == best and (shown == names if len(names) <= 20 else shown[0] == best and len(shown) == 10)
    assert browser.run("return globalThis.hacked ?? null") is None
    assert (browser.errors(), browser.requests(), browser.overflow()) == ([], [], 0)


def random_layer(rng: np.random.Generator, size: tuple[int, ...]) -> nn.Layer:
    """A layer for images of that size."""
    window = tuple(int(rng.integers(1, 1 + min(4, side))) for side in size[1:])
    stride, padding = tuple(map(int, rng.integers(1, 3, 2))), tuple(int(rng.integers(0, 1 + side // 2)) for side in window)
    makers: list[Callable[[], nn.Layer]] = [
        lambda: nn.Conv2d(size[0], int(rng.integers(1, 9)), window, stride, padding),
        lambda: nn.Conv2d(size[0], int(rng.integers(1, 9)), window, stride, padding, bias=False),
        lambda: nn.MaxPool2d(window, stride, padding),
        lambda: nn.AvgPool2d(window, stride, padding),
        nn.ReLU,
        nn.Tanh,
        nn.Sigmoid,
        lambda: nn.LeakyReLU(0.1),
    ]
    return makers[rng.integers(len(makers))]()


def random_network(rng: np.random.Generator) -> nn.Sequential:
    """Layers of any kind in any order, on images of any shape."""
    shape = size = (int(rng.integers(1, 4)), *map(int, rng.integers(4, 20, 2)))
    layers: list[nn.Layer] = []
    for _ in range(rng.integers(0, 6)):
        layers.append(random_layer(rng, size))
        size = layers[-1].output_shape(size)
    layers += [nn.Flatten(), nn.Linear(int(np.prod(size)), 7), nn.ReLU(), nn.Linear(7, 3)]
    model = nn.Sequential(*layers, seed=int(rng.integers(1000)), input_shape=shape)
    # An activation of the image itself needs one mean for all channels.
    channels = isinstance(layers[0], (nn.Conv2d, nn.Flatten))
    model.set_facts(mean=rng.uniform(0, 1, shape[0]).tolist() if channels else 0.3, std=0.4)
    return model.eval()


def test_random_networks(browser: Browser, tmp_path: Path, rng: np.random.Generator) -> None:
    for _ in range(40):
        model = random_network(rng)
        images = rng.integers(0, 256, (6, *(model.facts.input_shape or ())), dtype=np.uint8)
        images[0], images[1], images[2][images[2] < 128] = 0, 255, 0
        browser.open(fastlenet.export(model, tmp_path / "m.html", data=images).path)
        script = "return arguments[0].map(image => [...fastlenet.predict(image).logits])"
        logits = browser.run(script, images.reshape(6, -1).tolist())
        np.testing.assert_array_equal(np.float32(logits), model.quantize(images).logits(images), repr(model))
        assert browser.errors() == []


def averaged(ink: np.ndarray, h: int, w: int) -> np.ndarray:
    """Means over equal areas, in whole numbers until the last division."""

    def covered(before: int, after: int) -> np.ndarray:
        part, place = np.arange(after)[:, None], np.arange(before)
        low, high = np.maximum(part * before, place * after), np.minimum((part + 1) * before, (place + 1) * after)
        return np.maximum(high - low, 0)

    return np.rint(covered(ink.shape[0], h) @ ink @ covered(ink.shape[1], w).T / ink.size).astype(np.uint8)
