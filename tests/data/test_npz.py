"""`load` reads NumPy archives as Keras, MedMNIST and users save them, and refuses damaged and hostile ones."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data import load
from fastlenet.data.reading import MAX_BYTES
from helpers.arrays import Array
from helpers.data_files import COLOUR, IMAGES, LABELS, Bomb, refused


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_keras(save: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    save(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:5], y_test=LABELS[:5])
    data = load(path)
    assert repr(data) == "Dataset('mnist', 20 training and 5 test images of 1x6x6 uint8, 5 classes)"
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.test_labels, LABELS[:5])


def test_medmnist(tmp_path: Path) -> None:
    """Colours last, a column of labels, and images for validation."""
    parts = {f"{part}_images": COLOUR for part in ("train", "val", "test")}
    parts |= {f"{part}_labels": LABELS[:, None] for part in ("train", "val", "test")}
    np.savez(tmp_path / "pathmnist.npz", **parts)  # type: ignore[arg-type]
    data = load(tmp_path / "pathmnist.npz")
    assert data.input_shape == (3, 6, 6) and len(data.validation_labels) == 20
    np.testing.assert_array_equal(data.train_images, COLOUR.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("names", [("X", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1")])
def test_a_pair(names: tuple[str, str], tmp_path: Path) -> None:
    """Without a test part; Fortran's order, floats and words too."""
    arrays = dict(zip(names, (np.asfortranarray(IMAGES / 255), np.array(list("abcde"))[LABELS]), strict=True))
    np.savez(tmp_path / "mine.npz", **arrays)
    data = load(str(tmp_path / "mine.npz"))
    assert data.class_names == tuple("abcde") and len(data.test_labels) == 0
    np.testing.assert_allclose(data.train_images, IMAGES / 255, atol=1e-7)


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def of(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


GOOD = npz(X=of(IMAGES), y=of(LABELS))
BAD_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "damaged, or not a NumPy archive"),
    "text": (b"x,y\n" * 99, "damaged, or not a NumPy archive"),
    "truncated": (GOOD[: len(GOOD) // 2], "damaged, or not a NumPy archive"),
    "no arrays": (npz(), "archive expects arrays x_train and y_train, .*, got none; numpy.savez"),
    "other names": (npz(pixels=of(IMAGES)), "archive expects arrays .*, got pixels; numpy.savez"),
    "no labels for test": (
        npz(x_train=of(IMAGES), y_train=of(LABELS), x_test=of(IMAGES)),
        "y_test expects an array beside x_test",
    ),
    "objects": (
        npz(X=of(IMAGES), y=npy("{'descr': '|O', 'fortran_order': False, 'shape': (20,), }", pickle.dumps([Bomb()]))),
        "y expects numbers or text, got Python objects, which could run any code when they are loaded; save it again",
    ),
    "nothing, of any size": (
        npz(
            X=npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': (0, {1 << 62}, {1 << 62}), }}"),
            y=of(LABELS),
        ),
        "X expects at least one number or word, got none, uint8 of shape",
    ),
    "words without letters": (
        npz(X=of(IMAGES), y=npy("{'descr': '<U0', 'fortran_order': False, 'shape': (20,), }")),
        r"y expects at least one number or word, got none, <U0 of shape \(20,\)",
    ),
    "no array": (npz(X=b"rubbish", y=of(LABELS)), "X expects a NumPy array, got "),
    "code for a header": (npz(X=npy("__import__('os').mkdir('exploded')"), y=of(LABELS)), "X expects a NumPy array, got "),
    "a header without an end": (npz(X=npy("{'descr': '|u1', 'shape': (20, 6,"), y=of(LABELS)), "X expects a NumPy array, got "),
    "a header that lies": (
        npz(X=npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000, 4000000000), }"), y=of(LABELS)),
        "X expects 16,000,000,000,000,000,000 bytes, as its header of .* says, got 0; the file is damaged",
    ),
    "one-hot": (
        npz(X=of(IMAGES), y=of(np.eye(5)[LABELS])),
        r"y expects a label for each image.* got shape \(20, 5\); take .arg",
    ),
    "too few labels": (npz(X=of(IMAGES), y=of(LABELS[:3])), "y expects 20 labels, one for each image of X, got 3"),
    "NaN": (npz(X=of(IMAGES * np.nan), y=of(LABELS)), "X expects pixels in 0..255, .*got float64 in nan..nan"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD_ARCHIVES[name]
    Path("bad.npz").write_bytes(content)
    refused("bad.npz", rf"^bad\.npz: {message}")
    assert not Path("exploded").exists()


def test_an_archive_that_decompresses_to_too_much(tmp_path: Path) -> None:
    """220 MB of zeros in 214 kB: refused by what the directory of the archive says, before a byte is read."""
    head = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (220, 1000, 1000), }")
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("X.npy", "w") as stream:
        stream.write(head)
        for _ in range(220):
            stream.write(bytes(1_000_000))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", of(np.zeros(220, np.uint8)))
    refused(path, f"X expects at most {MAX_BYTES:,} bytes of arrays in a file of this size, got 220,")
