"""fastlenet evaluate: what it prints, its errors, its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastlenet
from fastlenet import Ensemble, LeNet
from fastlenet.cli.main import main
from fastlenet.data import load
from helpers.command import Result, one_line

Command = Callable[..., Result]


@pytest.fixture
def evaluate(small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in a folder of the test's own; on 500 images, unless --data names others."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def run(*arguments: str | Path) -> Result:
        data = [] if "--data" in arguments else ["--data", small_mnist]
        try:
            code = main(["evaluate", *map(str, [*arguments, *data])])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        return Result(code, *capsys.readouterr())

    return run


def test_the_pretrained_network(evaluate: Command, small_mnist: Path) -> None:
    expected = LeNet.pretrained().evaluate(load(small_mnist))
    done = evaluate()
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "LeNet.pretrained(): LeNet for images of 1x28x28" and lines[1].endswith(": 500 test images")
    assert "\n".join(lines[3:]) == str(expected) and all(len(line) <= 80 for line in lines)


def test_json(evaluate: Command, small_mnist: Path) -> None:
    done = evaluate("--json", "--tta", "--part", "test", "--test-batch-size", "99")
    said = json.loads(done.out)
    expected = LeNet.pretrained().evaluate(load(small_mnist), tta=True)
    assert done.code == 0 and done.out.count("\n") == 1
    assert {name: said[name] for name in expected.as_dict()} == expected.as_dict()
    assert (said["network"], said["networks"], said["part"], said["tta"]) == ("LeNet", 1, "test", True)
    assert said["version"] == fastlenet.config()["version"] and said["images"] == 500
    assert said["classes"][3].keys() == {"label", "images", "correct", "accuracy", "precision", "recall"}


def test_a_file_of_the_command_and_an_ensemble(evaluate: Command, train_here: Command, small_mnist: Path) -> None:
    flags = ("--data", small_mnist, "--recipe", "fast", "--dry-run", "--json")
    for count, name in ((1, "one.safetensors"), (2, "two.safetensors")):
        trained = json.loads(train_here(*flags, "--ensemble", count, "--save-model", name).out)
        said = json.loads(evaluate(name, "--json").out)
        assert (said["accuracy"], said["networks"]) == (trained["accuracy"], count)
    assert evaluate("two.safetensors").out.startswith("two.safetensors: 2 networks, each LeNet for images of 1x28x28\n")


def test_named_classes(evaluate: Command, tmp_path: Path) -> None:
    """Pictures in folders: the names of the folders are those of the classes. All are evaluated on: there is no test part."""
    from PIL import Image

    for number in range(8):
        name = ("ant", "bee")[number % 2]
        (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 200 * (number % 2), np.uint8)).save(tmp_path / "pictures" / name / f"{number}.png")
    data = load(tmp_path / "pictures")
    model = LeNet(input_shape=data.input_shape, classes=2)
    fastlenet.fit(model, data, "fast", epochs=1, verbose=0)
    model.save("m.safetensors")
    said = json.loads(evaluate("m.safetensors", "--data", "pictures", "--json").out)
    assert [row["label"] for row in said["classes"]] == ["ant", "bee"] and said["images"] == 8


def test_pictures_of_several_sizes(evaluate: Command, tmp_path: Path) -> None:
    """They are brought to the size of the model by the flag that brought them to it in training."""
    from PIL import Image

    for number in range(4):
        (tmp_path / "pictures" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (12 + number, 12)).save(tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png")
    model = LeNet(input_shape=(1, 16, 16), classes=2)
    model.set_facts(mean=0.5, std=0.5, class_names=("a", "b"))
    model.save("m.safetensors")
    assert one_line(evaluate("m.safetensors", "--data", "pictures")).endswith("or give --image-size N")
    said = json.loads(evaluate("m.safetensors", "--data", "pictures", "--image-size", "16", "--json").out)
    assert said["images"] == 4


def test_a_file_without_facts(evaluate: Command, tmp_path: Path) -> None:
    save_file(LeNet().state_dict(), tmp_path / "old.safetensors")
    done = evaluate("old.safetensors")
    assert done.code == 0
    assert one_line(done, 0).startswith(
        "fastlenet evaluate: old.safetensors: does not say how its images are normalised; taken"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere.safetensors",), "nowhere.safetensors: no such file"),
        (("text",), "text: damaged, or not a safetensors file"),
        (("new.safetensors",), "new.safetensors: does not say how its images are normalised; in Python, call model.set_facts"),
        (("--data", "nowhere"), "nowhere"),
        (("small.safetensors",), "images of 1x28x28, where small.safetensors takes images of 1x8x8"),
        (("three.safetensors",), ": labels expects labels of the 3 classes, 0, 1, 2, got [^;]*$"),
        (("--part", "validation"), "no validation images to report on"),
        (("--part", "tests"), "argument --part: invalid choice: 'tests'"),
        (("--test-batch-size", "0"), "--test-batch-size expects a positive integer, got 0"),
        (("--test-batch", "9"), "unrecognized arguments: --test-batch; did you mean --test-batch-size"),
        (("a.safetensors", "b.safetensors"), "unrecognized arguments: b.safetensors"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], line: str, evaluate: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    LeNet().save("new.safetensors")
    for name, model in {"small": LeNet(input_shape=(1, 8, 8)), "three": LeNet(classes=3)}.items():
        model.set_facts(mean=0.5, std=0.5)
        model.save(f"{name}.safetensors")
    done = evaluate(*arguments)
    assert done.out == "" and re.search(line, one_line(done)), done


def test_an_ensemble_that_python_saved(evaluate: Command) -> None:
    members = [LeNet(seed) for seed in range(2)]
    for member in members:
        member.set_facts(mean=0.1, std=0.3)
    Ensemble(members).save("m.safetensors")
    assert json.loads(evaluate("m.safetensors", "--json").out)["networks"] == 2
