"""The exported page is one file that asks for nothing, carries the network's integers, and takes any words as class names."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import Chain, LeNet, nn
from fastlenet.cli.main import main
from fastlenet.data import Dataset
from fastlenet.exports import ExportError
from helpers.exported import model_of

NASTY = (
    "</script><script>alert(1)</script>",
    "<!-- <b>",
    'a "quoted" & long word: é 猫',
    "\u2028",
    "{{script}}",
    "\\u003c",
    "7",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fastlenet.export(LeNet.pretrained(), tmp_path_factory.mktemp("page") / "m.html").path


def tiny(input_shape: tuple[int, int, int], classes: int, **facts: Any) -> nn.Sequential:
    size = int(np.prod(input_shape))
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, classes), seed=1, input_shape=input_shape)
    model.set_facts(mean=0.5, std=0.5, **facts)
    return model.eval()


def test_one_file_that_asks_for_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    assert page.stat().st_size < 700_000
    for asks in (
        "http:",
        "https:",
        "//cdn",
        "@import",
        "url(",
        "src=",
        '<link rel="stylesheet',
        "fetch(",
        "XMLHttpRequest",
        "eval(",
    ):
        assert asks not in text, asks
    assert re.findall(r"<link[^>]*>", text) == ['<link rel="icon" href="data:,">']
    assert "{{" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)


def test_the_policy_allows_this_script_and_this_style_only(page: Path) -> None:
    text = page.read_text("utf-8")
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[0].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for name, kind in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (inner,) = re.findall(kind, text, re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_the_page_has_the_quantized_network(page: Path, mnist: Dataset) -> None:
    quantized = LeNet.pretrained().quantize(mnist)
    known = model_of(page)
    arrays = base64.b64decode(known["bytes"])
    assert known["class_names"] == [*"0123456789"] and known["input_shape"] == [1, 28, 28]
    for layer, written in zip(quantized.layers, known["layers"], strict=True):
        assert written["name"] == layer.name and tuple(written["output_shape"]) == layer.output_shape
        for name, place in written["arrays"].items():
            size = int(np.prod(place["shape"]))
            found = np.frombuffer(arrays, place["type"], size, place["offset"]).reshape(place["shape"])
            np.testing.assert_array_equal(found, vars(layer)[name])


def test_class_names_are_words_not_code(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (20, 1, 6, 5), dtype=np.uint8)
    path = fastlenet.export(tiny((1, 6, 5), len(NASTY), class_names=NASTY), tmp_path / "m.html", data=images).path
    assert model_of(path)["class_names"] == [*NASTY]
    text = path.read_text("utf-8")
    assert text.lower().count("</script") == 2 and "alert(1)" not in text.replace("\\u003cscript>alert(1)", "")
    assert "Draw one of 7 classes" in text and "averaged down to 6x5 pixels" in text


def test_a_model_of_colours_says_what_it_gets(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    path = fastlenet.export(tiny((3, 8, 8), 4), tmp_path / "m.html", data=images).path
    assert "Its gray is given to all 3 channels." in path.read_text("utf-8")
    assert model_of(path)["class_names"] == ["0", "1", "2", "3"]


def chain() -> nn.Sequential:
    model = Chain()
    model.set_facts(mean=0.0, std=1.0)
    return model


class Own(nn.Layer):
    def forward(self, x: Any, context: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (chain, "needs a model of images|image"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2), seed=0), "set_facts"),
        (
            lambda: nn.Sequential(nn.Flatten(), Own(), nn.Linear(4, 2), seed=0, input_shape=(1, 2, 2)),
            "not a layer of the library",
        ),
    ],
    ids=["no image", "no facts", "own layer"],
)
def test_refusals_are_one_line(tmp_path: Path, make: Callable[[], nn.Sequential], message: str) -> None:
    with pytest.raises((ExportError, TypeError, ValueError), match=message) as error:
        fastlenet.export(make(), tmp_path / "m.html", data=np.zeros((5, 1, 2, 2), np.uint8))
    assert "\n" not in str(error.value) and not (tmp_path / "m.html").exists()


def test_the_command(tmp_path: Path, mnist: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    few = {
        f"{part}_{what}": getattr(mnist, f"{part}_{what}")[:300] for part in ("train", "test") for what in ("images", "labels")
    }
    np.savez(tmp_path / "few.npz", **few)
    file = tmp_path / "page.html"
    assert main(["export", str(file), "--data", str(tmp_path / "few.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: {file.stat().st_size:,} bytes" and lines[1].startswith("open it in a browser")
    assert "accuracy on the 300 test images" in lines[2]
    assert main(["export", str(file), "--with-normalisation"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
