"""The metadata of a checkpoint, and the schema that checks it before anything changes."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

from fastlenet.normalisation import PerChannel
from fastlenet.training.history import Epoch
from fastlenet.training.recipe import Recipe

__all__ = ["RunFacts", "Schema", "is_count", "is_number", "judge"]


def _is_word(value: object) -> bool:
    """Whether it is short text that fits in an error message."""
    return isinstance(value, str) and len(value) <= 100 and value.isprintable()


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is an integer in 0..2^63-1."""
    return type(value) is int and 0 <= value < 2**63


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; an integer in 0..2^63-1."""
    return (type(value) is float and math.isfinite(value)) or is_count(value)


def _is_size(value: object) -> bool:
    return is_number(value) and value >= 0


def _is_share(value: object) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_share_or_none(value: object) -> bool:
    return value is None or _is_share(value)


def _is_loss(value: object) -> bool:
    """Whether it is a loss of the test images; it may be infinite, even if the weights are finite."""
    return value is None or type(value) is float or is_count(value)


def _are_sums(values: list[object]) -> bool:
    """Of the losses, of the images that were right, of all images, of the seconds."""
    if len(values) != 4:
        return False
    loss, right, images, seconds = values
    return is_number(loss) and is_count(right) and is_count(images) and right <= images and _is_size(seconds)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_normalisation(value: object) -> bool:
    """Whether it is two numbers, or two lists of the same length; the second must be positive."""
    if not (_is_list(value) and len(value) == 2):
        return False
    mean, std = ([part] if not _is_list(part) else part for part in value)
    same = 0 < len(mean) == len(std) and _is_list(value[0]) == _is_list(value[1])
    return same and all(map(is_number, mean)) and all(is_number(part) and part > 0 for part in std)


def _per_channel(value: float | list[float]) -> PerChannel:
    return tuple(map(float, value)) if isinstance(value, list) else float(value)


_MOST_EPOCHS = 10**5  # with growing batches, whose steps are counted epoch by epoch

# Each name's check, and its words in an error.
Schema = Mapping[str, tuple[Callable[[object], bool], str]]
_FACTS: Schema = {
    "version": (_is_word, "a word"),
    "level": (_is_word, "a word"),
    "recipe": (_is_object, "an object"),
    "settings": (_is_object, "an object"),
    "data": (_is_word, "a word"),
    "steps": (is_count, "a count"),
    "epoch": (is_count, "a count"),
    "position": (is_count, "a count"),
    "dropout_counter": (is_count, "a count"),
    "sums": (_is_list, "a list"),
    "history": (_is_list, "a list"),
}
_EPOCH: Schema = {
    "epoch": (is_count, "a count"),
    "loss": (is_number, "a finite number"),
    "accuracy": (_is_share, "a number in [0, 1]"),
    "val_loss": (_is_loss, "a number"),
    "val_accuracy": (_is_share_or_none, "a number in [0, 1]"),
    "seconds": (_is_size, "a finite, non-negative number"),
    "images_per_second": (_is_size, "a finite, non-negative number"),
}


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def judge(where: str, values: object, schema: Schema) -> dict[str, Any]:
    """Returns `values`, an object that satisfies the schema. Raises ValueError for anything else."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} expects an object, got {reprlib.repr(values)}")
    for name, (holds, expected) in schema.items():
        _expect(name in values, f"{where} lacks {name}")
        _expect(holds(values[name]), f"{name} in {where} expects {expected}, got {reprlib.repr(values[name])}")
    return values


@dataclass(frozen=True)
class RunFacts:
    """The metadata of a run between two steps. epoch: the number of complete epochs.

    position, loss_sum, correct, images, seconds: of the current epoch, its batches, the sum of the images' losses, the images
    classified correctly, its images and its time.
    normalisation: the mean and standard deviation that normalise the images, or None in files without them.
    schedule: the checksum of a function that was given as the schedule, or None. sample_weight: that of the weights of the
    images, or None. teacher: that of the networks which the run learns from, or None.
    network: the class of the network, then the name and the class of each layer; empty in files without it.
    """

    version: str
    level: str
    recipe: Recipe
    settings: dict[str, object]
    data: str
    normalisation: tuple[PerChannel, PerChannel] | None
    schedule: str | None
    sample_weight: str | None
    teacher: str | None
    network: tuple[str, ...]
    steps: int
    epoch: int
    position: int
    dropout_counter: int
    loss_sum: float
    correct: int
    images: int
    seconds: float
    history: tuple[Epoch, ...]

    def as_json(self) -> dict[str, object]:
        """Returns the metadata in a checkpoint's form."""
        facts = asdict(self)
        facts["sums"] = [facts.pop(name) for name in ("loss_sum", "correct", "images", "seconds")]
        return facts

    @classmethod
    def of(cls, values: object) -> RunFacts:
        """Returns the facts from as_json's result. Raises ValueError, with one line, for anything else."""
        facts = judge("the facts", values, _FACTS)
        sums, history, pair = facts["sums"], facts["history"], facts.get("normalisation")
        _expect(
            _are_sums(sums),
            f"sums expects a number, the images that were right, all images, and seconds, got {reprlib.repr(sums)}",
        )
        _expect(
            pair is None or _is_normalisation(pair),
            f"normalisation expects a mean and a standard deviation, or those of each channel, got {reprlib.repr(pair)}",
        )
        checksums = {name: facts.get(name) for name in ("schedule", "sample_weight", "teacher")}
        for name, value in checksums.items():
            _expect(value is None or _is_word(value), f"{name} expects a word, got {reprlib.repr(value)}")
        network = facts.get("network") or []
        _expect(_is_list(network) and all(map(_is_word, network)), f"network expects words, got {reprlib.repr(network)}")
        for number, epoch in enumerate(history, 1):
            judge("its history", epoch, _EPOCH)
            _expect(epoch["epoch"] == number, f"epoch {epoch['epoch']} stands at place {number} of its history")
        _expect(len(history) == facts["epoch"], f"{len(history)} epochs in its history, of {facts['epoch']}")
        made = cls(
            recipe=_recipe(facts["recipe"]),
            normalisation=None if pair is None else (_per_channel(pair[0]), _per_channel(pair[1])),
            schedule=checksums["schedule"],
            sample_weight=checksums["sample_weight"],
            teacher=checksums["teacher"],
            network=tuple(network),
            loss_sum=float(sums[0]),
            correct=sums[1],
            images=sums[2],
            seconds=float(sums[3]),
            history=tuple(Epoch(**{name: epoch[name] for name in _EPOCH}) for epoch in history),
            **{name: facts[name] for name in _FACTS.keys() - {"recipe", "sums", "history"}},
        )
        made._expect_place()
        return made

    def _expect_place(self) -> None:
        """Raise ValueError unless the position is possible."""
        where = f"epoch {self.epoch} of {self.recipe.epochs}, position {self.position}, {self.images} images"
        inside = self.epoch < self.recipe.epochs and self.position <= self.images
        at_rest = self.position == self.images == 0 and self.epoch <= self.recipe.epochs
        _expect(at_rest or (inside and self.position > 0), f"there is no such place: {where}")


def _recipe(values: dict[str, Any]) -> Recipe:
    expected = {field.name: field.default for field in fields(Recipe)}
    odd = values.keys() ^ expected.keys()
    _expect(not odd, f"its recipe is another version's; it differs in {reprlib.repr(', '.join(sorted(map(str, odd))))}")
    for name, value in values.items():
        kinds = (int, float) if type(expected[name]) is float else (type(expected[name]),)
        fits = type(value) in kinds and (type(value) is not int or 0 <= value < 2**64)
        _expect(fits, f"{name} in its recipe expects {kinds[-1].__name__}, got {reprlib.repr(value)}")
        _expect(type(value) is not str or name == "class_weight" or _is_word(value), f"{name} in its recipe is not a word")
    recipe = Recipe(**values)
    if recipe.batch_size_end:  # the steps of each epoch are then counted
        _expect(recipe.epochs <= _MOST_EPOCHS, f"{recipe.epochs} epochs in its recipe, more than {_MOST_EPOCHS:,}")
    return recipe
