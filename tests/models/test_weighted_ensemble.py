"""Ensembles whose members see other preprocessings and count by weights: chosen on validation images, kept in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastlenet
from fastlenet import LeNet, fit
from fastlenet.data import Dataset
from fastlenet.files import CheckpointError
from fastlenet.inference.weighting import best_weights
from fastlenet.models.ensemble import Ensemble
from fastlenet.preprocessing import Preprocessing
from helpers.command import Result
from helpers.expect import expect_same_bits

Train = Callable[..., Result]

KINDS = [Preprocessing(), Preprocessing(width=12), Preprocessing(width=20, deskew=True)]


def loss_of(weights: Any, probabilities: Any, labels: Any) -> float:
    mean = np.tensordot(np.asarray(weights), probabilities, axes=1)
    return float(-np.log(np.maximum(mean[np.arange(len(labels)), labels], 1e-12)).mean())


def random_probabilities(rng: np.random.Generator, k: int, n: int) -> tuple[Any, Any]:
    labels = rng.integers(0, 10, n)
    scores = rng.normal(0, 1, (k, n, 10))
    scores[:, np.arange(n), labels] += rng.uniform(0, 3, (k, 1))
    found = np.exp(scores)
    return found / found.sum(axis=2, keepdims=True), labels


@pytest.mark.parametrize("k", [1, 2, 5, 15])
def test_the_weights_are_the_best_there_are(k: int, rng: np.random.Generator) -> None:
    """No step towards any network, and no random weights, give a smaller loss."""
    probabilities, labels = random_probabilities(rng, k, 400)
    weights = np.array(best_weights(probabilities, labels))
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    least = loss_of(weights, probabilities, labels)
    for towards in [*np.eye(k), *rng.dirichlet(np.ones(k), 200)]:
        for step in (1e-3, 0.1, 1.0):
            assert loss_of(weights + step * (towards - weights), probabilities, labels) >= least - 1e-6


def test_a_network_that_knows_nothing_counts_nothing(rng: np.random.Generator) -> None:
    probabilities, labels = random_probabilities(rng, 3, 300)
    probabilities[1] = 0.1
    probabilities[2] = 0
    probabilities[2, np.arange(300), (labels + 1) % 10] = 1  # sure, and wrong
    weights = best_weights(probabilities, labels)
    assert weights[2] < 1e-4
    assert weights[0] > 0.5


@pytest.fixture(scope="module")
def data(mnist: Dataset) -> Dataset:
    small = replace(
        mnist,
        train_images=mnist.train_images[:700],
        train_labels=mnist.train_labels[:700],
        test_images=mnist.test_images[:150],
        test_labels=mnist.test_labels[:150],
    )
    return small.split(1 / 7)


@pytest.fixture(scope="module")
def ensemble(data: Dataset) -> Ensemble:
    members = []
    for seed, kind in enumerate(KINDS):
        members.append(LeNet(seed))
        fit(members[-1], data, epochs=2, batch_size=50, seed=seed, width=kind.width, deskew=kind.deskew, verbose=0)
    return Ensemble(members)


def test_members_preprocess_in_their_own_way(ensemble: Ensemble, data: Dataset) -> None:
    found = np.stack([member.predict_proba(data.test_images) for member in ensemble])
    np.testing.assert_allclose(ensemble.predict_proba(data.test_images), found.mean(axis=0), rtol=1e-12)
    assert ensemble.weights is None
    for tta in (False, True):
        found = np.stack([member.predict_proba(data.test_images, tta=tta) for member in ensemble])
        expected = np.tensordot([0.5, 0.2, 0.3], found, axes=1)
        weighted = Ensemble(ensemble.members, [0.5, 0.2, 0.3])
        np.testing.assert_allclose(weighted.predict_proba(data.test_images, tta=tta), expected, rtol=1e-9)


def test_weights_are_of_the_validation_images_alone(ensemble: Ensemble, data: Dataset) -> None:
    found = np.stack([member.predict_proba(data.validation_images) for member in ensemble])
    expected = best_weights(found, data.validation_labels)
    assert ensemble.weighted(data).weights == expected
    others = replace(data, test_images=data.test_images[::-1], test_labels=9 - data.test_labels)
    assert ensemble.weighted(others).weights == expected
    with pytest.raises(ValueError, match=r"^Ensemble.weighted: .* has no validation images; data.split\(0.1\) takes some"):
        ensemble.weighted(replace(data, validation_images=data.test_images[:0], validation_labels=data.test_labels[:0]))


def test_a_file_keeps_members_and_weights(ensemble: Ensemble, data: Dataset, tmp_path: Path) -> None:
    for made in (ensemble, ensemble.weighted(data)):
        made.save(tmp_path / "e.safetensors")
        loaded = fastlenet.load(tmp_path / "e.safetensors")
        assert isinstance(loaded, Ensemble)
        assert loaded.weights == made.weights
        assert [member.preprocessing for member in loaded] == KINDS
        expect_same_bits(loaded.predict_proba(data.test_images), made.predict_proba(data.test_images))


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("weights", "[0.5, 0.5]", "weights expects 3 non-negative numbers whose sum is 1, got"),
        ("weights", "[0.5, 0.6, -0.1]", "weights expects 3 non-negative numbers whose sum is 1, got"),
        ("weights", "[1, NaN, 0]", "weights expects 3 non-negative numbers whose sum is 1, got"),
        ("weights", '"abc"', "weights expects 3 non-negative numbers whose sum is 1, got 'abc'"),
        ("weights", "{}", "weights expects 3 non-negative numbers whose sum is 1, got {}"),
        ("members", "[{}]", "members expects a list of 3 objects with preprocessing, got"),
        (
            "members",
            '[{"preprocessing": {"width": 9}}, {"preprocessing": {}}, {"preprocessing": {}}]',
            "width expects",
        ),
        ("members", "7", "members expects a list of 3 objects with preprocessing, got 7"),
    ],
)
def test_hostile_files_are_refused(name: str, said: str, message: str, ensemble: Ensemble, tmp_path: Path) -> None:
    from safetensors import safe_open

    ensemble.save(tmp_path / "e.safetensors")
    with safe_open(tmp_path / "e.safetensors", "np") as file:
        metadata = file.metadata()
    save_file(load_file(tmp_path / "e.safetensors"), tmp_path / "odd.safetensors", metadata | {name: said})
    with pytest.raises(CheckpointError, match=message) as caught:
        fastlenet.load(tmp_path / "odd.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.4, 0.2], [1, 1, -1], "abc", 3, [0.5, 0.5, True]])
def test_wrong_weights_are_refused(weights: Any, ensemble: Ensemble) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^Ensemble: weights expects 3 non-negative numbers"):
        Ensemble(ensemble.members, weights)


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_trains_and_weighs(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    given = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 64, "--validation", 200]
    made = train_here(*given, "--ensemble", 3, "--looks", "0,12,20+deskew", "--weigh", "--save-model", "e.safetensors")
    assert made.code == 0, made.err
    assert re.findall(r"network (\d) of 3, seed (\d), (.*)", made.out) == [
        ("1", "0", "none"),
        ("2", "1", "width 12"),
        ("3", "2", "width 20, deskew"),
    ]
    chosen = re.search(r"weights     (.*), chosen on 200 validation images", made.out)
    assert chosen is not None
    loaded = fastlenet.load(tmp_path / "e.safetensors")
    assert isinstance(loaded, Ensemble)
    assert [member.preprocessing for member in loaded] == KINDS
    assert loaded.weights is not None
    assert ", ".join(f"{weight:.3f}" for weight in loaded.weights) == chosen[1]
    data = fastlenet.data.load(str(small_mnist)).hold_out(200)
    assert loaded.weights == pytest.approx(loaded.weighted(data).weights, abs=1e-9)
    accuracy = loaded.evaluate(data).accuracy
    assert made.out.endswith(f"final accuracy {accuracy:.2%}\n")
    again = train_here(*given[:2], "--validation", 200, "--load-model", "e.safetensors", "--quiet")
    assert again.out == f"final accuracy {accuracy:.2%}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--looks", "0,12"], "--looks expects an ensemble of several networks, got '0,12'; give --ensemble N too"),
        (["--weigh"], "--weigh expects an ensemble of several networks, got True; give --ensemble N too"),
        (["--ensemble", 2, "--looks", "0,9"], "--looks expects widths of 0, or pixels in 10..20, each with +deskew or without"),
        (["--ensemble", 2, "--looks", "12+slant"], "--looks expects widths of 0, or pixels in 10..20"),
        (["--ensemble", 2, "--looks", "0,,12"], "--looks expects widths of 0, or pixels in 10..20"),
        (["--ensemble", 2, "--looks", "0,12", "--width", 12], "leave out --width and --deskew"),
        (["--ensemble", 2, "--weigh"], "--weigh: chooses weights on validation images; give --validation N too"),
    ],
)
def test_wrong_flags(flags: list[object], message: str, train_here: Train, small_mnist: Path) -> None:
    refused = train_here("--data-dir", small_mnist, "--epochs", 1, *map(str, flags))
    assert refused.code == 2
    assert message in refused.err


def test_an_interrupted_ensemble_goes_on(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    """From a checkpoint within the second member to the same file."""
    given = ["--data-dir", small_mnist, "--epochs", 1, "--batch-size", 64, "--validation", 200, "--quiet"]
    looks = ["--ensemble", 2, "--looks", "12,20+deskew", "--weigh"]
    whole = train_here(*given, *looks, "--save-model", "whole.safetensors", "--checkpoint", "run.checkpoint")
    assert whole.code == 0, whole.err
    resumed = train_here("--resume", "run.checkpoint", "--quiet", "--save-model", "again.safetensors")
    assert resumed.code == 0, resumed.err
    assert resumed.out == whole.out
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "again"))
    for name, array in first.items():
        expect_same_bits(array, second[name])
    a, b = (fastlenet.load(tmp_path / f"{name}.safetensors") for name in ("whole", "again"))
    assert isinstance(a, Ensemble) and isinstance(b, Ensemble)
    assert a.weights == b.weights
    assert json.dumps([member.preprocessing.width for member in b]) == "[12, 20]"
