"""Recipes: the settings of a training run, and the recipes that have names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, TypedDict, cast

from fastlenet.augment import EPOCH, Augmentation, Transform
from fastlenet.backend import ALGORITHMS, PRECISIONS
from fastlenet.fields import (
    INT64_MAX,
    FieldValueError,
    T,
    Values,
    a_field,
    expect_fields,
    expect_names,
    names_expected,
    nearest,
    values_by_field,
)
from fastlenet.inference.losses import LOSSES
from fastlenet.preprocessing import DESKEW, SIDE, WIDTH, Preprocessing
from fastlenet.training.optimizers import OPTIMIZERS
from fastlenet.training.schedule import SCHEDULES, batch_starts
from fastlenet.training.weights import ClassWeight, class_weight_text

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CHOICES", "RECIPES", "ChangesButSchedule", "Recipe", "RecipeChanges", "expect_recipe_fields", "named_recipe"]

# A field has no effect if the field that it belongs to is off.
_BELONGS_TO = {"ema_start": "ema", "ema_every": "ema", "elastic_sigma": "elastic", "nesterov": "momentum"}
_OF_TEACHER = "temperature", "mix"

_EPOCHS = Values(int, "an integer in 0..2^32", 0, EPOCH.most + 1)
_COUNT = Values(int, "a non-negative integer", 0, INT64_MAX)
_POSITIVE = Values(int, "a positive integer", 1, INT64_MAX)
_SIZE = Values(float, "a non-negative number", 0, sys.float_info.max)
_NORM = Values(float, "a number in 0..1e100", 0, 1e100)  # the square is a float64
_FRACTION = Values(float, "a number in [0, 1)", 0, 1, below=True)
_SHARE = Values(float, "a number in [0, 1]", 0, 1)
_SWITCH = Values(bool)
_MOST_SHARDS = 1024
_SEED = Values(int, "an integer in 0..2^64-1", 0, 2**64 - 1)
_OF_AUGMENTATION = values_by_field(Augmentation)


def _one_of(*words: str) -> Values[str]:
    return Values(str, choices=words)


def _as(name: str, default: T, help: str) -> T:
    """A field that is passed to an Augmentation, and accepts the same values."""
    return a_field(default, cast("Values[T]", _OF_AUGMENTATION[name]), help)


def _clamped(name: str, length: float) -> float:
    """Within what an Augmentation accepts."""
    values = _OF_AUGMENTATION[name]
    return min(max(length, values.least), values.most)


class ChangesButSchedule(TypedDict, total=False):
    """The fields of a Recipe but schedule, as keywords of a function."""

    epochs: int
    batch_size: int
    batch_size_end: int
    shards: int
    optimizer: str
    lr: float
    muon_lr: float
    momentum: float
    nesterov: bool
    warm_up: float
    weight_decay: float
    clip_norm: float
    loss: str
    class_weight: ClassWeight
    label_smoothing: float
    dropout: float
    dropout_fc1: float
    temperature: float
    mix: float
    ema: float
    ema_start: float
    ema_every: int
    shift: int
    rotation: float
    scale: float
    shear: float
    elastic: float
    elastic_sigma: float
    cutout: int
    plain_epochs: int
    width: int
    deskew: bool
    algorithm: str
    precision: str
    tta: bool
    seed: int
    augmentation_seed: int


class RecipeChanges(ChangesButSchedule, total=False):
    """The fields of a Recipe, as keywords of a function."""

    schedule: str


def expect_recipe_fields(function: str, names: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raises TypeError for names that are no fields of a Recipe, nor other arguments of the function, with the nearest one."""
    expect_names(function, names, [field.name for field in fields(Recipe)], others)


@names_expected
@dataclass(frozen=True, repr=False)
class Recipe:
    """The settings of a training run. 0 and False mean off. The reference of the API describes each field.

    Every random number depends on the seed and its stream (initial weights, shuffling, augmentation, dropout). So evaluation,
    logging and the number of threads never change a result. Fields accept NumPy's scalars, and become Python's int, float, bool
    and str. class_weight accepts mappings and sequences too, and becomes a str. Raises TypeError for a field of the wrong type
    and ValueError for one out of its range; both name the field.
    """

    epochs: int = a_field(5, _EPOCHS, "passes over the training images; 0 only evaluates")
    batch_size: int = a_field(64, _POSITIVE, "images per step")
    batch_size_end: int = a_field(0, _COUNT, "images per step at the end, approached linearly; 0: constant")
    shards: int = a_field(
        1,
        Values(int, f"a power of two in 1..{_MOST_SHARDS}", 1, _MOST_SHARDS),
        "equal parts of a batch, whose gradients are added in a fixed tree; so that several processes can share them",
    )
    optimizer: str = a_field(
        "sgd",
        _one_of(*OPTIMIZERS),
        "sgd, adam, adamw, or muon (orthogonal steps for the convolutions' weights, sgd for the rest)",
    )
    lr: float = a_field(0.08, _SIZE, "peak learning rate")
    muon_lr: float = a_field(0.02, _SIZE, "peak learning rate of the convolutions' weights with muon")
    momentum: float = a_field(0.9, _FRACTION, "momentum, above 0 for muon; with adam and adamw, the first beta")
    nesterov: bool = a_field(True, _SWITCH, "Nesterov's momentum, if momentum is above 0")
    schedule: str = a_field(
        "one-cycle",
        _one_of(*SCHEDULES),
        "the rate rises linearly to its peak, then falls to zero, linearly (one-cycle) or as a cosine",
    )
    warm_up: float = a_field(0.2, _SHARE, "share of the steps in which the rate rises, 0 to 1")
    weight_decay: float = a_field(5e-4, _SIZE, "L2 penalty; decoupled with adamw")
    clip_norm: float = a_field(0.0, _NORM, "largest norm of the gradient, over all parameters; 0: no limit")
    loss: str = a_field(
        "cross_entropy",
        _one_of(*LOSSES),
        "cross_entropy, or mse: the squared error of the probabilities (softmax), averaged over the classes",
    )
    class_weight: ClassWeight = a_field(
        "",
        Values(str),
        "weights of the classes in the training loss: balanced, for classes of different sizes; 0=2,8=0.5, where the others "
        "weigh 1; or one for each class, 1,1,2",
    )
    label_smoothing: float = a_field(0.0, _SHARE, "share of the target that is spread over all classes, 0 to 1")
    dropout: float = a_field(0.0, _FRACTION, "probability of dropping an input of fc2")
    dropout_fc1: float = a_field(0.0, _FRACTION, "probability of dropping an input of fc1")
    temperature: float = a_field(
        2.0,
        Values(float, "a number in [0.001, 1000]", 0.001, 1000),
        "with a teacher: what its and the student's logits are divided by",
    )
    mix: float = a_field(0.9, _SHARE, "with a teacher: its share of the loss, 0 to 1; the labels have the rest")
    ema: float = a_field(0.0, _FRACTION, "decay of a running average of the weights; the average is evaluated and saved")
    ema_start: float = a_field(0.5, _SHARE, "share of the steps after which the average begins, 0 to 1")
    ema_every: int = a_field(1, _POSITIVE, "steps between updates of the average")
    shift: int = _as("shift", 2, "move training images by up to this many pixels of 28; other sizes in proportion")
    rotation: float = _as("rotation", 0.0, "rotate training images by up to this many degrees")
    scale: float = _as("scale", 0.0, "scale height and width by factors in 1 +- this")
    shear: float = _as("shear", 0.0, "slant training images by up to this many pixels per row")
    elastic: float = _as("elastic", 0.0, "elastic distortion: Simard's alpha, in pixels; 34 moves pixels by about 1.4")
    elastic_sigma: float = _as("elastic_sigma", 4.0, "elastic distortion: Simard's sigma (smoothness), in pixels")
    cutout: int = _as("cutout", 0, "blank a square with a side of this many pixels")
    plain_epochs: int = a_field(0, _COUNT, "number of epochs at the end without augmentation")
    width: int = a_field(
        0, WIDTH, "scale every digit to this width, in pixels of 28, 10 to 20, in training and in prediction; 0: as it is"
    )
    deskew: bool = a_field(False, DESKEW, "make every digit upright, in training and in prediction")
    algorithm: str = a_field(
        ALGORITHMS[0],
        _one_of(*ALGORITHMS),
        "algorithm of conv2's forward pass; winograd is faster and rounds a little more",
    )
    precision: str = a_field(
        PRECISIONS[0],
        _one_of(*PRECISIONS),
        "of the factors of products in conv1 and fc1: float32, or bf16, for which the CPU needs AVX512_BF16 or AMX",
    )
    tta: bool = a_field(False, _SWITCH, "test-time augmentation: average over each test image and its four shifts by one pixel")
    seed: int = a_field(0, _SEED, "seed of the initial weights, the order of the images, augmentation and dropout")
    augmentation_seed: int = a_field(
        0, _SEED, "another seed of the augmentation alone, so that students of several seeds see the same images; 0: the seed"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weight", class_weight_text(self.class_weight))
        expect_fields(self)
        if self.shards & (self.shards - 1):
            raise FieldValueError("shards", self.shards, f"a power of two in 1..{_MOST_SHARDS}")
        if self.shards > self.batch_size:
            raise FieldValueError("shards", self.shards, f"at most the {self.batch_size} images of a batch")
        if self.optimizer == "muon" and self.momentum == 0:
            raise FieldValueError(
                "momentum", self.momentum, "a number above 0 for optimizer muon", cure="optimizer sgd takes 0"
            )

    def rate(self, step: int, steps: int) -> float:
        """Returns the learning rate of step 0..steps-1. It does not depend on the batch sizes."""
        return SCHEDULES[self.schedule](step, steps, peak=self.lr, warm_up=self.warm_up)

    def batch_starts(self, epoch: int, images: int, first: int = 0) -> list[int]:
        """Returns where the batches of an epoch start, and as the last element where the last batch ends.

        epoch: counted from 0. images: the number of images in the epoch. first: the image from which to start.
        """
        return batch_starts(first, images, self.batch_size, self.batch_size_end, epoch, self.epochs)

    def average_from(self, steps: int) -> int | None:
        """Returns the number of steps after which the average of the weights begins, or None if there is no average."""
        return max(1, round(self.ema_start * steps)) if self.ema else None

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image before it is distorted and normalised; it is false if nothing is on."""
        return Preprocessing(self.width, self.deskew)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training images of 28x28 pixels; it is false if no distortion is on."""
        return Augmentation(**{name: getattr(self, name) for name in _OF_AUGMENTATION})

    @property
    def added_to_loss(self) -> tuple[str, ...]:
        """What makes the loss of the training images higher than that of the same images in evaluation, in words."""
        parts = {
            "label smoothing": self.label_smoothing > 0,
            "distorted images": bool(self.augmentation) and self.plain_epochs < self.epochs,
            "dropout": self.dropout > 0 or self.dropout_fc1 > 0,
        }
        return tuple(words for words, there in parts.items() if there)

    def augmentation_for(self, h: int, w: int) -> Augmentation:
        """The same for images of another size: what is in pixels is scaled by the shorter side over 28.

        So a shift of 2 moves an image of 8x8 by one pixel at most, and one of 64x64 by five. Elastic distortion bends by the
        same share of the image: by alpha over sigma, which is why alpha takes the square of the factor.
        """
        factor = min(h, w) / SIDE
        if factor == 1:
            return self.augmentation
        return replace(
            self.augmentation,
            shift=round(_clamped("shift", self.shift * factor)),
            cutout=round(_clamped("cutout", self.cutout * factor)),
            elastic=_clamped("elastic", self.elastic * factor**2),
            elastic_sigma=_clamped("elastic_sigma", self.elastic_sigma * factor),
        )

    def transforms(self, h: int, w: int) -> Callable[[int], Transform | None]:
        """Returns a function from an epoch, counted from 0, to the distortions of its images of h x w pixels; None for none."""
        augmentation, seed = self.augmentation_for(h, w), self.augmentation_seed or self.seed
        until = self.epochs - self.plain_epochs if augmentation else 0
        return lambda epoch: augmentation.at(seed, epoch) if epoch < until else None

    def _on(self) -> dict[str, object]:
        """The fields that are on, and their values."""
        values: dict[str, object] = asdict(self)
        shown = {name: value for name, value in values.items() if value and values[_BELONGS_TO.get(name, name)]}
        if self.optimizer != "muon":
            shown.pop("muon_lr", None)
        if self.shards == 1:
            del shown["shards"]
        if self.precision == PRECISIONS[0]:
            del shown["precision"]
        for name in _OF_TEACHER:  # of which a recipe does not know whether there is one
            if shown.get(name) == getattr(Recipe, name):
                del shown[name]
        return shown

    def __str__(self) -> str:
        """The fields that are on, in one line."""
        return ", ".join(
            name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
            for name, value in self._on().items()
        )

    def __repr__(self) -> str:
        """The call that makes it: the fields that differ from the defaults."""
        changed = [(field.name, getattr(self, field.name)) for field in fields(self)]
        defaults = {field.name: field.default for field in fields(self)}
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in changed if value != defaults[name])})"

    def _repr_html_(self) -> str:
        """A table of the fields that are on, for notebooks."""
        from html import escape

        meanings = {field.name: field.metadata["help"] for field in fields(self)}
        rows = [
            f"<tr><td>{name}</td><td>{escape(str(value))}</td><td>{escape(meanings[name])}</td></tr>"
            for name, value in self._on().items()
        ]
        head = "<tr><th>field</th><th>value</th><th>meaning</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


# The choices of the fields that are words.
CHOICES = {name: values.choices for name, values in values_by_field(Recipe).items() if values.choices}

# What all three recipes share.
_ORTHOGONAL = Recipe(optimizer="muon", lr=0.05, muon_lr=0.02, algorithm="winograd")

# Chosen on the last 5,000 training images, as fastlenet search does, never on the test set.
RECIPES: Mapping[str, Recipe] = {
    "default": replace(_ORTHOGONAL, epochs=5, shift=2, label_smoothing=0.05),
    "fast": replace(_ORTHOGONAL, epochs=1, shift=1, label_smoothing=0.1, batch_size=32),
    "best": replace(_ORTHOGONAL, epochs=20, shift=2, rotation=5.0, scale=0.05, shear=0.05, dropout=0.3, label_smoothing=0.05),
}


def named_recipe(name: str, **changes: Unpack[RecipeChanges]) -> Recipe:
    """Returns the recipe of that name, with some fields changed. ValueError: wrong name; TypeError: wrong field."""
    if name not in RECIPES:
        near = nearest(name, RECIPES)
        raise FieldValueError("recipe", name, f"one of {', '.join(RECIPES)}", cure=f"did you mean {near}?" if near else "")
    expect_recipe_fields("named_recipe", changes)
    return replace(RECIPES[name], **changes)
