"""How to train: the fields of a recipe, and the recipes that have names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fastlenet.augment import Augmentation

__all__ = ["CHOICES", "RECIPES", "Recipe", "named_recipe"]

# What the fields that are words may say.
CHOICES = {
    "algorithm": ("direct", "winograd"),
    "optimizer": ("sgd", "adamw", "muon"),
    "schedule": ("one-cycle", "cosine"),
}
_PART = 16  # images: a growing batch is a multiple of what the kernels take at a time
_AUGMENTATION = ("shift", "rotation", "scale", "shear", "elastic", "elastic_sigma", "cutout")
# A field that means nothing without another.
_BELONGS_TO = {"ema_start": "ema", "ema_every": "ema", "elastic_sigma": "elastic", "nesterov": "momentum"}


def _of(default: Any, help: str) -> Any:
    """A field, with what --help says of it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run does to a model and data, as readable data; 0 and False mean off.

    Every random number depends on the seed and its own stream (initial weights, shuffling, augmentation, dropout), so that
    neither evaluation nor logging nor the number of threads changes a result. Raises ValueError for a field out of its range.
    """

    epochs: int = _of(5, "passes over the training images; 0 only evaluates")
    batch_size: int = _of(64, "images per step")
    batch_size_end: int = _of(0, "images per step at the end, reached linearly; 0: as at the start")
    optimizer: str = _of("sgd", "sgd, adamw, or muon: orthogonal steps for the convolutions' weights, sgd for the rest")
    lr: float = _of(0.08, "peak learning rate")
    muon_lr: float = _of(0.02, "peak learning rate of what muon moves")
    momentum: float = _of(0.9, "momentum; adamw's first beta")
    nesterov: bool = _of(True, "Nesterov's momentum")
    schedule: str = _of("one-cycle", "the rate rises linearly to its peak, then falls to zero: linearly, or as a cosine")
    warm_up: float = _of(0.2, "share of the steps in which the rate rises")
    weight_decay: float = _of(5e-4, "L2 penalty; adamw's is decoupled")
    label_smoothing: float = _of(0.0, "share of the target that is spread over all classes")
    dropout: float = _of(0.0, "probability of dropping an input of fc2")
    dropout_fc1: float = _of(0.0, "probability of dropping an input of fc1")
    ema: float = _of(0.0, "decay of the running average of the weights, which is then what is evaluated and saved")
    ema_start: float = _of(0.5, "share of the steps before the average begins")
    ema_every: int = _of(1, "steps from one update of the average to the next")
    shift: int = _of(2, "training images are moved by up to so many pixels")
    rotation: float = _of(0.0, "turned by up to so many degrees")
    scale: float = _of(0.0, "height and width scaled, each by 1 +- this")
    shear: float = _of(0.0, "slanted by up to so many pixels per row")
    elastic: float = _of(0.0, "bent elastically: Simard's alpha, in pixels; 34 is about 1.4 pixels")
    elastic_sigma: float = _of(4.0, "smoothness of the bending, in pixels")
    cutout: int = _of(0, "a square of so many pixels is blanked")
    plain_epochs: int = _of(0, "the last epochs, which see the images as they are")
    algorithm: str = _of("direct", "of conv2's forward pass; winograd is faster, and rounds a little more")
    tta: bool = _of(False, "test-time augmentation: average over each test image and its shifts by one pixel")
    seed: int = _of(0, "of the initial weights, the order of the images, augmentation and dropout")

    def __post_init__(self) -> None:
        positive, share = "a positive integer", "a number in [0, 1]"
        fraction, size = "a number in [0, 1)", "a non-negative number"
        count = "a non-negative integer"
        checks = {name: (getattr(self, name) in words, f"one of {', '.join(words)}") for name, words in CHOICES.items()}
        checks |= {
            "epochs": (self.epochs >= 0, count),
            "batch_size": (self.batch_size >= 1, positive),
            "batch_size_end": (self.batch_size_end >= 0, count),
            "lr": (_is_size(self.lr), size),
            "muon_lr": (_is_size(self.muon_lr), size),
            "momentum": (0 <= self.momentum < 1, fraction),
            "warm_up": (0 <= self.warm_up <= 1, share),
            "weight_decay": (_is_size(self.weight_decay), size),
            "label_smoothing": (0 <= self.label_smoothing <= 1, share),
            "dropout": (0 <= self.dropout < 1, fraction),
            "dropout_fc1": (0 <= self.dropout_fc1 < 1, fraction),
            "ema": (0 <= self.ema < 1, fraction),
            "ema_start": (0 <= self.ema_start <= 1, share),
            "ema_every": (self.ema_every >= 1, positive),
            "shift": (0 <= self.shift <= 32000, "pixels in 0..32000"),
            "rotation": (0 <= self.rotation <= 180, "degrees in [0, 180]"),
            "scale": (0 <= self.scale < 1, fraction),
            "shear": (0 <= self.shear <= 1, share),
            "elastic": (0 <= self.elastic <= 1e6, "pixels in [0, 1e6]"),
            "elastic_sigma": (0 < self.elastic_sigma <= 1000, "pixels in (0, 1000]"),
            "cutout": (0 <= self.cutout <= 32000, "pixels in 0..32000"),
            "plain_epochs": (self.plain_epochs >= 0, count),
            "seed": (0 <= self.seed < 2**64, "an integer in 0..2^64-1"),
        }
        for name, (holds, expected) in checks.items():
            if not holds:
                raise ValueError(f"{name} expects {expected}, got {getattr(self, name)!r}")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0..steps-1, whatever the batch sizes."""
        rising = round(self.warm_up * steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
        return self.lr * (steps - step) / (steps - rising)

    def batch_starts(self, epoch: int, images: int, first: int = 0) -> list[int]:
        """Where the batches of an epoch (counted from 0) of `images` images start, from image `first` on, and the last ends."""
        starts = [first]
        while starts[-1] < images:
            size = self.batch_size
            if self.batch_size_end:
                done = (epoch + starts[-1] / images) / max(1, self.epochs)
                exact = self.batch_size + done * (self.batch_size_end - self.batch_size)
                size = max(1, round(exact / _PART)) * _PART
            starts.append(min(starts[-1] + size, images))
        return starts

    def average_from(self, steps: int) -> int | None:
        """The number of steps after which the average of the weights begins, or None without one."""
        return max(1, round(self.ema_start * steps)) if self.ema else None

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the training images; false where nothing is."""
        return Augmentation(**{name: getattr(self, name) for name in _AUGMENTATION})

    def __str__(self) -> str:
        """The fields that are on."""
        values: dict[str, Any] = asdict(self)
        shown = {name: value for name, value in values.items() if value and values[_BELONGS_TO.get(name, name)]}
        if self.optimizer != "muon":
            shown.pop("muon_lr", None)
        return ", ".join(
            name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}" for name, value in shown.items()
        )


def _is_size(value: float) -> bool:
    return math.isfinite(value) and value >= 0


# What all three have in common.
_ORTHOGONAL: Mapping[str, Any] = {"optimizer": "muon", "lr": 0.05, "muon_lr": 0.02, "algorithm": "winograd"}

# Chosen on the last 5,000 training images by benchmarks/search_recipe.py, never on the test set.
RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(epochs=5, shift=2, label_smoothing=0.05, **_ORTHOGONAL),
    "fast": Recipe(epochs=1, shift=1, label_smoothing=0.1, batch_size=32, **_ORTHOGONAL),
    "best": Recipe(epochs=20, shift=2, rotation=5.0, scale=0.05, shear=0.05, dropout=0.3, label_smoothing=0.05, **_ORTHOGONAL),
}


def named_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name with some fields changed. Raises ValueError for another name, TypeError for another field."""
    if name not in RECIPES:
        raise ValueError(f"recipe expects one of {', '.join(RECIPES)}, got {name!r}")
    unknown = changes.keys() - {field.name for field in fields(Recipe)}
    if unknown:
        raise TypeError(f"unexpected arguments {', '.join(sorted(unknown))}")
    return replace(RECIPES[name], **changes)
