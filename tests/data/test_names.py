"""`load` takes names as users write them, knows files by their names, and says what it does not find."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import FORMATS, NAMES, Dataset, load
from helpers.arrays import Array
from helpers.data_files import IMAGES, LABELS, refused, table
from helpers.idx import write_idx


@pytest.mark.slow  # to import scikit-learn takes seconds
def test_digits() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    data, all_digits = load("digits"), sklearn.load_digits()
    assert data.input_shape == (1, 8, 8) and data.classes == 10 and len(data.test_labels) == 359
    together = np.concatenate([data.train_images, data.test_images])
    assert sorted(image.tobytes() for image in together) == sorted(x.tobytes() for x in all_digits.images.astype(np.uint8))
    assert load("digits").fingerprint == data.fingerprint


def test_names_are_read_as_users_write_them(tmp_path: Path, mnist: Dataset) -> None:
    assert load("MNIST").fingerprint == mnist.fingerprint
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
        write_idx(folder / f"train-{name}-ubyte", array)
        write_idx(folder / f"t10k-{name}-ubyte", array)
    for name in ("fashion-mnist", "FashionMNIST", "fashion_mnist"):
        assert load(name, root=tmp_path).class_names[:2] == ("T-shirt/top", "Trouser")
    for path in (tmp_path, folder.parent, folder, folder / "train-images-idx3-ubyte"):
        assert load(path).name == "FashionMNIST" and load(path).class_names[-1] == "Ankle boot"


@pytest.mark.parametrize(
    ("split", "labels", "names"),
    [
        ("letters", np.arange(1, 27), "abcdefghijklmnopqrstuvwxyz"),
        ("balanced", np.arange(47), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
        ("byclass", np.arange(62), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
        ("digits", np.arange(10), "0123456789"),
    ],
)
def test_emnist(split: str, labels: Array, names: str, tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
    for part in ("train", "test"):
        write_idx(tmp_path / f"emnist-{split}-{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"emnist-{split}-{part}-labels-idx1-ubyte", labels)
    data = load(tmp_path)
    assert data.class_names == tuple(names) and data.train_labels.tolist() == list(range(len(names)))
    np.testing.assert_array_equal(data.train_images, images.transpose(0, 2, 1))


def test_names_whose_files_are_there(tmp_path: Path, mnist: Dataset, rng: np.random.Generator) -> None:
    """Without torchvision: MNIST, normalised as ever, and the letters of EMNIST, whose folder has other splits too."""
    raw = {name: tmp_path / name / "raw" for name in ("MNIST", "EMNIST")}
    letters = np.arange(1, 27)
    images = rng.integers(0, 256, (26, 28, 28), np.uint8)
    for folder in raw.values():
        folder.mkdir(parents=True)
    for prefix, second, folder in (
        ("", "t10k", raw["MNIST"]),
        *((f"emnist-{s}-", "test", raw["EMNIST"]) for s in ("letters", "mnist")),
    ):
        labels = letters if prefix == "emnist-letters-" else letters % 10
        for part in ("train", second):
            write_idx(folder / f"{prefix}{part}-images-idx3-ubyte", images)
            write_idx(folder / f"{prefix}{part}-labels-idx1-ubyte", labels)
    data = load("mnist", root=tmp_path)
    assert (data.mean, data.std) == (mnist.mean, mnist.std) and data.train_labels.tolist() == (letters % 10).tolist()
    data = load("emnist", root=tmp_path)
    assert data.class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    np.testing.assert_array_equal(data.train_images, images.transpose(0, 2, 1))
    refused(raw["EMNIST"], "several data sets, emnist-letters, emnist-mnist; copy the files of one to a folder of its own")


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("mnits", "^mnits: no such folder or file; did you mean mnist")
    refused("photos/of/cats", r"no such folder or file; (did you mean|names are mnist, digits,)")
    refused("./mnist", "no such folder or file")  # a path, not the name
    Path("x.zip").write_bytes(b"")
    refused("x.zip", "unpack the archive, and name its folder$")
    Path("x.npy").write_bytes(b"")
    refused("x.npy", "it is a file with the ending .npy$")
    refused(tmp_path, r"not a known kind of data set \(.*\); it has x.npy, x.zip$")
    for odd in (None, 3, ["mnist"]):
        with pytest.raises(TypeError, match=r"^load: source expects the name of a data set, or a path, got "):
            load(odd)  # type: ignore[arg-type]


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system refuses it; root, who may run the tests, may read everything."""

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    path = tmp_path / "x.csv"
    path.write_text(table())
    monkeypatch.setattr(Path, "open", refuse)
    refused(path, "no permission to read it")


def test_the_tables_are_whole() -> None:
    """Each kind of file says in words what it is, and each name can be asked for as it is written."""
    assert len({form.what for form in FORMATS}) == len(FORMATS) >= 5
    assert {"mnist", "digits", "fashionmnist", "cifar10", "emnist"} <= NAMES.keys()
