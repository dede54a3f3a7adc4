"""A data set in memory: images and labels, checked once, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from fastlenet.data.arrays import Arrays, Given, alike, arrays_of, expect_share, more_arrays
from fastlenet.data.images import Array, Images, mean_std, type_error, value_error
from fastlenet.data.labels import MAX_CLASSES, Labels, label_dtype
from fastlenet.data.splitting import held_out, part_of
from fastlenet.data.torch_dataset import items_of
from fastlenet.fields import FieldError, Values, integer
from fastlenet.normalisation import PerChannel, expect_normalisation

__all__ = ["PARTS", "PART_WORDS", "Dataset", "Part"]

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
PART_WORDS: Mapping[Part, str] = {"train": "training", "validation": "validation", "test": "test"}  # of its images

_OTHERWISE = "Dataset.from_arrays takes arrays of other kinds"


def _no_images() -> Images:
    return np.empty((0, 0, 0), np.uint8)


def _no_labels() -> Labels:
    return np.empty(0, np.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels in three parts: for training, for validation during training, and for the test at the end.

    To make a data set of your own arrays, call `Dataset.from_arrays`; of files, `fastlenet.data.load`. This constructor takes
    arrays that need no conversion. Images: uint8, or float32 in [0, 1]; (N, h, w), or (N, c, h, w) for c channels; of one type
    and size in all parts. Labels: integers (N,) in 0..classes-1. mean and std normalise the pixels, scaled to [0, 1]; each is a
    number, or a tuple with one for each channel. class_names: the name of each class, by default "0", "1", ... class_labels:
    the label that a trained model returns for each class; by default the class_names, or 0, 1, ... if these are "0", "1", ...
    or not distinct. There is at least one training image. The other parts may be empty; `split` and `hold_out` take a
    validation part from the training images.

    Labels become uint8 (int64 for more than 256 classes), and views (transposed, cropped, reversed) become contiguous copies.
    Other arrays are kept, not copied: do not change them afterwards. Two data sets are equal if they are the same object.
    Raises TypeError for a field of a wrong type and ValueError for a wrong value, in one line that says what was expected, what
    came, and what to do.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: int
    mean: PerChannel
    std: PerChannel
    validation_images: Images = field(default_factory=_no_images)
    validation_labels: Labels = field(default_factory=_no_labels)
    class_names: tuple[str, ...] = ()
    class_labels: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        classes = integer("classes", self.classes, 1, MAX_CLASSES)
        train = _expect_images("train_images", self.train_images)
        if 0 in train.shape:
            raise value_error("train_images", train, "at least one image", f"shape {train.shape}")
        channels = train.shape[1] if train.ndim == 4 else 1
        mean, std = expect_normalisation(self.mean, self.std, channels)
        checked: dict[str, object] = {
            "name": Values(str).convert("name", self.name),
            "classes": classes,
            "mean": mean,
            "std": std,
        }
        checked["class_names"] = names = _class_names(self.class_names, classes)
        checked["class_labels"] = _class_labels(self.class_labels, names)
        for part in PARTS:
            name = f"{part}_images"
            images = train if part == "train" else _expect_alike(name, _expect_images(name, getattr(self, name)), train)
            labels = _expect_labels(f"{part}_labels", getattr(self, f"{part}_labels"), classes)
            if len(images) != len(labels):
                expected = f"{len(images)} labels, one for each of {name}"
                raise value_error(f"{part}_labels", labels, expected, str(len(labels)), "take the same part of both")
            checked |= {name: images, f"{part}_labels": labels}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    # --- making one ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        X: object,
        y: object,
        *,
        validation: Given = None,
        test: Given = None,
        classes: int | Sequence[object] | None = None,
        name: str = "arrays",
    ) -> Dataset:
        """Returns a data set of your own images and labels.

        X: images (n, h, w), (n, c, h, w) or (n, h, w, c), or rows (n, h*w) of square images, as an array or anything that
        becomes one (lists, data frames, tensors on the CPU). Pixels are bytes, other integers in 0..255, or floats in [0, 1] or
        [0, 255]. Integers that are only 0 and 1 are black and white. Floats become float32.
        y: a label for each image, (n,): whole numbers, words or letters.
        validation, test: a pair of images and labels for this part, or the share of X to take for it, the same of each class.
        classes: None takes the labels that occur in y, sorted. A number k takes the labels 0..k-1. A list has the names of the
        classes in order; y then has these names, or their positions in the list.
        name: the name of the data set, for messages.

        The labels become `class_names`. The mean and the standard deviation of each channel are those of the training images.
        Arrays that need no conversion are kept, others are copied once. Raises FieldTypeError or FieldValueError in one line
        that names the argument, what was expected, what came, and the cure.

            >>> import numpy as np
            >>> from fastlenet.data import Dataset
            >>> images = np.random.default_rng(0).random((100, 16, 16))
            >>> Dataset.from_arrays(images, ["cat", "dog"] * 50, validation=0.1, test=0.2, name="pets")
            Dataset('pets', 70 training, 10 validation and 20 test images of 1x16x16 float32, 2 classes)
        """
        where = "Dataset.from_arrays: "
        name = Values(str).convert(f"{where}name", name)
        parts = arrays_of(where, X, y, validation, test, classes)
        mean, std = mean_std(parts.train.images)
        return cls(
            name,
            *parts.train,
            *parts.test,
            len(parts.classes.names),
            mean,
            std,
            *parts.validation,
            parts.classes.names,
            parts.classes.as_given,
        )

    @classmethod
    def from_torch(
        cls,
        dataset: object,
        *,
        validation: object = None,
        test: object = None,
        classes: int | Sequence[object] | None = None,
        name: str = "arrays",
    ) -> Dataset:
        """Returns a data set of a torch.utils.data.Dataset, or of any other collection of pairs (image, label).

        Each item is read once, so a random transform is applied only once: augment by the recipe instead. Images: PIL images,
        or tensors and arrays as in from_arrays, not normalised; leave out transforms.Normalize. Labels: numbers or words.
        validation, test: other such data sets, or the shares of this one to take. classes: as in from_arrays. None takes the
        names in the data set's attribute `classes`, which torchvision's data sets have. All images are held in memory. Raises
        the errors of from_arrays.
        """
        where = "Dataset.from_torch: "
        train = items_of(f"{where}dataset", dataset)
        parts = {
            part: given if given is None or isinstance(given, (int, float)) else items_of(f"{where}{part}", given)[:2]
            for part, given in (("validation", validation), ("test", test))
        }
        try:
            return cls.from_arrays(*train[:2], **parts, classes=train.names if classes is None else classes, name=name)
        except FieldError as error:
            named = {"X": "dataset", "y": "labels"}.get(error.field, error.field)
            raise type(error)(named, error.value, error.expected, where, error.cure, error.got) from None

    def split(self, fraction: float, stratify: bool = True, seed: int = 0) -> Dataset:
        """Returns the data set with this fraction of the training images as its validation part. The test part stays the same.

        stratify: take the same share of each class. seed: another seed takes other images. Raises ValueError if there is a
        validation part already.
        """
        where = "Dataset.split: "
        if len(self.validation_labels):
            raise ValueError(f"{where}{self.name} has {len(self.validation_labels)} validation images already")
        count = expect_share(f"{where}fraction", fraction, len(self.train_labels))
        stratify = Values(bool).convert(f"{where}stratify", stratify)
        seed = Values(int, "an integer in 0..2^64-1", 0, 2**64 - 1).convert(f"{where}seed", seed)
        stay, out = held_out(self.train_labels, count, stratify=stratify, seed=seed)
        train = Arrays(self.train_images, self.train_labels)
        return self._with(train.at(stay), train.at(out), self.part("test"))

    def with_validation(self, images: object, labels: object) -> Dataset:
        """Returns the data set with these images and labels as its validation part.

        images: of the training images' size, in any layout and type that from_arrays takes. labels: the names of the classes,
        or their numbers. Raises FieldTypeError and FieldValueError.
        """
        more = more_arrays("Dataset.with_validation: ", images, labels, self.train_images, self.class_names)
        train, validation, test = alike([self.train_images, more.images, self.test_images])
        parts = Arrays(train, self.train_labels), Arrays(validation, more.labels), Arrays(test, self.test_labels)
        return self._with(*parts)

    def hold_out(self, count: int) -> Dataset:
        """Returns the data set with the last `count` training images as its validation part, and without its test images.

        So no choice that you make by the validation part depends on the test images. Raises ValueError for a count that is not
        in 1..N-1.
        """
        most, where = len(self.train_labels) - 1, "Dataset.hold_out: "
        if most < 1:
            raise value_error(f"{where}count", count, "at least two training images", "1")
        count = Values(int, f"1..{most} images", 1, most).convert(f"{where}count", count)
        train = Arrays(self.train_images, self.train_labels)
        return self._with(train.at(slice(0, -count)), train.at(slice(-count, None)), train.at(slice(0)))

    def fold(self, folds: int, fold: int) -> Dataset:
        """Returns the data set with one of `folds` parts of its training images for validation, and without its test images.

        The parts are disjoint, have all training images, and are of the same size and of the same classes, by one image. fold:
        in 0..folds-1. So every training image judges a choice once, and no test image does. Raises ValueError for fewer than
        two folds, more than there are images, or if there is a validation part already.
        """
        where, count = "Dataset.fold: ", len(self.train_labels)
        if len(self.validation_labels):
            raise ValueError(f"{where}{self.name} has {len(self.validation_labels)} validation images already")
        folds = Values(int, f"an integer in 2..{count}", 2, count).convert(f"{where}folds", folds)
        fold = Values(int, f"an integer in 0..{folds - 1}", 0, folds - 1).convert(f"{where}fold", fold)
        stay, out = part_of(self.train_labels, folds, fold)
        train = Arrays(self.train_images, self.train_labels)
        return self._with(train.at(stay), train.at(out), train.at(slice(0)))

    def _with(self, train: Arrays, validation: Arrays, test: Arrays) -> Dataset:
        return replace(
            self,
            train_images=train.images,
            train_labels=train.labels,
            validation_images=validation.images,
            validation_labels=validation.labels,
            test_images=test.images,
            test_labels=test.labels,
        )

    # --- looking at one --------------------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        shape = self.train_images.shape
        return (1, shape[1], shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])

    def part(self, name: Part) -> Arrays:
        """Returns the images and labels of a part: "train", "validation" or "test"."""
        arrays = Values(str, choices=PARTS).convert("Dataset.part: name", name)
        return Arrays(getattr(self, f"{arrays}_images"), getattr(self, f"{arrays}_labels"))

    @cached_property
    def fingerprint(self) -> str:
        """The MD5 sum of the training images and labels, which shows whether two runs see the same data."""
        import hashlib  # loads OpenSSL

        digest = hashlib.md5(self.train_images.data, usedforsecurity=False)
        digest.update(self.train_labels.data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        counts = [f"{len(self.part(part).labels):,} {word}" for part, word in PART_WORDS.items() if len(self.part(part).labels)]
        listed = counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} and {counts[-1]}"
        shape, words = "x".join(map(str, self.input_shape)), "class" if self.classes == 1 else "classes"
        return f"Dataset({self.name!r}, {listed} images of {shape} {self.train_images.dtype}, {self.classes} {words})"

    def _repr_html_(self) -> str:
        """A table, and an image of each class, for notebooks."""
        from fastlenet.data.display import as_html  # and with it zlib

        return as_html(repr(self), self.train_images, self.train_labels, self.class_names)


# --- what the constructor takes ------------------------------------------------------------------------------------------


def _expect_array(name: str, value: object, expected: str) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        got = "a masked array, whose mask would be ignored"
        raise type_error(name, value, expected, got, "fill it with .filled(value)")
    if not isinstance(value, np.ndarray):
        raise type_error(name, value, expected, type(value).__name__, _OTHERWISE)
    return value


def _expect_images(name: str, value: object) -> Images:
    """Contiguous (N, h, w) or, of several channels, (N, c, h, w)."""
    expected = "a numpy array of uint8, or of float32 in [0, 1], (N, h, w) or (N, c, h, w)"
    images = _expect_array(name, value, expected)
    if images.ndim not in (3, 4):
        raise value_error(name, images, expected, f"shape {images.shape}", _OTHERWISE)
    if images.dtype not in (np.uint8, np.float32):
        raise type_error(name, images, expected, str(images.dtype), _OTHERWISE)
    if images.dtype == np.float32 and images.size and not (images.min() >= 0 and images.max() <= 1):
        raise value_error(name, images, expected, f"float32 in {images.min()}..{images.max()}", _OTHERWISE)
    made: Images = np.ascontiguousarray(images)
    return made[:, 0] if made.ndim == 4 and made.shape[1] == 1 else made


def _expect_alike(name: str, images: Images, train: Images) -> Images:
    """Of the type and the size of the training images; none are as good as any."""
    if len(images) == 0:
        return train[:0]
    if images.shape[1:] != train.shape[1:]:
        size = "x".join(map(str, train.shape[1:]))
        got = "x".join(map(str, images.shape[1:]))
        raise value_error(name, images, f"images of {size} pixels, as train_images", got)
    if images.dtype != train.dtype:
        raise type_error(name, images, f"{train.dtype}, as train_images", str(images.dtype), "Dataset.from_arrays takes both")
    return images


def _expect_labels(name: str, value: object, classes: int) -> Labels:
    """Contiguous (N,) in 0..classes-1, or an error that says how to come by it."""
    expected = f"a numpy array of integers (N,) in 0..{classes - 1}"
    labels = _expect_array(name, value, expected)
    if labels.ndim != 1:
        cure = "take .argmax(axis=1) of one-hot rows" if labels.ndim == 2 and labels.shape[1] == classes else ""
        cure = "take [:, 0] of it" if labels.ndim == 2 and labels.shape[1] == 1 else cure
        raise value_error(name, labels, expected, f"shape {labels.shape}", cure)
    if labels.dtype.kind not in "iu":
        raise type_error(name, labels, expected, str(labels.dtype), _OTHERWISE)
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        low, high = int(labels.min()), int(labels.max())
        cure = f"classes={high + 1} would take them" if low >= 0 and high < MAX_CLASSES else ""
        cure = "subtract 1" if (low, high) == (1, classes) else cure
        raise value_error(name, labels, f"labels in 0..{classes - 1} for {classes} classes", f"{low}..{high}", cure)
    numbers: Labels = np.ascontiguousarray(labels, label_dtype(classes))
    return numbers


def _class_names(names: object, classes: int) -> tuple[str, ...]:
    if not isinstance(names, (tuple, list)):
        raise type_error("class_names", names, "a tuple of words", type(names).__name__)
    made = tuple(Values(str).convert(f"class_names[{number}]", name) for number, name in enumerate(names))
    if made and len(made) != classes:
        raise value_error("class_names", names, f"a name for each of {classes} classes", f"{len(made)}")
    return made or tuple(map(str, range(classes)))


def _class_labels(labels: object, names: tuple[str, ...]) -> tuple[str | int, ...]:
    numbers = tuple(range(len(names)))
    if labels == ():
        return numbers if names == tuple(map(str, numbers)) or len(set(names)) < len(names) else names
    words = isinstance(labels, tuple) and len({type(label) for label in labels} - {str}) == 0
    if not isinstance(labels, tuple) or not (words or all(type(label) is int for label in labels)):
        raise type_error("class_labels", labels, "a tuple of words, or of integers", type(labels).__name__)
    if len(labels) != len(names) or len(set(labels)) < len(labels):
        raise value_error("class_labels", labels, f"a different label for each of {len(names)} classes", f"{len(labels)}")
    return labels
