"""`load` reads the binary files of CIFAR-10 and CIFAR-100, and refuses damaged ones and pickles."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import load
from helpers.data_files import PIXELS, Bomb, refused, write_cifar


@pytest.mark.parametrize("subfolder", ["", "cifar-10-batches-bin"])
def test_cifar10(subfolder: str, tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / subfolder)
    assert load(tmp_path).class_names == tuple("0123456789")
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")
    for data in (load(tmp_path), *([load("CIFAR-10", root=tmp_path)] if subfolder else [])):
        assert (data.name, data.classes, data.input_shape) == ("CIFAR-10", 10, (3, 32, 32))
        assert data.class_names[::9] == ("airplane", "truck") and data.train_labels.tolist() == [n % 10 for n in range(30)]
        np.testing.assert_array_equal(data.train_images, PIXELS)
        np.testing.assert_array_equal(data.test_images, PIXELS[:3])


def test_cifar100(tmp_path: Path) -> None:
    data = load(write_cifar(tmp_path, 2))
    assert data.classes == 100 and data.train_labels.tolist() == [number % 10 for number in range(30)]
    np.testing.assert_array_equal(data.train_images, PIXELS)


def test_bad_cifar(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "c")
    good = (folder / "test_batch.bin").read_bytes()
    for content, message in (
        (good[:-1], "length expects records of 3,073 bytes, .* got 9,218 bytes; download it again, in the binary version"),
        (b"", "length expects records of 3,073 bytes, .*got 0 bytes"),
        (b"\x0a" + good[1:], r"label of record 0 expects a number in 0\.\.9, got 10"),
    ):
        (folder / "test_batch.bin").write_bytes(content)
        refused(folder, rf"test_batch\.bin: {message}")
    (folder / "test_batch.bin").unlink()
    refused(folder, r"test_batch\.bin: no such file")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Bomb()))
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        refused(folder, "got Python pickles, which could run any code when they are loaded; download the binary version")
