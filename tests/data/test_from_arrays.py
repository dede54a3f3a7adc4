"""Dataset.from_arrays, split and with_validation: what users have, and what is refused at the door."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, fit
from fastlenet.data import Dataset
from fastlenet.fields import FieldError
from helpers.arrays import Array

RNG = np.random.default_rng(0)
COUNT = 60
BYTES = RNG.integers(0, 256, (COUNT, 12, 10), np.uint8)
COLOUR = RNG.integers(0, 256, (COUNT, 3, 12, 10), np.uint8)
LABELS = np.arange(COUNT) % 5
ONE_HOT = np.eye(5)[LABELS]
WORDS = np.array(["apple", "bee", "cat", "dog", "egg"])

Change = Callable[[Array], Any]


# --- images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x[:, None],
        lambda x: x[..., None],
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint16),
        lambda x: x.tolist(),
        list,
        lambda x: x[::-1][::-1],
        np.asfortranarray,
    ],
)
def test_the_same_bytes_in_other_layouts(change: Change) -> None:
    data = Dataset.from_arrays(change(BYTES), LABELS)
    assert data.train_images.dtype == np.uint8 and data.train_images.flags.c_contiguous and data.input_shape == (1, 12, 10)
    np.testing.assert_array_equal(data.train_images, BYTES)
    assert data.mean == pytest.approx(BYTES.mean() / 255) and data.std == pytest.approx(BYTES.std() / 255)


def test_rows_of_squares() -> None:
    squares = BYTES[:, :10]
    np.testing.assert_array_equal(Dataset.from_arrays(squares.reshape(COUNT, 100), LABELS).train_images, squares)


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x.transpose(0, 2, 3, 1)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("scale", [1, 255], ids=["bytes", "floats"])
def test_channels(change: Change, scale: int) -> None:
    """Mean and deviation are those of each channel."""
    data = Dataset.from_arrays(change(COLOUR) if scale == 1 else change(COLOUR) / scale, LABELS)
    assert data.input_shape == (3, 12, 10)
    pixels = data.train_images / (255 if scale == 1 else 1)
    np.testing.assert_allclose(pixels, COLOUR / 255, atol=1e-7)
    np.testing.assert_allclose(data.mean, (COLOUR / 255).mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, (COLOUR / 255).std(axis=(0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ((BYTES / 255).astype(np.float32), BYTES / 255),
        (BYTES / 255, BYTES / 255),
        (BYTES.astype(np.float64), BYTES / 255),
        (BYTES.astype(np.float32) / 3, BYTES / 3 / 255),
        ((BYTES / 255).astype(np.float16), (BYTES / 255).astype(np.float16)),
    ],
    ids=["float32 to 1", "float64 to 1", "to 255", "fractions to 85", "float16"],
)
def test_floats_are_trained_on_as_they_are(images: Array, expected: Array) -> None:
    data = Dataset.from_arrays(images, LABELS)
    assert data.train_images.dtype == np.float32
    np.testing.assert_allclose(data.train_images, expected, rtol=1e-6)


def test_floats_that_need_no_copy_are_kept() -> None:
    images = (BYTES / 255).astype(np.float32)
    assert np.shares_memory(Dataset.from_arrays(images, LABELS).train_images, images)
    assert np.shares_memory(Dataset.from_arrays(BYTES, LABELS).train_images, BYTES)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of matrices
def test_a_matrix_is_rows_of_pixels() -> None:
    rows = BYTES[:, :10].reshape(COUNT, 100)
    np.testing.assert_array_equal(Dataset.from_arrays(np.matrix(rows), LABELS).train_images, BYTES[:, :10])


def test_one_colour_has_deviation_one() -> None:
    assert Dataset.from_arrays(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]).std == 1


X = "Dataset.from_arrays: X expects "
LAYOUTS = "images (n, h, w), (n, c, h, w), (n, h, w, c) or (n, h*w)"
RANGES = "pixels in 0..255, or floats in [0, 1] or [0, 255], got "
WRONG_IMAGES: dict[str, tuple[Any, type, str]] = {
    "None": (None, TypeError, f"{LAYOUTS}, got NoneType"),
    "a number": (3, ValueError, f"{LAYOUTS}, got shape ()"),
    "labels": (LABELS, ValueError, f"{LAYOUTS}, got shape (60,)"),
    "five dimensions": (BYTES[:, None, None], ValueError, f"{LAYOUTS}, got shape (60, 1, 1, 12, 10)"),
    "no images": (BYTES[:0], ValueError, "at least one image with at least one pixel, got shape (0, 12, 10)"),
    "no pixels": (BYTES[:, :0], ValueError, "at least one image with at least one pixel, got shape (60, 0, 10)"),
    "odd rows": (BYTES.reshape(COUNT, 120), ValueError, "where h*w is a square, got shape (60, 120); "),
    "rows of colours": (np.zeros((COUNT, 300)), ValueError, "; .reshape(-1, 3, 10, 10) makes images of rows"),
    "ragged": ([BYTES[0], BYTES[0, :5]], TypeError, "got parts of different shapes; bring all of them to one size"),
    "words": (BYTES.astype(str), TypeError, f"{LAYOUTS} of numbers, got <U3"),
    "objects": (BYTES.astype(object), TypeError, "of numbers, got object; .astype(float) makes numbers"),
    "complex": (BYTES * 1j, TypeError, "of numbers, got complex128"),
    "masked": (np.ma.masked_equal(BYTES, 0), TypeError, "got a masked array, whose mask would be ignored; fill it"),
    "NaN": (np.where(BYTES == 7, np.nan, BYTES), ValueError, f"{RANGES}float64 in nan..nan; numpy.isfinite finds them"),
    "infinity": (np.where(BYTES == 7, np.inf, BYTES), ValueError, "..inf; numpy.isfinite finds them"),
    "signed": (BYTES.astype(int) - 128, ValueError, f"{RANGES}int64 in -128..127; give the pixels as they were before"),
    "standardised": (BYTES / 50 - 2, ValueError, "; give the pixels as they were before they were normalised"),
    "in [-1, 1]": (BYTES / 127.5 - 1, ValueError, f"{RANGES}float64 in -1.0..1.0; give the pixels as they were"),
    "resized": (BYTES / 255 * 1.1 - 0.05, ValueError, "; numpy.clip(images, 0, 1), if resizing brought them there"),
    "16 bits": (BYTES.astype(np.uint16) * 257, ValueError, f"{RANGES}uint16 in 0..65535; divide them by 65535"),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_wrong_images(name: str) -> None:
    images, kind, message = WRONG_IMAGES[name]
    expect_error(kind, X, message, lambda: Dataset.from_arrays(images, LABELS))


def expect_error(kind: type, start: str, part: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert text.startswith(start) and part in text and "\n" not in text, text
    assert isinstance(caught.value, FieldError) and "astype(numpy.uint8)" not in text


# --- labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, "0 1 2 3 4"),
        (LABELS + 1, "1 2 3 4 5"),
        (LABELS * 10 - 20, "-20 -10 0 10 20"),
        (LABELS.astype(float), "0 1 2 3 4"),
        (LABELS.tolist(), "0 1 2 3 4"),
        (LABELS.astype(object), "0 1 2 3 4"),
        (WORDS[LABELS], "apple bee cat dog egg"),
        (WORDS[LABELS].astype("S"), "apple bee cat dog egg"),
        (WORDS[LABELS].astype(object), "apple bee cat dog egg"),
        (tuple(WORDS[LABELS].tolist()), "apple bee cat dog egg"),
    ],
)
def test_labels_of_any_kind(labels: Any, names: str) -> None:
    data = Dataset.from_arrays(BYTES, labels)
    assert data.class_names == tuple(names.split()) and data.classes == 5
    np.testing.assert_array_equal(data.train_labels, LABELS)


def test_classes() -> None:
    """A number, of which some may not occur; or names in the order that counts."""
    data = Dataset.from_arrays(BYTES, LABELS, classes=7)
    assert data.classes == 7 and data.class_names == tuple("0123456")
    data = Dataset.from_arrays(BYTES, LABELS, classes=WORDS[::-1])
    assert data.class_names == tuple(WORDS[::-1]) and data.train_labels.tolist() == LABELS.tolist()
    data = Dataset.from_arrays(BYTES, WORDS[LABELS], classes=[*WORDS[::-1], "fig"])
    assert data.train_labels.tolist() == (4 - LABELS).tolist() and data.class_names[-1] == "fig"
    many = np.arange(300)
    data = Dataset.from_arrays(np.zeros((300, 4, 4), np.uint8), many)
    assert data.train_labels.dtype == np.int64 and data.train_labels.tolist() == many.tolist()


Y = "Dataset.from_arrays: y expects "
KIND = "a label for each image, (n,): whole numbers, words or letters, got "
WRONG_LABELS: dict[str, tuple[Any, type, str]] = {
    "None": (None, TypeError, f"{KIND}NoneType"),
    "too few": (LABELS[:50], ValueError, "60 labels, one for each image of X, got 50; take the same part of both"),
    "none": ([], ValueError, "60 labels, one for each image of X, got 0"),
    "one-hot": (ONE_HOT, ValueError, f"{KIND}shape (60, 5); take .argmax(axis=1) of one-hot rows"),
    "column": (LABELS[:, None], ValueError, f"{KIND}shape (60, 1); take [:, 0] of it"),
    "fractions": (LABELS + 0.5, ValueError, f"{KIND}0.5, 1.5, 2.5, 3.5, 4.5, ...; a class is a word or a whole number"),
    "NaN": (np.where(LABELS == 3, np.nan, LABELS), ValueError, f"{KIND}nan, nan"),
    "mixed": ([1, "a"] * 30, TypeError, f"{KIND}a mixture of int, str; make words of them by str"),
    "missing": ([float("nan"), "a"] * 30, TypeError, "a mixture of float, str"),
    "None among words": (np.array([None, "a"] * 30), TypeError, "a mixture of NoneType, str"),
    "complex": (LABELS * 1j, TypeError, f"{KIND}complex128"),
    "dates": (LABELS.astype("M8[s]"), TypeError, f"{KIND}datetime64[s]"),
    "masked": (np.ma.masked_equal(LABELS, 1), TypeError, "a masked array"),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_wrong_labels(name: str) -> None:
    labels, kind, message = WRONG_LABELS[name]
    expect_error(kind, Y, message, lambda: Dataset.from_arrays(BYTES, labels))


@pytest.mark.parametrize(
    ("classes", "kind", "message"),
    [
        (4, ValueError, "y expects labels of the 4 classes, 0, 1, 2, 3, got 4, first at place 4; pass the names of"),
        (0, ValueError, "classes expects an integer in 1..65536, got 0"),
        (2.5, TypeError, "classes expects an integer, got 2.5"),
        ("abcde", TypeError, "classes expects the number of classes, or a list of their names, got 'abcde'"),
        (["a", "a", "b", "c", "d"], ValueError, "classes expects a different name for each class, got 'a', 'a'"),
        ([], ValueError, "classes expects a different name for each class, got none"),
        (["a", "b"], ValueError, "y expects labels of the 2 classes, 0, 1, got 2, 3, 4, first at place 2"),
    ],
)
def test_wrong_classes(classes: Any, kind: type, message: str) -> None:
    start = f"Dataset.from_arrays: {message}"
    expect_error(kind, start, "", lambda: Dataset.from_arrays(BYTES, LABELS, classes=classes))


def test_labels_that_count_from_one() -> None:
    message = "got 5, first at place 4; subtract 1 from labels that count from 1"
    expect_error(ValueError, Y, message, lambda: Dataset.from_arrays(BYTES, LABELS + 1, classes=5))


# --- parts ----------------------------------------------------------------------------------------------------------------


def test_three_parts() -> None:
    data = Dataset.from_arrays(BYTES, WORDS[LABELS], validation=0.1, test=(BYTES[:9], WORDS[LABELS[:9]]), name="fruit")
    assert [len(data.part(part).labels) for part in ("train", "validation", "test")] == [54, 6, 9]
    assert repr(data) == "Dataset('fruit', 54 training, 6 validation and 9 test images of 1x12x10 uint8, 5 classes)"
    np.testing.assert_array_equal(data.test_labels, LABELS[:9])
    together = np.concatenate([data.train_images, data.validation_images])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in BYTES)
    assert data.mean == pytest.approx(data.train_images.mean() / 255)  # of the training images alone


def test_shares_are_of_each_class_alike() -> None:
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    data = Dataset.from_arrays(BYTES, labels, validation=0.2, test=0.2)
    for part, counts in (("train", [24, 9, 3]), ("validation", [8, 3, 1]), ("test", [8, 3, 1])):
        assert np.bincount(data.part(part).labels).tolist() == counts  # type: ignore[arg-type]


def test_bytes_and_floats_beside_each_other() -> None:
    """Floats, where one part has them."""
    data = Dataset.from_arrays(BYTES, LABELS, test=(BYTES.astype(np.float32), LABELS))
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    np.testing.assert_array_equal(data.train_images, data.test_images)


@pytest.mark.parametrize(
    ("part", "kind", "message"),
    [
        (1.0, ValueError, "test expects a number above 0 and below 1, got 1.0"),
        (20, ValueError, "test expects a number above 0 and below 1, got 20"),
        (BYTES, TypeError, "test expects a pair (images, labels), or the share of X to take, above 0 and below 1, got ndarray"),
        (True, TypeError, "test expects a pair (images, labels), or the share of X"),
        ((BYTES, LABELS, 3), ValueError, "test expects a pair (images, labels), or the share of X to take, got 3 items"),
        ((BYTES, LABELS[:3]), ValueError, "test[1] expects 60 labels, one for each image of test[0], got 3"),
        ((BYTES[:, :5], LABELS), ValueError, "test[0] expects images of the size of X, 1x12x10, got 1x5x10"),
        ((BYTES / 255, LABELS), ValueError, "test[0] expects pixels in the same range as the training images, 0..255, got"),
        ((BYTES, LABELS + 3), ValueError, "test[1] expects labels of the 5 classes, 0, 1, 2, 3, 4, got 5, 6, 7, first at"),
        ((BYTES, WORDS[LABELS]), TypeError, "test[1] expects labels like those of the classes, 0, 1, 2, 3, 4, got 'apple'"),
        ((BYTES, ONE_HOT), ValueError, "test[1] expects a label for each image"),
    ],
)
def test_wrong_parts(part: Any, kind: type, message: str) -> None:
    expect_error(kind, f"Dataset.from_arrays: {message}", "", lambda: Dataset.from_arrays(BYTES, LABELS, test=part))


def test_shares_that_leave_nothing() -> None:
    message = "validation expects a share that leaves an image to train on, got 36 of 60 beside 36 for the test"
    start = f"Dataset.from_arrays: {message}"
    expect_error(ValueError, start, "", lambda: Dataset.from_arrays(BYTES, LABELS, validation=0.6, test=0.6))


# --- split ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset.from_arrays(BYTES, np.repeat(WORDS, [30, 15, 5, 5, 5]), test=0.1)


def test_split(data: Dataset) -> None:
    parts = data.split(0.2)
    assert len(parts.validation_labels) == 11 and len(parts.train_labels) == 43 and parts.test_images is data.test_images
    assert np.bincount(parts.validation_labels).tolist() == [5, 3, 1, 1, 1]
    assert parts.class_names == data.class_names and (parts.mean, parts.std) == (data.mean, data.std)
    again, other = data.split(0.2), data.split(0.2, seed=1)
    np.testing.assert_array_equal(again.validation_images, parts.validation_images)
    assert not np.array_equal(other.validation_images, parts.validation_images)


def test_split_without_classes() -> None:
    """Any images at all: with 30 and 30, an even share of each class would be a coincidence for most seeds."""
    data = Dataset.from_arrays(BYTES, np.repeat([0, 1], 30))
    counts = [np.bincount(data.split(0.5, stratify=False, seed=seed).validation_labels).tolist() for seed in range(20)]
    assert all(sum(count) == 30 for count in counts) and any(count != [15, 15] for count in counts)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((0,), ValueError, "fraction expects a number above 0 and below 1, got 0"),
        ((1.5,), ValueError, "fraction expects a number above 0 and below 1, got 1.5"),
        (("0.1",), TypeError, "fraction expects a number, got '0.1'"),
        ((0.1, "yes"), TypeError, "stratify expects True or False, got 'yes'"),
        ((0.1, True, -1), ValueError, "seed expects an integer in 0..2^64-1, got -1"),
    ],
)
def test_wrong_splits(arguments: Any, kind: type, message: str, data: Dataset) -> None:
    expect_error(kind, f"Dataset.split: {message}", "", lambda: data.split(*arguments))


def test_split_twice(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"^Dataset\.split: arrays has 5 validation images already$"):
        data.split(0.1).split(0.1)


def test_with_validation(data: Dataset) -> None:
    more = data.with_validation(BYTES[:4, None], ["egg", "egg", "dog", "apple"])
    assert more.validation_labels.tolist() == [4, 4, 3, 0]
    assert data.with_validation(BYTES[:2], [4, 3]).validation_labels.tolist() == [4, 3]
    start = "Dataset.with_validation: "
    expect_error(
        ValueError, f"{start}images expects images of the size", "3x10", lambda: data.with_validation(BYTES[:1, :3], [3])
    )
    expect_error(ValueError, f"{start}labels expects labels of", "'fig'", lambda: data.with_validation(BYTES[:1], ["fig"]))
    with pytest.raises(ValueError, match=r"first at place 0$"):  # no argument of it can change the classes
        data.with_validation(BYTES[:1], ["fig"])


# --- what comes of it -----------------------------------------------------------------------------------------------------


def test_labels_of_other_images_are_refused_before_the_first_step() -> None:
    model = LeNet(input_shape=(1, 12, 10), classes=5)
    before = model.parameter_buffer.copy()
    with pytest.raises(
        ValueError, match=r"^y expects 60 labels, one for each image of .*, got 59; take the same part of both$"
    ):
        fit(model, BYTES, LABELS[:59], epochs=1)
    np.testing.assert_array_equal(model.parameter_buffer, before)


@pytest.mark.parametrize("images", [BYTES, COLOUR, (COLOUR / 255).astype(np.float32)], ids=["gray", "colour", "floats"])
def test_training_learns(images: Array) -> None:
    """Images of five brightnesses: every size, number of channels and type is told apart in a few epochs."""
    bright = (images * ((LABELS + 1) / 5).reshape(-1, *[1] * (images.ndim - 1))).astype(images.dtype)
    data = Dataset.from_arrays(bright, WORDS[LABELS])
    model = LeNet(input_shape=data.input_shape, classes=data.classes)
    history = fit(model, data, epochs=20, batch_size=10, batch_size_end=0, lr=0.01, shift=0, verbose=0, warm_up=0.0)
    assert history.epochs[-1].accuracy > 0.9, history.history["accuracy"]


def test_html(data: Dataset) -> None:
    """An image of each class, which is a PNG file, and names that are escaped."""
    names = [f"<{word}>" for word in WORDS]
    page = Dataset.from_arrays(BYTES, LABELS, classes=names)._repr_html_()
    assert page.count("data:image/png;base64,iVBORw0KGgo") == 5 and "&lt;apple&gt;" in page and "<apple>" not in page
    assert re.search(r"<div>Dataset\(&#x27;arrays&#x27;, 60 training images", page)
    assert Dataset.from_arrays(COLOUR, LABELS)._repr_html_().count("<img") == 5


def test_png_is_what_pillow_reads() -> None:
    import io

    image = pytest.importorskip("PIL.Image")
    from fastlenet.data.display import png

    for pixels in (BYTES[0], COLOUR[0]):
        read = np.asarray(image.open(io.BytesIO(png(pixels))))
        expected = pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)
        np.testing.assert_array_equal(read, np.rint(expected * (255 / pixels.max())))
