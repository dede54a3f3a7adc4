"""Pictures of every kind become the same pixels; what is no picture is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastlenet.images.reading import ImageError, read_picture

GRAY = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5) * 8


def read(image: Any) -> np.ndarray:
    return read_picture(image)[0]


@pytest.mark.parametrize(
    "image",
    [
        GRAY,
        GRAY[:, :, None],
        GRAY[None],
        np.repeat(GRAY[:, :, None], 3, 2),
        np.repeat(GRAY[None], 3, 0),
        GRAY.astype(np.int64),
        GRAY.astype(np.float64),
        GRAY / 255,
        (GRAY / 255).astype(np.float32),
        GRAY.astype(np.uint16) * 257,
        (GRAY.astype(np.uint16) * 257).astype(">u2"),  # as TIFF, PNM and FITS hold them
        GRAY.tolist(),
        GRAY[::-1].copy()[::-1],
        Image.fromarray(GRAY),
        Image.fromarray(np.repeat(GRAY[:, :, None], 3, 2)),
        Image.fromarray(GRAY.astype(np.uint16) * 257),
        Image.fromarray(GRAY).convert("P"),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'shape', '')}-{getattr(image, 'dtype', '')}",
)
def test_one_picture_in_many_forms(image: Any) -> None:
    pixels = read(image)
    assert pixels.dtype == np.float32 and pixels.shape[:2] == GRAY.shape
    np.testing.assert_allclose(pixels, np.broadcast_to(GRAY[:, :, None] / 255, pixels.shape), atol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "a.gif", "a.webp"])
def test_files(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(GRAY).save(tmp_path / name, **options)
    for path in (tmp_path / name, str(tmp_path / name)):
        np.testing.assert_allclose(read(path)[:, :, 0], GRAY / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_lay_on_its_side(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: np.transpose, 6: lambda x: np.rot90(x, -1)}
    upright |= {1: np.asarray, 7: lambda x: np.rot90(x, 2).T, 8: np.rot90}
    Image.fromarray(GRAY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(read(tmp_path / "a.png")[:, :, 0], upright[orientation](GRAY) / 255, atol=1e-6)


def test_transparent_pixels_are_white() -> None:
    alpha = np.zeros_like(GRAY)
    alpha[2:, 1:] = 255
    expected = np.where(alpha, GRAY, 255) / 255
    for pixels in (np.stack([GRAY, alpha], -1), np.stack([GRAY, GRAY, GRAY, alpha], -1)):
        np.testing.assert_allclose(read(pixels)[:, :, 0], expected, atol=1e-6)
        np.testing.assert_allclose(read(Image.fromarray(pixels))[:, :, 0], expected, atol=1e-6)
    palette = Image.fromarray(np.stack([GRAY, GRAY, GRAY, alpha], -1)).quantize(method=Image.Quantize.FASTOCTREE)
    assert (read(palette)[alpha == 0] > 0.99).all()


def test_white_strokes_on_a_transparent_ground_lie_over_black() -> None:
    alpha = np.zeros_like(GRAY)
    alpha[2:4] = 255
    for pixels in (np.stack([alpha, alpha], -1), np.stack([alpha, alpha, alpha, alpha], -1)):
        np.testing.assert_array_equal(read(pixels)[:, :, 0], alpha / 255)
    opaque = np.full_like(GRAY, 255)  # a white sheet stays white
    np.testing.assert_array_equal(read(np.stack([opaque, opaque], -1)), 1)


@pytest.mark.parametrize("most", [1, 255, 65535])
def test_pictures_of_32_bits(tmp_path: Path, most: int) -> None:
    Image.fromarray(GRAY.astype(np.float32) / GRAY.max() * most).save(tmp_path / "a.tiff")
    np.testing.assert_allclose(read(tmp_path / "a.tiff")[:, :, 0], GRAY / GRAY.max(), atol=1e-6)
    Image.fromarray(np.full((9, 9), -2.0, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(
        ImageError, match=r"cannot be read as a picture \(image expects pixels of 0..1, 0..255 or 0..65535, got -2"
    ):
        read(tmp_path / "a.tiff")


def test_masks_of_0_and_1_are_black_and_white() -> None:
    mask = GRAY > 100
    for image in (mask, mask.astype(np.uint8), mask.astype(np.float64), Image.fromarray(mask)):
        np.testing.assert_array_equal(read(image)[:, :, 0], mask)


def test_large_pictures_are_averaged() -> None:
    large = np.kron(GRAY, np.ones((500, 401), np.uint8))
    pixels, scale = read_picture(large)
    assert scale == 3 and pixels.shape == (1000, 669, 1)
    assert pixels.mean() == pytest.approx(large.mean() / 255, abs=0.002)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
def test_strips_of_a_picture_are_those_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2050, 70, 4), np.uint8)
    picture = Image.fromarray(noise[:, :, 0] * np.uint16(257)) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    whole, scale = read_picture(picture)
    monkeypatch.setattr("fastlenet.images.reading._STRIP", 9999)
    pixels, _ = read_picture(picture)
    assert scale == 3 and pixels.shape[:2] == (684, 24)
    np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_photograph_is_decoded_at_a_half(tmp_path: Path, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a JPEG's decoder, which spares memory; here all sizes are a tenth."""
    monkeypatch.setattr("fastlenet.images.reading.LONGEST", 100)
    monkeypatch.setattr("fastlenet.images.reading._DRAFT", 400)
    page = np.full((1600, 800), 255, np.uint8)
    page[:400] = 0
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(page).save(tmp_path / "a.jpg", exif=exif)
    decoded, whole = [], Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda image, box: (decoded.append(max(image.size)), whole(image, box))[1])
    pixels, scale = read_picture(tmp_path / "a.jpg")
    expected = np.repeat(np.repeat([[0.0], [1.0]], [25, 75], 0), 50, 1)
    np.testing.assert_allclose(pixels[:, :, 0], expected if turn == 1 else np.rot90(expected, -1), atol=0.02)
    assert scale == 16 and set(decoded) == {800}


class Tensor:
    """What other libraries' arrays are to NumPy."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return GRAY.copy()


def test_arrays_of_other_libraries() -> None:
    np.testing.assert_allclose(read(Tensor())[:, :, 0], GRAY / 255, atol=1e-6)


class NeedsGradients:
    """As a tensor of PyTorch whose gradient is computed."""

    def __array__(self, *arguments: object, **named: object) -> None:
        raise RuntimeError("it needs gradients")


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (np.zeros((3, 28, 28, 1)), ValueError, r"got shape \(3, 28, 28, 1\); give one picture at a time"),
        (np.zeros((5, 28, 28)), ValueError, r"got shape \(5, 28, 28\); give one picture at a time"),
        (np.zeros(784), ValueError, r"got shape \(784,\)"),
        (np.zeros((0, 28)), ValueError, r"got shape \(0, 28\)"),
        (GRAY - 300.0, ValueError, "pixels of 0..1 or 0..255, got float64 of -300..-68; give the pixels as they were before"),
        (np.full((9, 9), np.nan), ValueError, "got float64 of nan..nan"),
        (np.full((9, 9), 1e5), ValueError, "got float64 of 1e"),
        (GRAY.astype(complex), TypeError, "image expects a file's name, a Pillow image, or an array"),
        (np.ma.masked_array(GRAY), TypeError, "got a masked array"),
        (None, TypeError, "got NoneType"),
        ([[1, 2], [3]], TypeError, "parts of different shapes"),
        (NeedsGradients(), TypeError, r"got NeedsGradients that is not an array \(it needs gradients\)"),
    ],
)
def test_what_is_no_picture(image: Any, kind: type[Exception], expected: str) -> None:
    with pytest.raises(kind, match=expected) as caught:
        read_picture(image)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "empty.jpg").touch()
    for name, expected in {
        "text.png": "not a picture that Pillow reads; convert it to PNG or JPEG",
        "cut.png": "cannot be read as a picture",
        "empty.jpg": "not a picture that Pillow reads",
        "absent.png": "no such file",
        ".": "not a file",
    }.items():
        with pytest.raises(ImageError, match=expected) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tiff", "a.bmp"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(tmp_path / name)
    whole, refused = (tmp_path / name).read_bytes(), 0
    for _ in range(20):
        content = np.frombuffer(whole, np.uint8)[: rng.integers(1, 2 * len(whole))].copy()
        places = rng.integers(0, min(len(content), 10 ** rng.integers(1, 4)), rng.integers(1, 10))
        content[places] = rng.integers(0, 256, len(places))
        (tmp_path / name).write_bytes(content.tobytes())
        try:
            assert np.isfinite(read(tmp_path / name)).all()
        except ImageError as error:
            refused += 1
            assert "\n" not in str(error) and name in str(error)
    assert refused > 2


def test_a_picture_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="more than 20 pixels, which Pillow refuses; make it smaller"):
        read_picture(tmp_path / "a.png")


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays need none of it; a file's error says how it is installed."""
    (tmp_path / "a.png").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert read(GRAY).shape == (6, 5, 1)
    with pytest.raises(ImageError, match=r"reading or writing a picture needs Pillow \(.*\); pip install 'fastlenet\[image\]'"):
        read_picture(tmp_path / "a.png")
