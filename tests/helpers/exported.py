"""Exported pages: what the file holds, and what it sees and answers in a browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from helpers.browser import Browser, Pointer
from helpers.strokes import DIGITS

__all__ = ["DRAWN", "Seen", "draw", "model_of", "seen", "text_of"]

DRAWN = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PIXELS = """
  const {data} = document.getElementById('canvas').getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, btoa(Array.from(data, value => String.fromCharCode(value)).join(''))];
"""
SEEN = """
  const {image, count, cut, logits, probabilities} = fastlenet.seen();
  return [Array.from(image), count, cut, Array.from(logits), probabilities];
"""


def model_of(page: Path) -> dict[str, Any]:
    """What the page's script reads: the end of a script element is found as a browser finds it."""
    found = re.search(r'<script type="application/json" id="model">(.*?)</script', page.read_text("utf-8"), re.S | re.I)
    assert found is not None
    known: dict[str, Any] = json.loads(found[1])
    return known


class Seen(NamedTuple):
    """What the page saw and answered. pixels: uint8 (h, w, 4), the drawing; image: uint8, as the network got it."""

    pixels: np.ndarray
    image: np.ndarray
    count: int
    cut: bool
    logits: np.ndarray
    probabilities: np.ndarray


def seen(browser: Browser) -> Seen:
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
