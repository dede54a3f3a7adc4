"""Folders of IDX files as they really look: other names, subfolders, letters, several sets in one, and what is no data set."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastlenet.data import DataError, files, load_idx_directory, load_torchvision
from helpers.arrays import Array
from helpers.command import Result, one_line
from helpers.idx import write_idx

NAMES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
TRAIN = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
TEST = np.random.default_rng(1).integers(0, 256, (10, 28, 28), np.uint8)
LABELS = np.arange(30) % 10


def write_set(
    folder: Path, name: Callable[[str], str] = "{}-ubyte".format, train: Array = LABELS, test: Array = LABELS[:10]
) -> Path:
    """Four files of random images, each under the name that `name` makes of train-images-idx3 and so on."""
    for stem, array in zip(NAMES, (TRAIN, train, TEST, test), strict=True):
        path = folder / name(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_idx(path, array, compress=path.suffix == ".gz")
    return folder


def dotted(stem: str) -> str:
    return stem.replace("-idx", ".idx") + "-ubyte"


def emnist(split: str) -> Callable[[str], str]:
    return lambda stem: f"emnist-{split}-{stem.replace('t10k', 'test')}-ubyte"


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("{}-ubyte".format, ""),
        ("{}-ubyte.gz".format, ""),
        (dotted, ""),
        (lambda stem: dotted(stem) + ".gz", ""),
        (lambda stem: f"{stem}-ubyte/{stem}-ubyte", ""),
        (lambda stem: f"{stem}-ubyte/{dotted(stem)}", ""),
        (lambda stem: f"{dotted(stem)}/{stem}-ubyte", ""),
        (lambda stem: stem.replace("t10k", "test") + "-ubyte", ""),
        (lambda stem: f"my-{stem}-ubyte", ""),
        *(("{}-ubyte".format, where) for where in ("raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "gzip")),
    ],
)
def test_names_and_places(name: Callable[[str], str], where: str, tmp_path: Path) -> None:
    data = load_idx_directory(write_set(tmp_path / where, name) and tmp_path)
    for got, written in zip(
        (data.train_images, data.train_labels, data.test_images, data.test_labels),
        (TRAIN, LABELS, TEST, LABELS[:10]),
        strict=True,
    ):
        np.testing.assert_array_equal(got, written)
    assert data.classes == 10
    expected = where.split("/")[0] if "/" in where else tmp_path.name
    assert data.name == ("my" if name("") == "my--ubyte" else expected)
    assert [Path(path).is_file() for path in files(tmp_path)] == [True] * 4


def test_kaggle_has_files_and_folders_of_files(tmp_path: Path) -> None:
    write_set(tmp_path, dotted)
    write_set(tmp_path, lambda stem: f"{stem}-ubyte/{stem}-ubyte")
    np.testing.assert_array_equal(load_idx_directory(tmp_path).train_images, TRAIN)


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_set(tmp_path / "digits")
    assert load_idx_directory("~/digits").fingerprint == load_idx_directory(tmp_path / "digits").fingerprint
    assert files("~/digits") == files(tmp_path / "digits")
    with pytest.raises(DataError, match=r"^~nobody-of-that-name/digits: no such folder$"):
        load_idx_directory("~nobody-of-that-name/digits")


def test_emnist_stands_upright(tmp_path: Path) -> None:
    """Its images are stored lying on their side, and its letters count from 1; the name of the data set says so."""
    letters = np.arange(30) % 26 + 1
    write_set(tmp_path, emnist("letters"), letters, letters[:10])
    for folder in (tmp_path, tmp_path.parent / "torchvision"):
        if folder != tmp_path:
            write_set(folder / "EMNIST" / "raw", emnist("letters"), letters, letters[:10])
        data = load_idx_directory(folder)
        np.testing.assert_array_equal(data.train_images, TRAIN.transpose(0, 2, 1))
        np.testing.assert_array_equal(data.test_images, TEST.transpose(0, 2, 1))
        assert data.train_labels.tolist() == (letters - 1).tolist() and data.test_labels.tolist() == list(range(10))
        assert (data.name, data.classes) == ("emnist-letters (turned upright)", 26)
    with pytest.raises(DataError, match="the images of emnist-letters lie on their side in its files"):
        files(tmp_path)


@pytest.mark.parametrize(
    ("labels", "first", "classes"),
    [
        (np.arange(30), 0, 30),
        (np.arange(30) % 10 + 1, 1, 10),
        (np.arange(30) % 26 + 1, 1, 26),
        (np.arange(30) % 9 + 1, 0, 10),  # digits without 0: they stay what they are
        (np.arange(30) % 3, 0, 10),
    ],
    ids=["0..29", "1..10", "1..26", "1..9", "0..2"],
)
def test_labels_and_classes(labels: Array, first: int, classes: int, tmp_path: Path) -> None:
    data = load_idx_directory(write_set(tmp_path, train=labels, test=labels[:10]))
    assert (
        data.train_labels.tolist() == (labels - first).tolist() and data.test_labels.tolist() == (labels[:10] - first).tolist()
    )
    assert data.classes == classes


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.arange(30) * 2, LABELS[:10], "train-labels.*: label 58 is out of the range 0..9; .* which have 30 values in 0..58"),
        (np.arange(30) + 2, LABELS[:10], "train-labels.*: label 31 is out of the range 0..9; .* which have 30 values in 2..31"),
        (LABELS, np.arange(10) + 1, "t10k-labels.*: label 10 is out of the range 0..9; .* which have 10 values in 0..9"),
        (np.arange(30) % 11 + 1, np.arange(10), "train-labels.*: label 11 is out of the range 0..9; .* 11 values in 1..11"),
    ],
)
def test_labels_that_make_no_sense(train: Array, test: Array, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_idx_directory(write_set(tmp_path, train=train, test=test))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"": ("letters", "digits")}, "emnist-digits, emnist-letters; copy the files of one to a folder of its own"),
        ({"EMNIST/raw": ("letters", "digits")}, "emnist-digits, emnist-letters; copy the files of one to a folder of its own"),
        ({"MNIST/raw": (), "FashionMNIST/raw": ()}, "MNIST/raw, FashionMNIST/raw; name the folder of one of them"),
    ],
)
def test_several_sets(sets: dict[str, tuple[str, ...]], message: str, tmp_path: Path) -> None:
    for folder, splits in sets.items():
        for split in splits:
            write_set(tmp_path / folder, emnist(split))
        if not splits:
            write_set(tmp_path / folder)
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}: several data sets, {message}')}$"):
        load_idx_directory(tmp_path)


def test_the_standard_names_come_first(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_set(tmp_path, lambda stem: f"old-{stem}-ubyte", train=LABELS[::-1])
    write_set(tmp_path / "MNIST/raw", train=LABELS[::-1])
    np.testing.assert_array_equal(load_idx_directory(tmp_path).train_labels, LABELS)


def test_what_is_there_instead(tmp_path: Path) -> None:
    for name in ("mnist_train.csv", "mnist_test.csv", "t10k-images-idx3-ubyte", "d\udce9.txt", "a\nb", "z"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError) as caught:
        load_idx_directory(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in it, nor in its raw or MNIST/raw; "
        "it has 'a\\nb', 'd\\udce9.txt', images/, mnist_test.csv, mnist_train.csv and 2 more"
    )


def test_letters_from_the_command_line(train_here: Callable[..., Result], tmp_path: Path) -> None:
    letters = np.arange(30) % 26 + 1
    write_set(tmp_path / "d", emnist("letters"), letters, letters[:10])
    result = train_here("--data-dir", "d", "--epochs", 1)
    assert result.code == 0 and "emnist-letters (turned upright): 10 test images, 30 training images" in result.out
    assert re.search(r"fc2\.weight +\(26, 500\)", result.out)
    assert "d/emnist: no such folder" in one_line(train_here("--data-dir", "d/emnist"))


def test_letters_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMNIST's images lie on their side there, and its letters count from 1."""
    letters = np.arange(30) % 26 + 1

    def emnist(root: str, *, train: bool, download: bool, split: str) -> SimpleNamespace:
        assert split == "letters"
        return SimpleNamespace(data=TRAIN if train else TEST, targets=letters[: 30 if train else 10])

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(EMNIST=emnist)))
    data = load_torchvision("EMNIST")
    assert data.classes == 26 and data.train_labels.tolist() == (letters - 1).tolist()
    np.testing.assert_array_equal(data.train_images, TRAIN.transpose(0, 2, 1))
    np.testing.assert_array_equal(data.test_images, TEST.transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.arange(30) % 10, None),
        (np.stack([np.arange(30) % 10] * 8, axis=1), None),  # QMNIST's, of which the first column is the digit
        (np.arange(29) % 10, "MNIST is not as it should be; train_labels expects 30 labels"),
        (np.arange(30), "MNIST is not as it should be; train_labels expects labels in 0..9 for 10 classes, got 0..29"),
        (np.arange(30) + 256, "got 256..285"),
    ],
)
def test_what_torchvision_hands_over(targets: Array, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is, it is a data set or one DataError: here by a stand-in for torchvision."""

    def mnist(root: str, *, train: bool, download: bool) -> SimpleNamespace:
        return SimpleNamespace(data=TRAIN, targets=targets)

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=mnist)))
    if message is None:
        assert load_torchvision("MNIST").train_labels.tolist() == LABELS.tolist()
        return
    with pytest.raises(DataError, match=re.escape(message)):
        load_torchvision("MNIST")
