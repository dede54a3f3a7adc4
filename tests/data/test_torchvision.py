"""torchvision.datasets as a source of images, on local files: nothing is downloaded. Run with -m torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import DataError, load_idx_directory, load_torchvision
from helpers.arrays import Array
from helpers.command import Result
from helpers.idx import write_idx

pytestmark = pytest.mark.torchvision


def write_raw(root: Path, name: str, images: Array, labels: Array, parts: tuple[str, str] = ("train", "t10k")) -> Path:
    """What torchvision leaves under its root: the same images for training and for testing."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part in parts:
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_same_as_the_idx_files(name: str, small_mnist: Path, tmp_path: Path) -> None:
    expected = load_idx_directory(small_mnist)
    write_raw(tmp_path, name, expected.train_images, expected.train_labels)
    data = load_torchvision(name, tmp_path)
    assert (data.name, data.classes, data.fingerprint) == (name, 10, expected.fingerprint)
    np.testing.assert_array_equal(data.test_images, expected.train_images)


def test_emnist_letters_stand_upright(tmp_path: Path) -> None:
    """EMNIST stores its images lying on their side, and counts letters from 1."""
    upright = np.zeros((26, 28, 28), np.uint8)
    upright[:, 3:25, 10:14] = 200  # an upright bar
    parts = "emnist-letters-train", "emnist-letters-test"
    write_raw(tmp_path, "EMNIST", upright.transpose(0, 2, 1), np.arange(1, 27), parts)
    data = load_torchvision("EMNIST", tmp_path)
    assert data.classes == 26 and data.train_labels.tolist() == list(range(26))
    np.testing.assert_array_equal(data.train_images, upright)


def test_training_from_the_command_line(small_mnist: Path, tmp_path: Path, train: Callable[..., Result]) -> None:
    data = load_idx_directory(small_mnist)
    write_raw(tmp_path, "MNIST", data.train_images, data.train_labels)
    result = train("--dataset", "MNIST", "--data-dir", tmp_path, "--epochs", 1)
    assert result.code == 0 and "MNIST: 2000 test images, 2000 training images" in result.out


def test_damaged_files(tmp_path: Path) -> None:
    folder = write_raw(tmp_path, "MNIST", np.zeros((3, 28, 28)), np.arange(3))
    (folder / "train-images-idx3-ubyte").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="MNIST cannot be read or downloaded"):
        load_torchvision("MNIST", tmp_path)
