"""Weights of classes and of images in the training loss, and the squared error as a loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import RECIPES, LeNet, Recipe, fit, nn, ops, reference
from fastlenet.cli.sample_weight import read_weights
from fastlenet.data import DataError, Dataset
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.evaluation import evaluate, predict, score
from fastlenet.training.lr_finder import find_lr
from fastlenet.training.trainer import Trainer
from fastlenet.training.weights import class_weights, weights_digest
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits

Train = Callable[..., Result]

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 64, "shift": 0, "optimizer": "sgd", "verbose": 0}
ONE_STEP = SETTINGS | {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "warm_up": 0.0}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    arrays = mnist.train_images[:200], mnist.train_labels[:200], mnist.test_images[:50], mnist.test_labels[:50]
    return Dataset("few", *arrays, 10, mean=mnist.mean, std=mnist.std)


def trained(data: Dataset, **options: Any) -> Any:
    model = LeNet(seed=3)
    fit(model, data, **SETTINGS | options)
    return model.parameter_buffer


# --- what they mean --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_loss_is_a_sum_over_the_number_of_images(loss: str, few: Dataset) -> None:
    """Divided by it, not by the sum of the weights, as Keras does; label smoothing comes first. A step of rate 1 moves the last
    bias by the derivative of this sum.
    """
    weights = np.random.default_rng(0).random(64)
    data = replace(few, train_images=few.train_images[:64], train_labels=few.train_labels[:64])
    model = LeNet(seed=3)
    x = model.ops.gather_images(data.train_images, np.arange(64), mean=data.mean, std=data.std)
    logits, bias = model(x).astype(np.float64), model.parameters()["fc2.bias"]
    of_class = np.where(data.train_labels == 3, 2.5, np.where(data.train_labels == 7, 0.0, 1.0))

    def expected(moved: Any) -> float:
        target = 0.8 * np.eye(10)[data.train_labels] + 0.02
        exponentials = np.exp(logits + moved)
        softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
        losses = -(target * np.log(softmax)).sum(1) if loss == "cross_entropy" else ((softmax - target) ** 2).mean(1)
        return float((weights * of_class * losses).sum() / 64)

    before = bias.copy()
    history = fit(model, data, loss=loss, class_weight={3: 2.5, 7: 0}, label_smoothing=0.2, sample_weight=weights, **ONE_STEP)
    assert history.epochs[0].loss == pytest.approx(expected(0), rel=1e-6)
    moves = 1e-5 * np.eye(10)
    slopes = [(expected(move) - expected(-move)) / 2e-5 for move in moves]
    np.testing.assert_allclose(before - bias, slopes, atol=1e-6)


def test_weights_of_one_change_no_bit(few: Dataset) -> None:
    plain = trained(few)
    for options in ({"class_weight": [1] * 10}, {"class_weight": {4: 1.0}}, {"sample_weight": [1] * 200}):
        expect_same_bits(trained(few, **options), plain)
    for options in ({"class_weight": {}}, {"class_weight": None, "sample_weight": None}, {"class_weight": ""}):
        expect_same_bits(trained(few, **options), plain)


def test_weights_of_images_are_those_of_their_classes(few: Dataset) -> None:
    of_class = np.random.default_rng(1).random(10)
    by_class = trained(few, class_weight=of_class)
    expect_same_bits(trained(few, sample_weight=of_class[few.train_labels]), by_class)
    half = np.full(200, 0.5)  # whose product is exact
    expect_same_bits(trained(few, sample_weight=half, class_weight=2 * of_class), by_class)


def test_an_image_of_weight_0_is_not_learnt_from(few: Dataset) -> None:
    """Whatever its pixels and its label are."""
    weights = np.ones(200)
    weights[::3] = 0
    images, labels = few.train_images.copy(), few.train_labels.copy()
    images[::3], labels[::3] = 255 - images[::3], (labels[::3] + 1) % 10
    other = replace(few, train_images=images, train_labels=labels)
    expect_same_bits(trained(few, sample_weight=weights), trained(other, sample_weight=weights))


def test_balanced(few: Dataset) -> None:
    """Scikit-learn's rule; a class without images does not matter."""
    labels = np.repeat([0, 1, 3], [50, 100, 50])
    weights = class_weights("balanced", replace(few, train_labels=labels))
    np.testing.assert_allclose(weights[[0, 1, 3]], [200 / (3 * 50), 200 / (3 * 100), 200 / (3 * 50)])
    assert np.isfinite(weights).all() and weights[labels].mean() == pytest.approx(1)


def test_names_of_classes(few: Dataset) -> None:
    """A class goes by the label that the user gave, which need not be its number."""
    images, words = few.train_images, np.array(["one", "two"])[few.train_labels % 2]
    data = Dataset.from_arrays(images, words)
    np.testing.assert_array_equal(class_weights("two=3", data), [1, 3])
    counted = Dataset.from_arrays(images, few.train_labels % 2 + 1)
    np.testing.assert_array_equal(class_weights("1=3", counted), [3, 1])


# --- at the door -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("balancd", ValueError, "expects \"balanced\", .*, got 'balancd'; write balanced, 1,2,0.5 or 0=2,8=0.5"),
        (3, TypeError, 'expects "balanced", .*, got 3'),
        (b"1", TypeError, "got b'1'"),
        ([], ValueError, "got \\[\\]"),
        (True, TypeError, "got True"),
        ({1.5: 1}, TypeError, "expects numbers or names of classes as keys, got 1.5"),
        ({True: 1}, TypeError, "keys, got True"),
        ({"a,b": 1}, ValueError, "expects classes without , and = in their names, got 'a,b'; give a weight for each class"),
        ({1: -1}, ValueError, "expects non-negative numbers as weights, got -1"),
        ({1: "2"}, TypeError, "as weights, got '2'"),
        ([1, float("nan")], ValueError, "as weights, got nan"),
        ("0=inf", ValueError, "as weights, got inf"),
        ("0=1,0=2", ValueError, "expects one weight for each class, got two for 0"),
        ({1: 2, "1": 3}, ValueError, "got two for 1"),
    ],
)
def test_no_class_weight(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^class_weight {message}" if message.startswith("expects") else message) as caught:
        Recipe(class_weight=value)
    assert "\n" not in str(caught.value)


def test_a_class_weight_is_a_word() -> None:
    """So that a recipe is a key, and JSON."""
    for value, text in (
        ({8: 2.5, np.int64(1): np.float32(2)}, "8=2.5,1=2"),
        ({"cat": 1}, "cat=1"),
        ((1, 0.1, 3), "1,0.1,3"),
        (np.array([1.0, 2.0]), "1,2"),
        (" 1, 2 ", "1,2"),
        ("a = 1, b=2e0", "a=1,b=2"),
        (np.str_("balanced"), "balanced"),
        (None, ""),
    ):
        recipe = Recipe(class_weight=value)
        assert recipe.class_weight == text and type(recipe.class_weight) is str
        assert Recipe(class_weight=text) == recipe and hash(recipe) == hash(replace(recipe))
        assert json.loads(json.dumps(asdict(recipe)))["class_weight"] == text
        assert eval(repr(recipe), {"Recipe": Recipe}) == recipe
    assert "class weight 8=2" in str(Recipe(class_weight={8: 2}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": {11: 1}}, "class_weight expects classes of few: 0, 1, .*9, got '11'"),
        ({"class_weight": {"0x": 1}}, "class_weight expects classes of few: .*, got '0x'; did you mean 0\\?"),
        ({"class_weight": [1, 2]}, "class_weight expects 10 weights, one for each class, got 2"),
        ({"class_weight": [0] * 10}, "class_weight expects a weight above 0 of at least one training image, got 0 for all"),
        ({"class_weight": {1: 1e300}}, r"class_weight expects weights that fit float32, got one of 1e\+300"),
        ({"sample_weight": np.ones(3)}, "sample_weight expects a number for each of the 200 training images, got 3 numbers"),
        ({"sample_weight": np.ones((200, 1))}, r"sample_weight expects .*, got shape \(200, 1\); take \[:, 0\] of it"),
        ({"sample_weight": 1.0}, r"sample_weight expects .*, got shape \(\)"),
        ({"sample_weight": "x"}, "sample_weight expects .*, got 'x'"),
        ({"sample_weight": [[1], [2, 3]]}, "sample_weight expects "),
        ({"sample_weight": np.ma.ones(200)}, "sample_weight expects .*, got a masked array, whose mask would be ignored"),
        ({"sample_weight": np.ones(200, complex)}, "sample_weight expects "),
        ({"sample_weight": np.zeros(200)}, "sample_weight expects a weight above 0 of at least one training image"),
        ({"sample_weight": [1.0] * 199 + [np.nan]}, "expects finite, non-negative numbers, got nan for image 199"),
        ({"sample_weight": [1.0] * 199 + [np.inf]}, "expects finite, non-negative numbers, got inf for image 199"),
        ({"sample_weight": [-1.0] + [1.0] * 199}, r"expects finite, non-negative numbers, got -1\.0 for image 0"),
        ({"sample_weight": np.full(200, 1e300), "class_weight": {1: 1e300}}, "class_weight expects weights that fit float32"),
        ({"loss": "mae"}, "loss expects one of cross_entropy, mse, got 'mae'"),
    ],
)
def test_wrong_weights(options: dict[str, Any], message: str, few: Dataset) -> None:
    """In one line, before anything is touched."""
    model = LeNet(seed=3)
    before = model.parameter_buffer.tobytes()
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fit(model, few, **SETTINGS | options)
    assert "\n" not in str(caught.value) and model.parameter_buffer.tobytes() == before


# --- the squared error -----------------------------------------------------------------------------------------------------


def test_the_loss_of_the_images_held_out(few: Dataset) -> None:
    """It is the one that is trained on, without weights and label smoothing; the same from probabilities."""
    model = LeNet(seed=3)
    for tta in (False, True):
        history = fit(model, few, loss="mse", tta=tta, class_weight="balanced", label_smoothing=0.1, **SETTINGS)
        probabilities = predict([model], few, tta=tta)
        exact = ((probabilities - np.eye(10)[few.test_labels]) ** 2).mean()
        assert history.epochs[-1].val_loss == pytest.approx(exact, rel=1e-6)
        assert evaluate(model, few, tta=tta, loss="mse")[1] == history.epochs[-1].val_loss
        assert score(probabilities, few.test_labels, loss="mse")[1] == pytest.approx(exact)
        assert evaluate(model, few, tta=tta)[1] != pytest.approx(exact, rel=1e-3)
    with pytest.raises(ValueError, match=r"^loss expects one of cross_entropy, mse, got 'mae'$"):
        evaluate(model, few, loss="mae")


def test_on_the_reference(few: Dataset) -> None:
    weights = np.linspace(0, 2, 200)
    histories = []
    for backend in (ops, reference):
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), ops=backend)
        options: dict[str, Any] = {"loss": "mse", "class_weight": "balanced", "sample_weight": weights}
        histories.append(fit(model, few, **SETTINGS | options).history)
    assert histories[0] == {name: pytest.approx(values, rel=1e-4) for name, values in histories[1].items()}


def test_a_learning_rate_for_it(few: Dataset) -> None:
    """The sweep's losses are those of the weighted loss: doubled weights double the first one."""
    first = []
    for weight in (1, 2):
        recipe = Recipe(loss="mse", class_weight=[weight] * 10, shift=0)
        first.append(find_lr(LeNet(seed=3), few, recipe, steps=2).losses[0])
    assert first[1] == 2 * first[0]


# --- checkpoints -----------------------------------------------------------------------------------------------------------


def test_a_weighted_run_goes_on(few: Dataset, tmp_path: Path) -> None:
    """To the bits of a straight one; with other weights it is refused."""
    weights = np.linspace(0, 2, 200)
    options: dict[str, Any] = SETTINGS | {"loss": "mse", "class_weight": {3: 2.5}}
    straight = trained(few, **options | {"epochs": 2, "sample_weight": weights})
    path = tmp_path / "state"
    recipe = replace(RECIPES["default"], **_fields(options) | {"epochs": 2})
    trainer = Trainer(LeNet(seed=3), few, recipe, sample_weight=weights)
    trainer.save(path)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"sample_weight": weights[::-1]}, "made with another sample_weight; give the same"),
        ({"sample_weight": None}, "made with sample_weight; give the same"),
        ({"class_weight": {3: 2}}, "made with class_weight 3=2.5, this run has 3=2"),
        ({"class_weight": None}, "made with class_weight 3=2.5, this run has none"),
        ({"loss": "cross_entropy"}, "made with loss mse, this run has cross_entropy"),
    ]
    for other, message in wrong:
        with pytest.raises(CheckpointError, match=f"does not fit this run; {message}$"):
            trained(few, **options | {"epochs": 2, "sample_weight": weights, "resume": path} | other)
    again = trained(few, **options | {"epochs": 2, "sample_weight": weights.astype(object).tolist(), "resume": path})
    expect_same_bits(again, straight)
    plain = tmp_path / "plain"
    trained(few, checkpoint=plain)
    with pytest.raises(CheckpointError, match=r"made without sample_weight; leave it out$"):
        trained(few, sample_weight=weights, resume=plain)
    many = ",".join(["0.123456789"] * 10)
    with pytest.raises(CheckpointError, match=r"made with class_weight none, this run has 0\.123456789,.{45}\.\.\.$"):
        trained(few, class_weight=many, resume=plain)
    trained(few, class_weight=many, checkpoint=tmp_path / "many")
    trained(few, class_weight=many, resume=tmp_path / "many")


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "verbose"}


# --- the command -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_flags(train: Train, small_mnist: Path, tmp_path: Path) -> None:
    command = "--data", small_mnist, "--epochs", 1, "--batch-size", 500, "--shift", 0, "--checkpoint", tmp_path / "state"
    done = train(*command, "--loss", "mse", "--class-weight", "0=2.0,8=0.5", "--optimizer", "adam", "--lr", 0.001)
    assert done.code == 0 and "loss mse, class weight 0=2,8=0.5" in " ".join(done.out.split())
    again = train("--resume", tmp_path / "state", "--class-weight", "0=2,8=0.50", "--epochs", 2)
    assert again.code == 0, again.err
    other = train("--resume", tmp_path / "state", "--class-weight", "balanced")
    assert "--class-weight balanced contradicts" in one_line(other)
    assert "--class-weight expects 10 weights, one for each class, got 2" in one_line(train("--class-weight", "1,2"))


def test_files_that_hold_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive under the name of an array; and an address, which is a name like any other: nothing is downloaded."""
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, a=np.ones(3))
    with pytest.raises(DataError, match=r"archive\.npy: cannot be read as weights of images \(it holds no array"):
        read_weights(str(tmp_path / "archive.npy"), 0)
    asked: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *address, **options: asked.append(address))
    with pytest.raises(DataError, match="cannot be read as weights of images"):
        read_weights("http://localhost/weights.txt", 0)
    assert not asked


@pytest.mark.slow
def test_a_file_of_weights(train: Train, small_mnist: Path, tmp_path: Path) -> None:
    """As text or as an array, of the images held out too; a run that goes on reads it again."""
    weights = np.linspace(0, 2, 2000)
    np.save(tmp_path / "weights.npy", weights)
    np.savetxt(tmp_path / "weights.txt", weights)
    (tmp_path / "words").write_text("one\ntwo\n")
    command = "--data", small_mnist, "--epochs", 1, "--batch-size", 500, "--validation", 100, "--quiet", "--sample-weight"
    trained = [train(*command, f"weights.{suffix}", "--checkpoint", f"state_{suffix}") for suffix in ("npy", "txt")]
    assert [done.code for done in trained] == [0, 0] and trained[0].out == trained[1].out
    states = [load_checkpoint(tmp_path / f"state_{suffix}") for suffix in ("npy", "txt")]
    expect_same_bits(states[0][0]["model.fc1.weight"], states[1][0]["model.fc1.weight"])
    facts = states[0][1]
    assert facts["sample_weight"] == weights_digest(weights[:1900]) and facts["settings"]["sample_weight"].endswith(
        "/weights.npy"
    )
    assert train("--resume", "state_npy", "--epochs", 2, "--quiet").code == 0
    (tmp_path / "weights.npy").unlink()
    assert "weights.npy: cannot be read as weights of images (No such file" in one_line(
        train("--resume", "state_npy", "--quiet")
    )
    assert "words: cannot be read as weights of images (it holds no" in one_line(train(*command, "words"))
    short = train("--data", small_mnist, "--sample-weight", "words.txt", "--save-model", "words.txt")
    assert "--sample-weight and --save-model are both words.txt" in one_line(short)
