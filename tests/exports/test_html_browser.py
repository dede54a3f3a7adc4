"""The exported page in a real browser: drawn on by mouse, finger, pen and keys, its answer is Python's, to the bit."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, predict_image
from fastlenet.data import Dataset
from fastlenet.quantization import QuantizedModel
from helpers.browser import Browser, Pointer
from helpers.exported import Seen, draw, seen, text_of
from helpers.strokes import DIGITS

pytestmark = pytest.mark.browser


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


def test_the_drawing_can_be_saved_and_read_by_python(
    browser: Browser, page: Path, model: LeNet, quantized: QuantizedModel, tmp_path: Path
) -> None:
    """The browser's menu saves it, in dark mode too black on white. The menu opens, but not while one draws."""
    browser.open(page, dark=True)
    draw(browser, 9)
    answer = seen(browser)
    text = browser.run("return canvas.toDataURL().split(',')[1]")
    (tmp_path / "drawing.png").write_bytes(base64.b64decode(text))
    np.testing.assert_array_equal(predict_image(model, tmp_path / "drawing.png").image.reshape(-1), answer.image)
    opens = "return canvas.dispatchEvent(new MouseEvent('contextmenu', {cancelable: true}))"
    assert browser.run(opens)
    browser.run("pointer = 1")
    assert not browser.run(opens)


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
