"""Data sets: the bundled files, IDX folders, and every way in which a file can be bad."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastlenet.data
from fastlenet.data import DataError, Dataset, load_idx_directory, load_mnist
from helpers.arrays import Array
from helpers.idx import write_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# How often each digit occurs in MNIST's training and test sets.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist(mnist: Dataset) -> None:
    assert mnist.train_images.shape == (60000, 28, 28) and mnist.test_images.shape == (10000, 28, 28)
    assert mnist.train_images.dtype == mnist.train_labels.dtype == np.uint8
    assert np.bincount(mnist.train_labels).tolist() == TRAIN_COUNTS
    assert np.bincount(mnist.test_labels).tolist() == TEST_COUNTS
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    counts, pixels = np.bincount(mnist.train_images.ravel(), minlength=256), np.arange(256) / 255
    mean = np.average(pixels, weights=counts)
    std = np.sqrt(np.average((pixels - mean) ** 2, weights=counts))
    assert (mnist.mean, mnist.std) == (round(mean, 4), round(std, 4))


def test_mnist_loads_without_delay() -> None:
    """In at most twice the time that it takes to decompress the files and to hash them, a third of a second."""
    for _ in range(5):  # until one of them is undisturbed
        times = []
        for work in (_decompress_and_hash, load_mnist):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        if times[1] < 2 * times[0]:
            return
    pytest.fail(f"load_mnist took {times[1]:.2f} s, of which decompressing and hashing take {times[0]:.2f} s")


def _decompress_and_hash() -> None:
    for path in fastlenet.data.mnist.FOLDER.glob("*.gz"):
        hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()
        gzip.decompress(path.read_bytes())


def test_a_damaged_installation_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in fastlenet.data.mnist.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / f"{LABELS}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(fastlenet.data.mnist, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=rf"{LABELS}\.gz: damaged, its MD5 sum is not \w+; install fastlenet again"):
        load_mnist()
    damaged.write_bytes((tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes())  # one of the four, in another's place
    with pytest.raises(DataError, match=rf"{LABELS}\.gz: damaged"):
        load_mnist()


def test_idx_directory(small_mnist: Path, mnist: Dataset) -> None:
    data = load_idx_directory(small_mnist)
    np.testing.assert_array_equal(data.train_images, mnist.train_images[:2000])
    np.testing.assert_array_equal(data.train_labels, mnist.train_labels[:2000])
    np.testing.assert_array_equal(data.test_images, mnist.test_images[:500])
    np.testing.assert_array_equal(data.test_labels, mnist.test_labels[:500])
    pixels = data.train_images / 255.0
    assert data.mean == pytest.approx(pixels.mean(), rel=1e-12) and data.std == pytest.approx(pixels.std(), rel=1e-9)


@pytest.mark.parametrize("subfolder", ["raw", "MNIST/raw"])
def test_torchvision_layout(subfolder: str, small_mnist: Path, tmp_path: Path) -> None:
    target = tmp_path / subfolder
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(small_mnist)
    assert load_idx_directory(tmp_path).fingerprint == load_idx_directory(small_mnist).fingerprint


def test_hold_out(mnist: Dataset) -> None:
    held = mnist.hold_out(5000)
    np.testing.assert_array_equal(held.train_images, mnist.train_images[:55000])
    np.testing.assert_array_equal(held.validation_images, mnist.train_images[55000:])
    np.testing.assert_array_equal(held.validation_labels, mnist.train_labels[55000:])
    assert len(held.test_images) == len(held.test_labels) == 0
    assert held.fingerprint != mnist.fingerprint
    relabelled = replace(mnist, train_labels=np.roll(mnist.train_labels, 1))
    assert relabelled.fingerprint != mnist.fingerprint
    for wrong in (0, -1, 60000):
        with pytest.raises(ValueError, match=rf"count expects 1\.\.59999 images, got {wrong}"):
            mnist.hold_out(wrong)


def image_header(count: int, h: int = 28, w: int = 28, magic: bytes = b"\0\0\x08\x03") -> bytes:
    return magic + b"".join(size.to_bytes(4, "big") for size in (count, h, w))


IMAGE = np.zeros((3, 28, 28), np.uint8)

# Name, what to write to the images' file, and the error.
BAD_IMAGES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "truncated, 0 bytes are not an IDX file"),
    ("half a header", image_header(3)[:9], "truncated inside the header"),
    (
        "truncated",
        image_header(3) + IMAGE.tobytes()[:-1],
        r"truncated, the header claims \(3, 28, 28\), 2,352 bytes, but 2,351",
    ),
    ("trailing", image_header(3) + IMAGE.tobytes() + b"\0", "trailing bytes after the 2,352 that the header claims"),
    (
        "labels' magic",
        image_header(3, magic=b"\0\0\x08\x01") + IMAGE.tobytes(),
        "wrong magic number 0x00000801, expected 0x00000803",
    ),
    ("floats", image_header(3, magic=b"\0\0\x0d\x03") + IMAGE.tobytes(), "wrong magic number 0x00000d03"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), "wrong magic number 0x89504e47"),
    ("lying, 3e12 bytes", image_header(2**32 - 1) + IMAGE.tobytes(), "the header claims .* at most 209,715,200 are accepted"),
    ("lying, 190 MB", image_header(250_000) + IMAGE.tobytes(), "truncated, the header claims .* but 2,352 follow"),
    ("no images", image_header(0), "0 images of|no images in it"),
    ("cut gzip", gzip.compress(image_header(3) + IMAGE.tobytes())[:-9], "truncated, the gzip stream ends too early"),
    ("broken gzip", b"\x1f\x8b\x08" + bytes(40), "damaged gzip file|truncated"),
    ("gzip checksum", gzip.compress(image_header(3) + IMAGE.tobytes())[:-8] + bytes(8), "damaged gzip file"),
    ("gzip of rubbish", gzip.compress(b"rubbish, and no images"), "wrong magic number"),
]


def fill(folder: Path) -> Path:
    """Four good files of three images."""
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", IMAGE)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(3))
    return folder


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD_IMAGES], ids=[case[0] for case in BAD_IMAGES])
def test_bad_images(content: bytes, message: str, tmp_path: Path) -> None:
    (fill(tmp_path) / IMAGES).write_bytes(content)
    expect_data_error(tmp_path, message, IMAGES)


def expect_data_error(folder: Path, message: str, *names: str) -> None:
    """One line that says what is wrong and names the file."""
    with pytest.raises(DataError, match=message) as caught:
        load_idx_directory(folder)
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1, 2, 10]), r"label 10 is out of the range 0\.\.9; more classes than ten need every label"),
        (np.arange(4), "4 labels for the 3 images of train-images"),
    ],
    ids=["out of range", "counts differ"],
)
def test_bad_labels(labels: Array, message: str, tmp_path: Path) -> None:
    write_idx(fill(tmp_path) / LABELS, labels)
    expect_data_error(tmp_path, message, LABELS)


def test_sizes_that_differ(tmp_path: Path) -> None:
    write_idx(fill(tmp_path) / "t10k-images-idx3-ubyte", np.zeros((3, 20, 28)))
    expect_data_error(tmp_path, r"training images of \(28, 28\) and test images of \(20, 28\) pixels")


def test_missing_files(tmp_path: Path) -> None:
    expect_data_error(tmp_path, "no train-images-idx3-ubyte or .*; it is empty", str(tmp_path))
    (fill(tmp_path) / LABELS).unlink()
    expect_data_error(tmp_path, "no such file, gzipped or not", LABELS)
    with pytest.raises(DataError, match="no such folder"):
        load_idx_directory(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        load_idx_directory(tmp_path / IMAGES)


def test_not_a_file(tmp_path: Path) -> None:
    (fill(tmp_path) / LABELS).unlink()
    (tmp_path / LABELS).mkdir()
    expect_data_error(tmp_path, "not a file", LABELS)
    (tmp_path / LABELS).rmdir()
    os.mkfifo(tmp_path / LABELS)
    expect_data_error(tmp_path, "not a file", LABELS)


@pytest.mark.parametrize(
    ("locked", "message"),
    [
        (LABELS, f"data/{LABELS}: no permission to read it"),
        (".", "data: no permission to look into it"),
        ("..", "data: no permission to look into it"),
    ],
    ids=["file", "folder", "its folder"],
)
def test_no_permission(locked: str, message: str, tmp_path: Path) -> None:
    """As an ordinary user: root, whom no permission stops, becomes one in a child process."""
    tmp_path.chmod(0o755)
    (tmp_path / "data").mkdir()
    (fill(tmp_path / "data") / locked).chmod(0)
    code = f"""
import os
from fastlenet.data import DataError, load_idx_directory
os.chdir({str(tmp_path)!r})
if os.geteuid() == 0: os.setuid(65534)
try: load_idx_directory("data")
except DataError as error: print(error)
"""
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    finally:
        tmp_path.chmod(0o755)
    assert result.stdout.strip() == message, result.stderr


def test_a_name_too_long(tmp_path: Path) -> None:
    expect_data_error(tmp_path / ("x" * 5000), "cannot be read")


# What the command prints on standard error, and its peak of resident memory in KiB.
PEAK = """
import sys
from fastlenet.cli.train import main
code = main(["--data-dir", sys.argv[1]])
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
sys.exit(code)
"""


def expect_refused_in_little_memory(folder: Path, message: str) -> None:
    """Exit code 2, one line, less than 300 MB."""
    result = subprocess.run([sys.executable, "-c", PEAK, folder], capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert int(result.stdout) * 1024 < 300e6


@pytest.mark.slow
def test_gzip_bombs_and_lying_headers_stay_small(tmp_path: Path) -> None:
    """20 GB of zeros in 20 MB, and headers that claim what does not follow."""
    block = gzip.compress(bytes(1 << 20), 9)
    images = fill(tmp_path) / IMAGES
    for content, message in (
        (gzip.compress(image_header(3) + IMAGE.tobytes()) + block * 20_000, "trailing bytes after the 2,352"),
        (image_header(250_000) + IMAGE.tobytes(), "truncated, the header claims (250000, 28, 28)"),
        (gzip.compress(image_header(260_000)) + block * 193, "truncated, the header claims (260000, 28, 28)"),
    ):
        images.write_bytes(content)
        expect_refused_in_little_memory(tmp_path, message)


@pytest.mark.slow
def test_a_bomb_after_a_large_file(tmp_path: Path) -> None:
    """The bound is that of all four files together: 200 MB of test images do not come on top of 196 MB for training."""
    block = gzip.compress(bytes(1 << 20), 9)
    fill(tmp_path)
    (tmp_path / IMAGES).write_bytes(gzip.compress(image_header(250_000)) + gzip.compress(bytes(784 * 250), 1) * 1000)
    write_idx(tmp_path / LABELS, np.zeros(250_000))
    for name, header in (
        ("t10k-images-idx3-ubyte", image_header(250_000)),
        ("t10k-labels-idx1-ubyte", b"\0\0\x08\x01" + (196_000_000).to_bytes(4, "big")),
    ):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(header) + block * 193)
        expect_refused_in_little_memory(tmp_path, f"{name}: the header claims")
        (tmp_path / name).write_bytes(before)


@pytest.mark.slow
def test_mean_and_deviation_take_little_memory(tmp_path: Path) -> None:
    """120 MB of images of 3x160 pixels, which LeNet refuses at last."""
    for part in ("train", "t10k"):
        write_idx(
            tmp_path / f"{part}-images-idx3-ubyte", np.zeros((250_000, 3, 160) if part == "train" else (3, 3, 160), np.uint8)
        )
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(250_000 if part == "train" else 3))
    expect_refused_in_little_memory(tmp_path, "LeNet: input_shape expects (channels, height, width)")
