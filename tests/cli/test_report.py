"""fastlenet report: the page that it writes, its errors, its exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, Recipe
from fastlenet.cli.main import main
from fastlenet.data import load
from helpers.command import Result, one_line
from helpers.html import tree, words

Command = Callable[..., Result]


@pytest.fixture
def command(small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of `fastlenet` in a folder of the test's own; on 500 images, unless --data names others."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def run(name: str, *arguments: str | Path) -> Result:
        data = [] if "--data" in arguments else ["--data", small_mnist]
        try:
            code = main([name, *map(str, [*arguments, *data])])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        return Result(code, *capsys.readouterr())

    return run


def test_it_agrees_with_evaluate(command: Command, tmp_path: Path) -> None:
    """Each number of the one is in the other."""
    done = command("report", "-o", "page.html", "--tta")
    said = json.loads(command("evaluate", "--json", "--tta").out)
    low, high = said["interval"]
    numbers = (
        f"accuracy {said['accuracy']:.2%}, 95 % interval {low:.2%} to {high:.2%}, {said['images'] - said['correct']} errors"
    )
    assert (done.code, done.err, done.out) == (0, "", f"page.html: {numbers}\n")
    text = words(tree((tmp_path / "page.html").read_text()))
    assert f"{said['accuracy']:.2%}".replace("%", " %") in text and f"loss{said['loss']:.4f}" in text
    for row in said["classes"]:
        shown = [row["label"], row["images"], f"{row['recall']:.2%}", f"{row['precision']:.2%}"]
        assert "".join(map(str, shown)).replace("%", " %") in text
    matrix = "".join(
        f"{number}{''.join('·' if count == 0 and place != number else str(count) for place, count in enumerate(row))}"
        for number, row in enumerate(said["confusion_matrix"])
    )
    assert matrix in text


def test_the_default_name(command: Command, tmp_path: Path) -> None:
    assert command("report").out.startswith("report.html: accuracy 99.60%")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_curves_and_the_command(command: Command, train_here: Command, small_mnist: Path, tmp_path: Path) -> None:
    """The log's epochs, and a command that trains a network with the same bits."""
    flags = ("--data", small_mnist, "--recipe", "fast", "--epochs", "2", "--seed", "3", "--batch-size", "500")
    train_here(*flags, "--log-json", "log.jsonl", "--save-model", "m.safetensors", "--quiet")
    assert command("report", "m.safetensors", "--log", "log.jsonl").code == 0
    root = tree((tmp_path / "report.html").read_text())
    (section,) = [element for element in root.iter() if element.get("data-section") == "curves"]
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    (label,) = [svg.attrib["aria-label"] for svg in section.iter("svg") if svg.attrib["aria-label"].startswith("loss")]
    assert label == f"loss over the epochs; at the end loss {last['loss']:.4g}, val_loss {last['val_loss']:.4g}"
    (line,) = [words(code) for code in root.iter("code") if words(code).startswith("fastlenet train")]
    assert line.split()[2:4] == ["--data", str(small_mnist)]
    before = (tmp_path / "m.safetensors").read_bytes()
    assert train_here(*line.split()[2:-1], "again.safetensors").code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == before


def test_pictures_in_folders(command: Command, tmp_path: Path) -> None:
    """The names of the folders are those of the classes; the flags that name the data are in the command."""
    from PIL import Image

    for number in range(8):
        name = ("an ant", "<b>bee")[number % 2]
        (tmp_path / "my pictures" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12 + number, 16), 30 * number, np.uint8)).save(
            tmp_path / "my pictures" / name / f"{number}.png"
        )
    data = load(tmp_path / "my pictures", size=(16, 16))
    model = LeNet(input_shape=data.input_shape, classes=2)
    fastlenet.fit(model, data, Recipe(epochs=1), verbose=0)
    model.save("m.safetensors")
    assert command("report", "m.safetensors", "--data", "my pictures", "--image-size", "16").code == 0
    text = words(tree((tmp_path / "report.html").read_text()))
    assert "fastlenet train --data 'my pictures' --image-size 16" in text and "<b>bee" in text and "8 training images" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere.safetensors",), "nowhere.safetensors: no such file"),
        (("--data", "nowhere"), "nowhere"),
        (("--log", "absent"), "absent: No such file or directory"),
        (("--log", "text"), "text: no log of a training; line 1 expects a JSON object"),
        (("-o", "absent/report.html"), "absent"),
        (("-o", "folder"), "folder"),
        (("m.safetensors", "-o", "m.safetensors"), "--output m.safetensors: the command reads this file; choose another name"),
        (("--log", "text", "-o", "./text"), "--output ./text: the command reads this file; choose another name"),
        (("--part", "validation"), "no validation images to report on"),
        (("--outptu", "x"), "did you mean --output"),
        (("--test-batch-size", "0"), "--test-batch-size expects a positive integer, got 0"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], line: str, command: Command, tmp_path: Path) -> None:
    """One line; nothing is written, and nothing that was there is changed."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    LeNet.pretrained().save("m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    done = command("report", *arguments)
    assert done.out == "" and re.search(re.escape(line), one_line(done)), done
    assert not (tmp_path / "report.html").exists() and (tmp_path / "text").read_text() == "hello"
    assert (tmp_path / "m.safetensors").read_bytes() == before


def test_a_full_disk(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that was there stays."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in one_line(command("report"))
    assert (tmp_path / "report.html").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_ctrl_c(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlenet.cli.report.make_report", interrupted)
    done = command("report")
    assert (done.code, done.out, done.err) == (130, "", "\ninterrupted\n")
    assert not (tmp_path / "report.html").exists()
