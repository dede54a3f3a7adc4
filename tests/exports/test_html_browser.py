"""The exported page in a real browser: drawn on by mouse, finger, pen and keys, its answer is Python's, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, nn, predict_image
from fastlenet.data import Dataset
from fastlenet.quantization import QuantizedModel
from helpers.browser import Browser, Pointer
from helpers.exported import model_of
from helpers.strokes import DIGITS

pytestmark = pytest.mark.browser

DRAWN = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PIXELS = """
  const {data} = document.getElementById('canvas').getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, btoa(Array.from(data, value => String.fromCharCode(value)).join(''))];
"""
SEEN = """
  const {image, count, cut, logits, probabilities} = fastlenet.seen();
  return [Array.from(image), count, cut, Array.from(logits), probabilities];
"""
FOCUS = "document.getElementById('canvas').focus({focusVisible: true})"


class Seen(NamedTuple):
    """What the page saw and answered. pixels: uint8 (h, w, 4), the drawing; image: uint8, as the network got it."""

    pixels: np.ndarray
    image: np.ndarray
    count: int
    cut: bool
    logits: np.ndarray
    probabilities: np.ndarray


def seen(browser: Browser) -> Seen:
    import base64

    browser.run(DRAWN)
    h, w, text = browser.run(PIXELS)
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(h, w, 4)
    image, count, cut, logits, probabilities = browser.run(SEEN)
    return Seen(pixels, np.uint8(image), count, cut, np.float32(logits), np.float64(probabilities))


def draw(browser: Browser, digit: int, pointer: Pointer = "mouse") -> None:
    for stroke in DIGITS[digit]:
        browser.stroke("#canvas", stroke, pointer)


def text_of(browser: Browser, name: str) -> str:
    return str(browser.run("return document.getElementById(arguments[0]).textContent", name))


@pytest.fixture(scope="module")
def model() -> LeNet:
    return LeNet.pretrained()


@pytest.fixture(scope="module")
def quantized(model: LeNet, mnist: Dataset) -> QuantizedModel:
    return model.quantize(mnist)


@pytest.fixture(scope="module")
def page(model: LeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fastlenet.export(model, tmp_path_factory.mktemp("page") / "m.html").path


def same_as_python(answer: Seen, model: LeNet, quantized: QuantizedModel) -> None:
    """The 28x28 pixels byte for byte, the scores to the bit."""
    expected = predict_image(model, answer.pixels)
    np.testing.assert_array_equal(answer.image.reshape(28, 28), expected.image)
    logits = quantized.logits(expected.image[None, None])
    np.testing.assert_array_equal(answer.logits, logits[0])
    np.testing.assert_allclose(answer.probabilities, quantized.predict_proba(expected.image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pointer", ["mouse", "touch", "pen"])
def test_ten_digits_by_hand(browser: Browser, page: Path, model: LeNet, quantized: QuantizedModel, pointer: Pointer) -> None:
    width = 390 if pointer == "touch" else 1280
    browser.open(page, width, 844, touch=pointer == "touch")
    for digit in DIGITS:
        draw(browser, digit, pointer)
        answer = seen(browser)
        same_as_python(answer, model, quantized)
        assert answer.probabilities.argmax() == digit and text_of(browser, "label") == str(digit)
        assert text_of(browser, "announcement").startswith(f"{digit}, ")
        browser.run("document.getElementById('clear').click()")
        assert (seen(browser).pixels == 255).all() and text_of(browser, "label") == ""
    assert (browser.errors(), browser.requests(), browser.overflow()) == ([], [], 0)


def scribbles(rng: np.random.Generator) -> list[list[list[float]]]:
    """A few strokes of any size at any place, over the edges too, in the drawing's pixels."""
    middle, size = rng.uniform(0, 400, 2), rng.uniform(3, 250)
    counts = rng.integers(1, 9, rng.integers(1, 5))
    return [(middle + rng.normal(0, size / 2, (count, 2))).round(1).tolist() for count in counts]


def test_scribbles_of_any_kind(browser: Browser, page: Path, model: LeNet, quantized: QuantizedModel, rng: Any) -> None:
    """Dots, several figures, strokes over the edges: whatever Python says of them, the page says."""
    browser.open(page)
    counts, cuts = set(), set()
    for _ in range(60):
        script = "strokes.splice(0, strokes.length, ...arguments[0]); changed()"
        browser.run(script, scribbles(rng))
        answer = seen(browser)
        expected = predict_image(model, answer.pixels)
        if (answer.pixels[:, :, 0] < 255).mean() > 0.4:
            continue  # hardly a drawing: there Python estimates what is paper
        counts.add(min(answer.count, 2))
        cuts.add(answer.cut)
        assert (answer.count == 0) == (expected.label is None)
        several = [line for line in expected.warnings if line.startswith("several")]
        assert (f"{answer.count} of about" in several[0]) if several else answer.count <= 1
        if not any(line.startswith("no digit") for line in expected.warnings):  # which Python says instead
            assert answer.cut == any("border" in line for line in expected.warnings)
        same_as_python(answer, model, quantized)
    assert counts == {0, 1, 2} and cuts == {False, True}


def test_images_of_mnist(browser: Browser, page: Path, mnist: Dataset, quantized: QuantizedModel) -> None:
    browser.open(page)
    images = mnist.test_images[:500].reshape(500, -1)
    script = "return arguments[0].map(image => { const a = fastlenet.predict(image); return [[...a.logits], a.probabilities] })"
    answers = [answer for start in range(0, 500, 100) for answer in browser.run(script, images[start : start + 100].tolist())]
    logits, probabilities = (np.array(part) for part in zip(*answers, strict=True))
    np.testing.assert_array_equal(logits.astype(np.float32), quantized.logits(mnist.test_images[:500, None]))
    np.testing.assert_allclose(probabilities, quantized.predict_proba(mnist.test_images[:500]), rtol=0, atol=1e-6)


def test_the_time_of_a_prediction(browser: Browser, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed; it cannot fail on a slow machine."""
    browser.open(page)
    draw(browser, 5)
    script = """
      const {image} = fastlenet.seen(), times = {};
      for (const [name, work] of [["network", () => fastlenet.predict(image)], ["drawing to image", () => framed()]]) {
        for (let i = 0; i < 100; i++) work();
        const start = performance.now();
        for (let i = 0; i < 100; i++) work();
        times[name] = (performance.now() - start) / 100;
      }
      return times;
    """
    times = browser.run(script)
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {time:.2f} ms" for name, time in times.items()))
    assert "ms for each answer" in text_of(browser, "time")


def test_activations_are_those_of_python(browser: Browser, page: Path, quantized: QuantizedModel) -> None:
    browser.open(page)
    draw(browser, 8)
    image = seen(browser).image.reshape(28, 28)
    for index, (name, expected) in enumerate(quantized.activations(image).items()):
        found = browser.run("return [...fastlenet.seen().activations[arguments[0]]]", index)
        np.testing.assert_array_equal(np.float32(found), expected.reshape(-1).astype(np.float32), name)


def test_the_pictures_show_them(browser: Browser, page: Path, quantized: QuantizedModel) -> None:
    """The 28x28 pixels as they are; of each convolution all maps, where there is something."""
    browser.open(page)
    draw(browser, 3)
    answer = seen(browser)
    script = "const c = document.getElementById('image'); return [...c.getContext('2d').getImageData(0, 0, 28, 28).data]"
    np.testing.assert_array_equal(np.uint8(browser.run(script)).reshape(784, 4)[:, :3], np.repeat(answer.image[:, None], 3, 1))
    script = """
      return [...document.querySelectorAll('#layers figure')].map(figure => [figure.querySelector('h2').textContent,
        [...figure.querySelectorAll('canvas')].map(c => [c.height, c.width,
          [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)])]);
    """
    activations = quantized.activations(answer.image.reshape(28, 28))
    shown = browser.run(script)
    assert [name for name, _ in shown] == ["conv1", "conv2"]
    for name, maps in shown:
        assert len(maps) == len(activations[name])
        for (h, w, opacity), expected in zip(maps, activations[name], strict=True):
            strong = expected > 0.02 * activations[name].max()
            assert (np.array(opacity).reshape(h, w)[strong] > 0).all() and (
                np.array(opacity).reshape(h, w)[expected == 0] == 0
            ).all()


def test_drawing_by_keys(browser: Browser, page: Path, model: LeNet, quantized: QuantizedModel) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    browser.keys(Keys.TAB)
    assert browser.run("return document.activeElement.id") == "canvas"
    assert browser.run("return getComputedStyle(paper).outlineStyle") == "solid" and not browser.run("return pen.hidden")
    browser.keys(
        *[Keys.ARROW_LEFT] * 6, " ", *[Keys.ARROW_RIGHT] * 12, *[Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_LEFT] * 6
    )
    browser.keys(*[Keys.ARROW_DOWN] * 10, " ")
    answer = seen(browser)
    same_as_python(answer, model, quantized)
    assert answer.probabilities.argmax() == 7 and text_of(browser, "announcement").startswith("7, ")
    browser.keys(*[Keys.ARROW_UP] * 3)  # the pen is up
    assert (seen(browser).pixels == answer.pixels).all()
    browser.keys("c")
    assert (seen(browser).pixels == 255).all() and text_of(browser, "announcement") == "Cleared."
    browser.keys("u")
    assert (seen(browser).pixels == answer.pixels).all()
    browser.keys(Keys.TAB)
    assert browser.run("return document.activeElement.id") == "undo" and browser.run("return pen.hidden")
    assert browser.errors() == []


def test_undo_and_clear(browser: Browser, page: Path) -> None:
    browser.open(page)
    blank = seen(browser).pixels
    browser.stroke("#canvas", DIGITS[4][0])
    one = seen(browser).pixels
    browser.stroke("#canvas", DIGITS[4][1])
    two = seen(browser).pixels
    assert not (one == two).all()
    for button, expected in (
        ("undo", one),
        ("clear", blank),
        ("undo", one),
        ("undo", blank),
        ("undo", blank),
        ("clear", blank),
    ):
        browser.driver.find_element("id", button).click()
        np.testing.assert_array_equal(seen(browser).pixels, expected)
    assert browser.errors() == []


def test_a_second_finger_does_not_draw(browser: Browser, page: Path) -> None:
    browser.open(page, touch=True)
    box = browser.run("const b = canvas.getBoundingClientRect(); return [b.left, b.top, b.width]")
    at = [{"x": box[0] + x * box[2], "y": box[1] + 0.5 * box[2], "id": index} for index, x in enumerate((0.2, 0.8))]
    browser.cdp("Input.dispatchTouchEvent", type="touchStart", touchPoints=at[:1])
    browser.cdp("Input.dispatchTouchEvent", type="touchStart", touchPoints=at)
    browser.cdp("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    pixels = seen(browser).pixels[:, :, 0]
    assert (pixels[:, :200] < 255).any() and (pixels[:, 200:] == 255).all()


@pytest.mark.parametrize("button", ["undo", "clear"])
def test_undo_in_the_middle_of_a_stroke(browser: Browser, page: Path, button: str) -> None:
    browser.open(page)
    box = browser.run("const b = canvas.getBoundingClientRect(); return [b.left, b.top]")
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    for kind, at in (("mousePressed", 100), ("mouseMoved", 200)):
        browser.cdp("Input.dispatchMouseEvent", type=kind, x=box[0] + at, y=box[1] + 150, **mouse)
    assert (seen(browser).pixels < 255).any()
    browser.run("document.getElementById(arguments[0]).click()", button)
    for kind, at in (("mouseMoved", 300), ("mouseReleased", 300)):
        browser.cdp("Input.dispatchMouseEvent", type=kind, x=box[0] + at, y=box[1] + 150, **mouse)
    assert (seen(browser).pixels == 255).all() and browser.errors() == []
    draw(browser, 1)
    assert seen(browser).probabilities.argmax() == 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_fits_and_is_readable(browser: Browser, page: Path, width: int, dark: bool) -> None:
    """Nobody scrolls sideways, and text differs enough from what is behind it: 4.5 to 1, as WCAG 2 asks."""
    browser.open(page, width, 844, dark=dark)
    before = seen(browser).pixels
    draw(browser, 2)
    drawn = seen(browser)
    assert browser.overflow() == 0 and drawn.probabilities.argmax() == 2 and (before == 255).all()
    script = """
      const rgb = text => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = e => { while (e && /, 0\\)$|transparent/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
        return rgb(getComputedStyle(e ?? document.documentElement).backgroundColor); };
      const written = e => [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim());
      return [...document.querySelectorAll('header *, main *, footer *')].filter(written).map(e => {
        const [one, other] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => b - a);
        return [e.textContent.trim().slice(0, 30), (one + 0.05) / (other + 0.05)];
      });
    """
    ratios = browser.run(script)
    assert len(ratios) > 20 and [entry for entry in ratios if entry[1] < 4.5] == []
    small = "return [...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 44).length"
    assert browser.run(small) == 0
    assert (browser.errors(), browser.requests()) == ([], [])


def test_resizing_and_darkness_keep_the_drawing(browser: Browser, page: Path) -> None:
    browser.open(page)
    draw(browser, 6)
    before = seen(browser)
    accent = "return getComputedStyle(document.querySelector('.first .bar')).backgroundColor"
    light = browser.run(accent)
    browser.size(390, 844)
    browser.dark(True)
    after = seen(browser)
    assert (after.pixels == before.pixels).all() and (after.logits == before.logits).all() and browser.overflow() == 0
    assert browser.run(accent) != light
    browser.dark(True, reduced_motion=True)
    assert browser.run("return getComputedStyle(document.querySelector('.bar')).transitionDuration") in ("0s", "1e-05s")


def test_no_script_but_its_own_runs(browser: Browser, page: Path) -> None:
    """The content security policy blocks injected scripts, requests and eval."""
    browser.open(page)
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'globalThis.injected = 1'; document.body.append(s)"
    )
    assert browser.run("return globalThis.injected ?? null") is None
    assert browser.run("return fetch('http://127.0.0.1:9/').then(() => 'reached', error => String(error))").startswith(
        "TypeError"
    )
    assert any("Content Security Policy" in line for line in browser.errors())


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
    np.testing.assert_array_equal(answer.logits, quantized.logits(expected[None])[0])
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in model.layers)
    assert browser.run("return document.querySelectorAll('#layers figure').length") == convolutions
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


def test_random_networks(browser: Browser, page: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    browser.open(page)
    script = """
      const {layers, bytes} = arguments[0], ready = prepared(layers, bytes);
      return arguments[1].map(image => [...activations(ready, Uint8Array.from(image)).at(-1)]);
    """
    for _ in range(40):
        model = random_network(rng)
        images = rng.integers(0, 256, (6, *(model.facts.input_shape or ())), dtype=np.uint8)
        images[0], images[1], images[2][images[2] < 128] = 0, 255, 0
        known = model_of(fastlenet.export(model, tmp_path / "m.html", data=images).path)
        logits = browser.run(script, known, images.reshape(6, -1).tolist())
        np.testing.assert_array_equal(np.float32(logits), model.quantize(images).logits(images), repr(model))


def averaged(ink: np.ndarray, h: int, w: int) -> np.ndarray:
    """Means over equal areas, in whole numbers until the last division."""

    def covered(before: int, after: int) -> np.ndarray:
        part, place = np.arange(after)[:, None], np.arange(before)
        low, high = np.maximum(part * before, place * after), np.minimum((part + 1) * before, (place + 1) * after)
        return np.maximum(high - low, 0)

    return np.rint(covered(ink.shape[0], h) @ ink @ covered(ink.shape[1], w).T / ink.size).astype(np.uint8)
