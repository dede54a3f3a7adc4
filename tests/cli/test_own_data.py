"""`fastlenet train` on own data and with other networks, and its result as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet.cli.result import Result as RunResult
from fastlenet.cli.settings import Settings
from fastlenet.data import Dataset
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.recipe import RECIPES, Recipe
from fastlenet.training.trainer import Trainer
from helpers.command import Result, one_line

Train = Callable[..., Result]

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
# Of three brightnesses, which are soon told apart.
COLOUR = (RNG.integers(128, 256, (60, 9, 8, 3)) * (LABELS + 1)[:, None, None, None] // 3).astype(np.uint8)
FEW_STEPS = ("--epochs", 2, "--batch-size", 20, "--threads", 1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "flowers.npz"
    words = np.array(["aster", "begonia", "crocus"])[LABELS]
    np.savez(path, x_train=COLOUR, y_train=words, x_test=COLOUR[:30], y_test=words[:30])
    return path


# --- --json ---------------------------------------------------------------------------------------------------------------


def test_the_result_as_json(archive: Path, train_here: Train) -> None:
    """One object on standard output, with the numbers that are printed otherwise; all lines on standard error."""
    plain = train_here("--data", archive, *FEW_STEPS, "--seed", 3, "--ensemble", 2)
    result = train_here("--data", archive, *FEW_STEPS, "--seed", 3, "--ensemble", 2, "--json")
    assert result.code == plain.code == 0 and result.out.count("\n") == 1
    found = json.loads(result.out)
    assert plain.out.endswith(f"final accuracy {found['accuracy']:.2%}\n")
    assert "epoch 2/2" in result.err and "final accuracy" not in result.err
    expected = {
        **{"part": "test", "epochs": 2, "data": "flowers", "classes": 3, "network": "lenet", "networks": 2, "seed": 3},
        **{"level": fastlenet.config()["level"], "device": "cpu", "threads": 1, "version": fastlenet.config()["version"]},
    }
    assert {name: found[name] for name in expected} == expected
    expected_recipe = replace(RECIPES["default"], epochs=2, batch_size=20, seed=3)
    assert Recipe(**{k: v for k, v in found["recipe"].items() if k != "name"}) == expected_recipe
    assert found["recipe"]["name"] == "default" and 0 < found["loss"] < 5 and 0 < found["test_loss"] < 5
    assert set(found["seconds"]) == {"data", "training", "evaluation"} and all(value > 0 for value in found["seconds"].values())


def test_json_of_less(archive: Path, train_here: Train) -> None:
    """Without an epoch there is no training loss; on held-out images the part is another; --quiet says nothing else."""
    result = train_here("--data", archive, "--epochs", 0, "--json", "--quiet", "--validation", 10)
    found = json.loads(result.out)
    assert result.err == "" and found["loss"] is None and found["epochs"] == 0 and found["part"] == "validation"
    assert found["accuracy"] * 10 == pytest.approx(round(found["accuracy"] * 10))


@pytest.mark.slow
def test_json_of_a_suggestion(archive: Path, train_here: Train) -> None:
    rates = json.loads(train_here("--data", archive, "--find-lr", "--json", "--quiet").out)
    assert set(rates) == {"lr", "rates", "losses"} and len(rates["rates"]) == len(rates["losses"])
    assert rates["rates"][0] < rates["lr"] <= rates["rates"][-1]


def test_an_infinite_loss_is_null() -> None:
    data = Dataset.from_arrays(COLOUR, LABELS, test=(COLOUR, LABELS))
    run = EnsembleRun(lambda member: Trainer(fastlenet.LeNet(input_shape=(3, 9, 8), classes=3), data, Recipe(epochs=0)), 1)
    result = RunResult.of(Settings(), run, {"data": 0.0}).finished(run, 0.5, math.inf)
    assert json.loads(result.as_json())["test_loss"] is None


def test_json_of_a_failure(train_here: Train) -> None:
    result = train_here("--data", "nowhere", "--json")
    assert one_line(result) and result.out == ""


# --- --data ---------------------------------------------------------------------------------------------------------------


def test_own_data(archive: Path, train_here: Train, tmp_path: Path) -> None:
    """The network takes its shape from the images, and learns them; the parameters are those of fit."""
    result = train_here(
        "--data", archive, "--epochs", 12, "--batch-size", 10, "--save-model", "m", "--threads", 1, "--lr", 0.01
    )
    assert "flowers: 30 test images, 60 training images" in result.out and "(20, 3, 5, 5)" in result.out
    accuracy = float(result.out.rsplit(" ", 1)[1].rstrip("%\n"))
    assert accuracy > 90, result.out
    data = fastlenet.data.load(archive)
    model = fastlenet.LeNet(input_shape=(3, 9, 8), classes=3)
    fastlenet.fit(model, data, epochs=12, batch_size=10, lr=0.01, verbose=0)
    again = train_here("--data", archive, "--epochs", 0, "--load-model", "m", "--quiet")
    assert again.out == f"final accuracy {accuracy:.2f}%\n"
    assert fastlenet.training.evaluation.evaluate(model, data)[0] == pytest.approx(accuracy / 100, abs=1e-4)


def test_a_checkpoint_finds_relative_data(archive: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_here("--data", archive.name, *FEW_STEPS, "--checkpoint", "state").code == 0
    state = archive.parent / "state"
    (archive.parent / "elsewhere").mkdir()
    monkeypatch.chdir(archive.parent / "elsewhere")
    assert train_here("--resume", state, "--epochs", 3).code == 0
    monkeypatch.chdir(archive.parent)
    archive.rename("moved.npz")
    message = one_line(train_here("--resume", state, "--epochs", 4))
    assert "which is not there; name them with --data" in message
    assert train_here("--resume", state, "--epochs", 4, "--data", "moved.npz").code == 0


def test_pictures_of_several_sizes(train_here: Train, tmp_path: Path) -> None:
    """The flag that the error names brings them to one size, and a checkpoint remembers it."""
    picture = pytest.importorskip("PIL.Image")
    for number, image in enumerate(COLOUR):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture.fromarray(image[: 5 + number % 4]).save(folder / f"{number}.png")
    message = one_line(train_here("--data", "photos", "--validation", 10))
    assert message.endswith("bring all to one size, or give --image-size N")
    line = ("--data", "photos", "--image-size", 12, "--validation", 10, *FEW_STEPS, "--json", "--quiet")
    assert json.loads(train_here(*line, "--checkpoint", "state").out)["classes"] == 3
    assert train_here("--resume", "state", "--epochs", 3).code == 0
    assert "contradicts state" in one_line(train_here("--resume", "state", "--image-size", 14))
    message = one_line(train_here("--data", "mnist", "--image-size", 14))
    assert message.endswith("--image-size expects none for mnist, got (14, 14); only the pictures of a folder are resized")


def test_data_without_test_images(train_here: Train, tmp_path: Path) -> None:
    """A tenth of the training images, of each class alike, is held out; the same ones in every run."""
    np.savez(tmp_path / "mine.npz", X=np.repeat(COLOUR, 2, 0), y=np.repeat(LABELS, 2))
    result = train_here("--data", "mine.npz", *FEW_STEPS, "--checkpoint", "state")
    assert "mine: 12 validation images, 108 training images" in result.out and "there are no test images: the acc" in result.out
    assert train_here("--resume", "state", "--epochs", 3, "--quiet").code == 0
    found = json.loads(train_here("--data", "mine.npz", *FEW_STEPS, "--json", "--quiet").out)
    assert found["part"] == "validation" and result.out.endswith(f"final accuracy {found['accuracy']:.2%}\n")
    np.save(tmp_path / "weights.npy", np.ones(120))
    message = one_line(train_here("--data", "mine.npz", "--sample-weight", "weights.npy"))
    assert message.endswith("mine has no test images; hold out the last N images by --validation N")
    np.savez(tmp_path / "one.npz", X=COLOUR[:1], y=LABELS[:1])
    assert "one: no test images, and too few images to hold some out, 1" in one_line(train_here("--data", "one.npz"))


def test_sorted_data(train_here: Train, tmp_path: Path) -> None:
    order = np.argsort(LABELS, kind="stable")
    np.savez(tmp_path / "sorted.npz", X=COLOUR[order], y=np.array(list("abc"))[LABELS[order]])
    message = "all 10 validation images are of class c, because the images are sorted by class; leave --validation out"
    assert message in train_here("--data", "sorted.npz", *FEW_STEPS, "--validation", 10).out
    assert message not in train_here("--data", "sorted.npz", *FEW_STEPS).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "mnits"), "mnits: no such folder or file; did you mean mnist?"),
        (("--data", "."), "data_batch_1.bin: length expects records of 3,073 bytes"),
        (("--data", "flowers.npz", "--validation", 60), "--validation expects 1..59 images, got 60"),
        (("--data", "tiny.npz"), "tiny: LeNet: input_shape expects (channels, height, width), at least 1 channel and 4 pixels"),
        (("--data", "flowers.npz", "--network", "vgg"), "vgg"),
    ],
)
def test_wrong_data(arguments: tuple[object, ...], message: str, archive: Path, train_here: Train) -> None:
    np.savez("tiny.npz", X=COLOUR[:, :3], y=LABELS)
    Path("data_batch_1.bin").write_bytes(b"x")
    assert message in one_line(train_here(*arguments))


# --- --network ------------------------------------------------------------------------------------------------------------


def test_weights_of_another_network(archive: Path, train_here: Train) -> None:
    assert train_here("--data", archive, "--network", "lenet5", *FEW_STEPS, "--save-model", "five").code == 0
    message = one_line(train_here("--data", archive, "--load-model", "five", "--epochs", 0))
    assert "five: network expects parameters of lenet, got those of lenet5" in message and "--network lenet5" in message
    result = train_here("--data", archive, "--network", "lenet5", "--load-model", "five", "--epochs", 0, "--json", "--quiet")
    assert json.loads(result.out)["network"] == "lenet5"


def test_a_checkpoint_keeps_its_network(archive: Path, train_here: Train) -> None:
    assert train_here("--data", archive, "--network", "lenet5", *FEW_STEPS, "--checkpoint", "state").code == 0
    assert json.loads(train_here("--resume", "state", "--epochs", 3, "--json").out)["network"] == "lenet5"
    assert "contradicts state, which was made with lenet5" in one_line(train_here("--resume", "state", "--network", "lenet"))


# --- scikit-learn's digits -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_recipes_learn_other_digits(train_here: Train, tmp_path: Path) -> None:
    """Ten seeds of `best` have 98.6 % and more, a mean of 99.3 % and a deviation of 0.3; every tenth digit would be guessed."""
    result = train_here(
        "--data", "digits", "--recipe", "best", "--threads", 1, "--quiet", "--json", "--save-model", "d.safetensors"
    )
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert (said["data"], said["classes"], said["part"]) == ("digits", 10, "test")
    assert said["accuracy"] > 0.98
    model = fastlenet.load(tmp_path / "d.safetensors")
    assert model.input_shape == (1, 8, 8)
    assert model.evaluate(fastlenet.data.load("digits")).accuracy == said["accuracy"]
