"""Files as users have them, read by `load`: archives, tables, pictures, CIFAR, names; and files that are damaged or hostile."""

from __future__ import annotations

import errno
import gzip
import io
import os
import pickle
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.data import FORMATS, NAMES, DataError, Dataset, load, load_folder
from fastlenet.data.reading import MAX_BYTES
from helpers.arrays import Array
from helpers.idx import write_idx

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 6, 6), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 6, 6, 3), np.uint8)
LABELS = (np.arange(20) % 5).astype(np.uint8)


def refused(source: str | os.PathLike[str], message: str) -> None:
    """A DataError of one line, which names the file and ends so."""
    with pytest.raises(DataError) as caught:
        load(source)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600 and re.search(message, text), text


# --- NumPy archives -------------------------------------------------------------------------------------------------------


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


class Bomb:
    """What a pickle may run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, ("exploded",)


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


# --- tables ---------------------------------------------------------------------------------------------------------------


def table(images: Array = IMAGES, labels: Any = LABELS, header: bool = True, label: str | None = "label") -> str:
    """As Kaggle's digit recognizer has it."""
    rows = [[str(value) for value in image.reshape(-1).tolist()] for image in images]
    names = [f"pixel{number}" for number in range(images[0].size)]
    if label is not None:
        rows, names = [[str(word), *row] for word, row in zip(labels, rows, strict=True)], [label, *names]
    return "\n".join(",".join(row) for row in ([names] if header else []) + rows) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        table(),
        table(header=False),
        table(label="Class"),
        table().replace("\n", "\r\n"),
        "\ufeff" + table(),
        "\n" + table() + "\n\n",
        table().rstrip("\n"),
        table().replace(",", ";"),
        table().replace(",", "\t"),
        table(labels=[f"{label}.0" for label in LABELS]),
        re.sub(r"(\w+)", r'"\1"', table()),
    ],
    ids=["kaggle", "no header", "Class", "CRLF", "BOM", "blank", "no end", "semicolons", "tabs", "floats", "quoted"],
)
def test_tables(text: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.csv"
    path.write_bytes(text.encode())
    data = load(path)
    assert repr(data) == "Dataset('digits', 20 training images of 1x6x6 uint8, 5 classes)"
    np.testing.assert_array_equal(data.train_images, IMAGES)
    np.testing.assert_array_equal(data.train_labels, LABELS)


def test_a_label_at_the_end_and_floats(tmp_path: Path) -> None:
    """As pandas writes them, compressed."""
    frame = pytest.importorskip("pandas").DataFrame((IMAGES / 255).reshape(20, -1))
    frame["letter"] = list("abcde" * 4)
    frame.to_csv(tmp_path / "letters.csv.gz", index=False)
    data = load(tmp_path / "letters.csv.gz")
    assert data.class_names == tuple("abcde") and data.train_images.dtype == np.float32
    np.testing.assert_allclose(data.train_images, IMAGES / 255, atol=1e-7)
    frame.to_csv(tmp_path / "indexed.csv")
    refused(tmp_path / "indexed.csv", r"columns expects .*got a column without a name; pandas' to_csv\(index=False\)")


def test_tables_for_training_and_testing(tmp_path: Path) -> None:
    """The folder, or the file; Kaggle's table for testing has no labels, and is left out."""
    (tmp_path / "mnist_train.csv").write_text(table(header=False))
    (tmp_path / "mnist_test.csv").write_text(table(IMAGES[:5], LABELS[:5], header=False))
    for source in (tmp_path, tmp_path / "mnist_train.csv"):
        data = load(source)
        assert len(data.train_labels) == 20 and data.test_labels.tolist() == LABELS[:5].tolist()
    (tmp_path / "mnist_test.csv").write_text(table(label=None))
    assert len(load(tmp_path).test_labels) == 0


def changed(line: int, column: int, value: str) -> str:
    lines = table().splitlines()
    fields = lines[line - 1].split(",")
    fields[column - 1] = value
    lines[line - 1] = ",".join(fields)
    return "\n".join(lines)


BAD_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "rows expects at least one, got an empty file"),
    "header alone": (table().splitlines()[0].encode(), "rows expects at least one, got none below the header"),
    "words": (changed(4, 3, "x").encode(), "line 4, column 3 expects a number, got 'x'"),
    "missing": (changed(4, 3, "").encode(), "line 4, column 3 expects a number, got ''"),
    "a column more": (changed(4, 3, "1,1").encode(), "line 4 expects 37 columns, as the first line has, got 38"),
    "negative": (changed(4, 3, "-5").encode(), r"pixels expects pixels in 0..255, .* got float32 in -5.0..255.0"),
    "NaN": (changed(4, 3, "nan").encode(), "pixels expects pixels in 0..255, .*got float32 in nan..nan"),
    "no square": (b"label,a,b,c\n1,2,3,4\n", r"pixels expects .* where h\*w is a square, got shape \(1, 3\)"),
    "binary": (bytes(range(256)) * 20, "line 2 expects 2 columns, as the first line has, got 3"),
    "damaged gzip": (gzip.compress(table().encode())[:-20], "truncated, the gzip stream ends too early"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD_TABLES[name]
    Path("bad.csv").write_bytes(content)
    refused("bad.csv", rf"^bad\.csv: {message}")


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "long.csv.gz"
    path.write_bytes(gzip.compress(b"1," * (9 << 20), 1))
    refused(path, "file expects at most .* bytes, in lines of fewer than 16,777,216, got more; is it a table")


# --- pictures -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture() -> Any:
    return pytest.importorskip("PIL.Image")


def write_pictures(folder: Path, picture: Any, images: Array = IMAGES, suffix: str = ".png") -> Path:
    for number, image in enumerate(images):
        place = folder / "abcde"[number % 5]
        place.mkdir(parents=True, exist_ok=True)
        picture.fromarray(image).save(place / f"{number:02}{suffix}")
    return folder


def test_pictures(picture: Any, tmp_path: Path) -> None:
    """Of gray; files of systems, and other files, are left out, and folders within a class are part of it."""
    folder = write_pictures(tmp_path / "letters", picture)
    for extra in (".DS_Store", "readme.txt", "a/Thumbs.db", "a/._00.png", ".git/x.png"):
        (folder / extra).parent.mkdir(exist_ok=True)
        (folder / extra).write_bytes(b"x")
    (folder / "e" / "more").mkdir()
    (folder / "e" / "04.png").rename(folder / "e" / "more" / "04.png")
    data = load(folder)
    assert repr(data) == "Dataset('letters', 20 training images of 1x6x6 uint8, 5 classes)"
    assert data.class_names == tuple("abcde")
    for number, label in enumerate("abcd"):
        mine = data.train_images[data.train_labels == number]
        np.testing.assert_array_equal(mine, IMAGES[number::5], label)


@pytest.mark.parametrize("names", [("train", "test", "val"), ("Training", "Testing", "validation")])
def test_pictures_in_parts(names: tuple[str, str, str], picture: Any, tmp_path: Path) -> None:
    for name, images in zip(names, (COLOUR, COLOUR[:10], COLOUR[:5]), strict=True):
        write_pictures(tmp_path / name, picture, images, ".bmp")
    data = load(tmp_path)
    assert [len(data.part(part).labels) for part in ("train", "test", "validation")] == [20, 10, 5]  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.validation_images, COLOUR[:5].transpose(0, 3, 1, 2))


def test_numbers_as_classes_are_in_their_order(picture: Any, tmp_path: Path) -> None:
    for number in (2, 10, 1):
        (tmp_path / str(number)).mkdir()
        picture.fromarray(IMAGES[number]).save(tmp_path / str(number) / "x.png")
    assert load(tmp_path).class_names == ("1", "2", "10")


def test_kinds_of_pictures(picture: Any, tmp_path: Path) -> None:
    """Transparent becomes white, 16 bits become 8, one bit is black or white; gray among colours is colour."""
    clear = np.zeros((6, 6, 4), np.uint8)
    clear[0, 0] = 10, 20, 30, 255
    deep = (IMAGES[0].astype(np.uint16) * 257).astype(np.uint16)
    for label, image in (
        ("clear", picture.fromarray(clear, "RGBA")),
        ("deep", picture.fromarray(deep)),
        ("palette", picture.fromarray(COLOUR[0]).convert("P", palette=1)),
        ("two", picture.fromarray(IMAGES[0] > 127)),
    ):
        (tmp_path / label).mkdir()
        image.save(tmp_path / label / "x.png")
    data = load(tmp_path)
    assert data.input_shape == (3, 6, 6)
    images = data.train_images[np.argsort(data.train_labels)]
    assert images[0, :, 0, 0].tolist() == [10, 20, 30] and (images[0, :, 1:] == 255).all()
    np.testing.assert_array_equal(images[1], np.stack([IMAGES[0]] * 3))
    np.testing.assert_array_equal(images[3, 0] > 0, IMAGES[0] > 127)


def test_sizes(picture: Any, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "p", picture)
    picture.fromarray(IMAGES[0, :4]).save(folder / "e" / "z.png")
    refused(folder, r"z\.png: picture expects 6x6 pixels, as .*00\.png has, got 4x6; bring all to one size, or give size=")
    assert load_folder(folder, size=(8, 4)).input_shape == load(folder, size=(8, 4)).input_shape == (1, 8, 4)
    for source in ("mnist", write_cifar(tmp_path / "c")):
        with pytest.raises(ValueError, match=r"^load: size expects none for .*; only the pictures of a folder are resized"):
            load(source, size=(8, 8))
    with pytest.raises(ValueError, match=r"load_folder: size\[0\] expects a positive integer, got 0"):
        load_folder(folder, size=(0, 4))
    for size in (8, (8,), "88"):
        with pytest.raises(TypeError, match=r"load_folder: size expects a pair of integers, height and width, got"):
            load(folder, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a picture that can be read"), (b"GIF89a", "not a picture that can be read"), (b"x" * 99, "not a picture")],
)
def test_bad_pictures(content: bytes, message: str, picture: Any, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "p", picture)
    (folder / "e" / "bad.png").write_bytes(content)
    refused(folder, rf"bad\.png: {message}")


def test_a_truncated_picture(picture: Any, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "p", picture, np.repeat(np.repeat(IMAGES, 20, 1), 20, 2))
    path = folder / "c" / "02.png"
    path.write_bytes(path.read_bytes()[:200])
    refused(folder, r"02\.png: not a picture that can be read")


def test_a_picture_that_is_too_large(picture: Any, tmp_path: Path) -> None:
    """200 million pixels in a few bytes are not decompressed."""
    chunks = (b"IHDR", struct.pack(">2I5B", 20_000, 10_000, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
        )
    )
    refused(tmp_path, r"x\.png: not a picture that can be read \(.*(exceeds limit|decompression bomb)")


def test_folders_that_are_no_classes(picture: Any, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "p", picture)
    (folder / "empty").mkdir()
    refused(folder, r"empty: class expects at least one picture .*, got none; remove the folder")
    refused(folder / "a", "put the pictures of each class into a folder of its name$")


def test_without_pillow(picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, picture)
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(tmp_path, r"pictures need Pillow .*pip install 'fastlenet\[image\]'$")


# --- CIFAR ----------------------------------------------------------------------------------------------------------------

PIXELS = RNG.integers(0, 256, (30, 3, 32, 32), np.uint8)


def write_cifar(folder: Path, label_bytes: int = 1) -> Path:
    """Five files of six records and one for testing; or CIFAR-100's two, with a coarse label before the fine one."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [bytes([9] * (label_bytes - 1) + [number % 10]) + image.tobytes() for number, image in enumerate(PIXELS)]
    if label_bytes == 1:
        for batch in range(5):
            (folder / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(records[6 * batch : 6 * batch + 6]))
        (folder / "test_batch.bin").write_bytes(b"".join(records[:3]))
    else:
        (folder / "train.bin").write_bytes(b"".join(records))
        (folder / "test.bin").write_bytes(b"".join(records[:3]))
    return folder


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


# --- names ----------------------------------------------------------------------------------------------------------------


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
def test_emnist(split: str, labels: Array, names: str, tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (len(labels), 28, 28), np.uint8)
    for part in ("train", "test"):
        write_idx(tmp_path / f"emnist-{split}-{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"emnist-{split}-{part}-labels-idx1-ubyte", labels)
    data = load(tmp_path)
    assert data.class_names == tuple(names) and data.train_labels.tolist() == list(range(len(names)))
    np.testing.assert_array_equal(data.train_images, images.transpose(0, 2, 1))


def test_names_whose_files_are_there(tmp_path: Path, mnist: Dataset) -> None:
    """Without torchvision: MNIST, normalised as ever, and the letters of EMNIST, whose folder has other splits too."""
    raw = {name: tmp_path / name / "raw" for name in ("MNIST", "EMNIST")}
    letters = np.arange(1, 27)
    images = RNG.integers(0, 256, (26, 28, 28), np.uint8)
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
