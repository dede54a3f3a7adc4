"""PyTorch's data sets and tensors: Dataset.from_torch, and tensors as a model's input. The data sets here are like torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import Dataset
from helpers.expect import expect_same_bits

IMAGES = np.random.default_rng(0).random((20, 1, 12, 12), np.float32)
LABELS = np.arange(20) % 4


class Items:
    """A map-style data set: a length and items, which do not end by themselves."""

    def __init__(self, make: Callable[[int], object], count: int = 20) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> object:
        return self.make(number)


class Named(Items):
    classes = ("ant", "bee", "cat", "dog", "elk")


class Subset(Items):
    def __init__(self, dataset: Items, numbers: list[int]) -> None:
        super().__init__(lambda number: dataset[numbers[number]], len(numbers))
        self.dataset = dataset


class Stream:
    def __iter__(self) -> Iterator[object]:
        return ((image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True))


def pair(number: int) -> tuple[object, object]:
    return IMAGES[number], LABELS[number]


@pytest.mark.parametrize(
    "dataset",
    [Items(pair), Stream(), [pair(number) for number in range(20)], Items(lambda number: [IMAGES[number], [3, 1][number % 2]])],
    ids=["items", "iterable", "list", "lists of two"],
)
def test_pairs(dataset: object) -> None:
    data = Dataset.from_torch(dataset)
    np.testing.assert_array_equal(data.train_images, IMAGES[:, 0])
    assert data.classes == (2 if data.class_names == ("1", "3") else 4)


def test_names_of_classes() -> None:
    """Those that the data set has, also behind a subset, and those that are asked for."""
    named = Named(pair)
    assert Dataset.from_torch(named).class_names == Named.classes
    assert Dataset.from_torch(Subset(named, [0, 1, 2])).class_names == Named.classes
    assert Dataset.from_torch(named, classes=4).class_names == tuple("0123")
    assert Dataset.from_torch(Named(lambda number: (IMAGES[number], "xy"[number % 2]))).class_names == ("x", "y")


def test_parts() -> None:
    data = Dataset.from_torch(Items(pair), test=Subset(Items(pair), [3, 2]), validation=0.2, name="mine")
    assert repr(data).startswith("Dataset('mine', 16 training, 4 validation and 2 test images of 1x12x12 float32")
    np.testing.assert_array_equal(data.test_images, IMAGES[[3, 2], 0])


def test_memory_that_is_used_again() -> None:
    scratch = np.empty((12, 12), np.float32)

    def item(number: int) -> object:
        scratch[...] = IMAGES[number, 0]
        return scratch, 0

    np.testing.assert_array_equal(Dataset.from_torch(Items(item)).train_images, IMAGES[:, 0])


class Loader:
    batch_size, dataset = 4, Items(pair)

    def __iter__(self) -> Iterator[object]:
        return iter([])


A_DATASET = "dataset expects a data set of pairs (image, label), such as a torch.utils.data.Dataset, got "
WRONG: dict[str, tuple[object, type, str]] = {
    "None": (None, TypeError, f"{A_DATASET}NoneType"),
    "loader": (Loader(), TypeError, f"{A_DATASET}a Loader, which makes batches; give its .dataset"),
    "no labels": (Items(lambda number: (IMAGES[number],)), TypeError, "dataset[0] expects a pair (image, label), got 1 items"),
    "images": (IMAGES, TypeError, "dataset[0] expects a pair (image, label), got ndarray"),
    "name": ("mnist", TypeError, "dataset[0] expects a pair (image, label), got str"),
    "empty": (Items(pair, 0), ValueError, "dataset expects at least one image, got none"),
    "sizes": (
        Items(lambda number: (IMAGES[0, :, : 12 - number], 0)),
        ValueError,
        "dataset[1] expects an image of shape (1, 12, 12), as the first, got (1, 11, 12); bring all to one size",
    ),
    "types": (
        Items(lambda number: (IMAGES[0] if number == 0 else IMAGES[0].astype(np.uint8), 0)),
        TypeError,
        "dataset[1] expects an image of float32, as the first, got uint8",
    ),
    "normalised": (
        Items(lambda number: ((IMAGES[number] - 0.5) / 0.5, 0)),
        ValueError,
        "dataset expects pixels in 0..255, or floats in [0, 1] or [0, 255], got float32 in -",
    ),
    "one-hot": (
        Items(lambda number: (IMAGES[number], np.eye(4)[number % 4])),
        ValueError,
        "dataset: labels expects a label for each image, (n,): whole numbers, words or letters, got shape (20, 4); take",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_data_sets(name: str) -> None:
    dataset, kind, message = WRONG[name]
    with pytest.raises(kind) as caught:
        Dataset.from_torch(dataset)
    assert str(caught.value).startswith(f"Dataset.from_torch: {message}") and "\n" not in str(caught.value)


def test_of_torch(torch: Any) -> None:
    from torch.utils import data as torch_data

    pixels = torch.arange(20 * 144, dtype=torch.float32).reshape(20, 1, 12, 12) / 2880
    whole = torch_data.TensorDataset(pixels, torch.arange(20) % 4)
    data = Dataset.from_torch(torch_data.Subset(whole, range(5, 20)), test=whole)
    np.testing.assert_array_equal(data.test_images, pixels[:, 0].numpy())
    assert data.train_labels.tolist() == [number % 4 for number in range(5, 20)]
    with pytest.raises(TypeError, match="a DataLoader, which makes batches"):
        Dataset.from_torch(torch_data.DataLoader(whole))
    of_tensors = Dataset.from_arrays(pixels, torch.arange(20) % 4)
    assert of_tensors.fingerprint == Dataset.from_torch(whole).fingerprint
    with pytest.raises(
        TypeError, match=r"X expects .* got Tensor that is not an array .*\.detach\(\)\.cpu\(\)\.float\(\)\.numpy\(\)"
    ):
        Dataset.from_arrays(pixels.clone().requires_grad_(), torch.arange(20))


def test_tensors_as_inputs(torch: Any) -> None:
    """The same bits as of NumPy's arrays: in training, in evaluation, frozen, and backwards."""
    model = LeNet(classes=4)
    x, dy = torch.rand(3, 1, 28, 28), torch.rand(3, 4)
    expected = model(x.numpy())
    model.backward(dy.numpy())
    gradient = model.gradient_buffer.copy()
    model.gradient_buffer.fill(0)
    expect_same_bits(model(x), expected)
    model.backward(dy)
    expect_same_bits(model.gradient_buffer, gradient)
    model.eval()
    frozen = model.freeze()
    for network in (model, frozen, frozen):
        expect_same_bits(network(x), expected)
        expect_same_bits(network(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.double(), "x expects a tensor of float32, got a Tensor of float64; of torch, .float() is one"),
        (lambda x: x.byte(), "x expects a tensor of float32, got a Tensor of uint8"),
        (lambda x: x.requires_grad_(), "x expects a tensor of float32 without gradients, got a Tensor (Can't export"),
        (lambda x: x.bfloat16(), "x expects a tensor of float32 without gradients, got a Tensor ("),
    ],
)
def test_wrong_tensors(change: Callable[[Any], Any], message: str, torch: Any) -> None:
    model = LeNet()
    for network in (model, model.freeze()):
        with pytest.raises(TypeError) as caught:
            network(change(torch.rand(2, 1, 28, 28)))
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^layer 'conv1': x expects shape \(n, 1, h, w\), got \(2, 3, 28, 28\)$"):
        model(torch.rand(2, 3, 28, 28))
