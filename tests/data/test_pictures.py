"""`load` reads folders of pictures, one for each class, and refuses those that are damaged, too large or of several sizes."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.data import load, load_folder
from helpers.arrays import Array
from helpers.data_files import COLOUR, IMAGES, refused, write_cifar


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
