"""A Dataset: what it takes, what it makes of it, and that nothing else gets past its door."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, fit
from fastlenet.data.dataset import Dataset
from fastlenet.training.evaluation import evaluate
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import Trainer
from helpers.arrays import Array
from helpers.expect import expect_same_bits

COUNT = 12
LABELS = np.arange(COUNT) % 10


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    return replace(
        mnist,
        train_images=mnist.train_images[:COUNT],
        train_labels=LABELS,
        test_images=mnist.test_images[:COUNT],
        test_labels=LABELS,
    )


def rows(images: Array) -> Array:
    return images.reshape(len(images), -1)


OTHER = "; Dataset.from_arrays takes arrays of other kinds"
# What is made of good images or labels, and the error: the class and, after the field's name, its text.
IMAGES: list[tuple[str, Any, type, str]] = [
    ("rows", rows, ValueError, f"(N, h, w) or (N, c, h, w), got shape (12, 784){OTHER}"),
    ("one image", lambda x: x[0], ValueError, f"got shape (28, 28){OTHER}"),
    ("a number", lambda x: np.array(3), ValueError, "got shape ()"),
    ("list", lambda x: x.tolist(), TypeError, f"got list{OTHER}"),
    ("None", lambda x: None, TypeError, "got NoneType"),
    (
        "masked",
        lambda x: np.ma.masked_equal(x, 0),
        TypeError,
        "got a masked array, whose mask would be ignored; fill it with .filled(value)",
    ),
    ("float64", lambda x: x / 255, TypeError, f"got float64{OTHER}"),
    ("floats to 255", lambda x: x.astype(np.float32), ValueError, f"got float32 in 0.0..255.0{OTHER}"),
    ("standardised", lambda x: (x / 33 - 1).astype(np.float32), ValueError, "got float32 in -1.0.."),
    ("NaN", lambda x: (x * np.nan).astype(np.float32), ValueError, "got float32 in nan..nan"),
    ("int64", lambda x: x.astype(int), TypeError, f"got int64{OTHER}"),
    ("black and white", lambda x: x > 127, TypeError, f"got bool{OTHER}"),
    ("strings", lambda x: x.astype(str), TypeError, "got <U3"),
]
ONE_HOT = np.eye(10, dtype=int)[LABELS]
LABEL_ERRORS: list[tuple[str, Any, type, str]] = [
    ("list", lambda y: y.tolist(), TypeError, f"a numpy array of integers (N,) in 0..9, got list{OTHER}"),
    ("column", lambda y: y[:, None], ValueError, "got shape (12, 1); take [:, 0] of it"),
    ("one-hot", lambda y: ONE_HOT, ValueError, "got shape (12, 10); take .argmax(axis=1) of one-hot rows"),
    ("matrix", lambda y: ONE_HOT[:, :7], ValueError, "got shape (12, 7)"),
    ("words", lambda y: np.array(["cat"] * COUNT), TypeError, f"got <U3{OTHER}"),
    ("floats", lambda y: y.astype(float), TypeError, f"got float64{OTHER}"),
    ("complex", lambda y: y * 1j, TypeError, "got complex128"),
    ("booleans", lambda y: y > 3, TypeError, "got bool"),
    ("from 1", lambda y: y + 1, ValueError, "labels in 0..9 for 10 classes, got 1..10; subtract 1"),
    ("too large", lambda y: y + 5, ValueError, "labels in 0..9 for 10 classes, got 5..14; classes=15 would take them"),
    ("negative", lambda y: y - 1, ValueError, "for 10 classes, got -1..8"),
    ("256 more", lambda y: y + 256, ValueError, "for 10 classes, got 256..265; classes=266 would take them"),
    (
        "beyond int64",
        lambda y: y.astype(np.uint64) + np.uint64(2**63),
        ValueError,
        "got 9223372036854775808..92233720368547758",
    ),
    ("fewer", lambda y: y[1:], ValueError, "12 labels, one for each of {}_images, got 11; take the same part of both"),
    ("more", lambda y: np.append(y, 1), ValueError, "12 labels, one for each of {}_images, got 13"),
]
CASES = [("images", *case) for case in IMAGES] + [("labels", *case) for case in LABEL_ERRORS]


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("field", "make", "error", "message"), [(case[0], *case[2:]) for case in CASES], ids=[c[1] for c in CASES]
)
def test_wrong_arrays(part: str, field: str, make: Any, error: type[Exception], message: str, few: Dataset) -> None:
    name = f"{part}_{field}"
    good = getattr(few, name)
    value = make(good.astype(int) if field == "labels" else good)
    with pytest.raises(error, match=rf"^{name} expects .*{re.escape(message.format(part))}") as caught:
        replace(few, **{name: value})
    assert "\n" not in str(caught.value)


def test_advice_can_be_followed(few: Dataset) -> None:
    """Dataset.from_arrays takes what the constructor refuses: the same data comes of it."""
    x, y = few.train_images, few.train_labels
    for images in (rows(x), x[..., None], x[:, None], x.astype(int), x.tolist()):
        for labels in (y.astype(str), y.astype(float), y.astype(str).astype(object), y.tolist(), ONE_HOT.argmax(axis=1)):
            assert Dataset.from_arrays(images, labels).fingerprint == few.fingerprint
    assert Dataset.from_arrays(x, y[:, None][:, 0]).fingerprint == few.fingerprint
    black_and_white = Dataset.from_arrays(x > 127, y)
    assert np.unique(black_and_white.train_images).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": 3}, TypeError, "name expects a word, got 3"),
        ({"classes": 0}, ValueError, "classes expects an integer in 1..65536, got 0"),
        ({"classes": 65537}, ValueError, "classes expects an integer in 1..65536, got 65537"),
        ({"classes": 10.0}, TypeError, "classes expects an integer, got 10.0"),
        ({"mean": np.nan}, ValueError, "mean expects a finite number, got nan"),
        ({"mean": "0.1"}, TypeError, "mean expects a number, got '0.1'"),
        ({"std": 0.0}, ValueError, "std expects a positive number, got 0.0"),
        ({"std": -1}, ValueError, "std expects a positive number, got -1.0"),
        ({"std": np.inf}, ValueError, "std expects a positive number, got inf"),
        ({"std": 1e-300}, ValueError, "std expects a number that pixels can be divided by in float32, got 1e-300"),
        (
            {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros(0, np.uint8)},
            ValueError,
            "train_images expects at least one image, got shape (0, 28, 28)",
        ),
        ({"train_images": np.zeros((12, 0, 28), np.uint8)}, ValueError, "train_images expects at least one image, got shape"),
        (
            {"test_images": np.zeros((12, 20, 28), np.uint8)},
            ValueError,
            "test_images expects images of 28x28 pixels, as train_images, got 20x28",
        ),
    ],
    ids=str,
)
def test_wrong_fields(changes: dict[str, Any], error: type[Exception], message: str, few: Dataset) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        replace(few, **changes)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u4", ">i8", "<i8", "u8"])
def test_labels_of_any_integer_dtype(dtype: str, few: Dataset) -> None:
    """They become uint8 once, and are the same data."""
    for labels in (LABELS.astype(dtype), LABELS.astype(dtype)[::-1][::-1], np.repeat(LABELS.astype(dtype), 3)[::3]):
        data = replace(few, train_labels=labels, test_labels=labels)
        assert data.train_labels.dtype == data.test_labels.dtype == np.uint8 and data.train_labels.flags.c_contiguous
        assert data.fingerprint == few.fingerprint


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 2, 1),
        lambda x: x[::-1],
        lambda x: np.pad(x, ((0, 0), (2, 2), (3, 3)))[:, 2:-2, 3:-3],
        lambda x: x[:, ::-1, ::-1],
        lambda x: np.broadcast_to(x[0], x.shape),
    ],
    ids=["transposed", "reversed", "cropped", "turned", "broadcast"],
)
def test_views_are_copied_once(view: Any, few: Dataset) -> None:
    """Not in every step, of all images: the step then sees dense arrays."""
    images = view(few.train_images)
    data = replace(few, train_images=images, test_images=images)
    for kept in (data.train_images, data.test_images):
        assert kept.flags.c_contiguous and not np.shares_memory(kept, few.train_images)
        np.testing.assert_array_equal(kept, images)
    recipe: dict[str, Any] = {"epochs": 1, "batch_size": 5}
    a, b = LeNet(), LeNet()
    fit(a, data, **recipe)
    fit(b, replace(few, train_images=images.copy(), test_images=images.copy()), **recipe)
    expect_same_bits(a.parameter_buffer, b.parameter_buffer)


def test_dense_arrays_are_kept(few: Dataset, mnist: Dataset) -> None:
    """No copy of 47 MB for a data set that is fine, nor for the first part of one, nor for one that is read-only."""
    few.train_images.flags.writeable, before = False, few.train_images.flags.writeable
    try:
        assert replace(few, name="x").train_images is few.train_images
    finally:
        few.train_images.flags.writeable = before
    assert np.shares_memory(replace(mnist, name="x").train_images, mnist.train_images)
    assert np.shares_memory(mnist.hold_out(5000).train_images, mnist.train_images)


def test_data_sets_are_compared_by_identity(few: Dataset) -> None:
    assert few == few and few != replace(few) and {few: 1}[few] == 1


def test_data_that_changes_in_place_is_still_checked(few: Dataset) -> None:
    """Labels beyond the classes, written after the door, end in an error and not in somebody else's memory."""
    labels = few.train_labels.copy()
    data = replace(few, train_labels=labels)
    trainer = Trainer(LeNet(), data, Recipe(epochs=1))
    labels[:] = 200
    with pytest.raises(ValueError, match=r"labels expects values in 0\.\.9"):
        trainer.run()


def test_labels_that_were_not_sliced(mnist: Dataset) -> None:
    """The last 10,000 images with the first labels: once trained on without a word."""
    with pytest.raises(ValueError, match="train_labels expects 10000 labels, one for each of train_images, got 60000"):
        replace(mnist, train_images=mnist.train_images[50000:])


def test_hold_out_of_wrong_numbers(few: Dataset) -> None:
    for wrong in (0, -1, COUNT):
        with pytest.raises(ValueError, match=rf"Dataset\.hold_out: count expects 1\.\.11 images, got {wrong}"):
            few.hold_out(wrong)
    for odd in (1.5, "3", None, True):
        with pytest.raises(TypeError, match="count expects an integer, got"):
            few.hold_out(odd)
    assert len(few.hold_out(np.int64(3)).validation_images) == 3
    one = replace(few, train_images=few.train_images[:1], train_labels=few.train_labels[:1])
    with pytest.raises(ValueError, match="count expects at least two training images, got 1"):
        one.hold_out(1)


def test_no_test_images(few: Dataset) -> None:
    """Such a data set may be made, and hold_out gives it images to report on; before, its accuracy cannot be asked for."""
    none = replace(few, test_images=few.test_images[:0], test_labels=few.test_labels[:0])
    assert fit(LeNet(), none.hold_out(4), epochs=1).epochs[-1].val_accuracy is not None
    message = r"MNIST: no test or validation images to report on; data\.split\(0\.1\)"
    with pytest.raises(ValueError, match=message):
        evaluate(LeNet(), none)
    for every_epoch in (True, False):
        assert list(fit(LeNet(), none, epochs=1, evaluate_every_epoch=every_epoch).history) == ["loss", "accuracy"]
