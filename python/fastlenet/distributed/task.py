"""A run as data: what a worker is asked to do, and what it answers. The same task gives the same accuracy on every worker."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TypeVar

from fastlenet.config import THREADS, config
from fastlenet.distributed.source import Source
from fastlenet.training.facts import Schema, is_count, is_number, judge
from fastlenet.training.recipe import Recipe

__all__ = ["Outcome", "Refusal", "Task", "made_of", "seed_of"]

Made = TypeVar("Made")


def made_of(kind: Callable[..., Made], values: object) -> Made:
    """A dataclass of these fields, which came in a message or a file; it checks them itself. Raises TypeError or ValueError."""
    if not isinstance(values, dict):
        raise TypeError(f"{kind} expects an object, got {type(values).__name__}")
    return kind(**values)


@dataclass(frozen=True)
class Task:
    """One run: a recipe with its seed, the data and their checksum, and the number of threads.

    network: a name in NETWORKS. weights: whether the answer has the trained parameters. version, level: those of the caller,
    which the worker must have too.
    """

    recipe: Recipe
    source: Source
    fingerprint: str
    network: str = "lenet"
    threads: int = 1
    weights: bool = False
    version: str = field(default_factory=lambda: config()["version"])
    level: str = field(default_factory=lambda: config()["level"])

    def __post_init__(self) -> None:
        object.__setattr__(self, "threads", THREADS.convert("threads", self.threads))

    def as_message(self) -> dict[str, object]:
        """As it travels: plain values, so that a worker of another version can read them and refuse in words."""
        message = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return message | {"recipe": asdict(self.recipe), "source": self.source.as_message()}


@dataclass(frozen=True)
class Refusal:
    """A worker that cannot do the runs of this caller. worker: its name; why: the rest of the line."""

    worker: str
    why: str

    def __str__(self) -> str:
        return f"worker {self.worker} is refused: {self.why}"


def _is_share_or_none(value: object) -> bool:
    return value is None or (is_number(value) and 0 <= value <= 1)


def _is_number_or_none(value: object) -> bool:
    return value is None or is_number(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) < 1000


def _are_seconds(value: object) -> bool:
    return isinstance(value, dict) and all(is_number(seconds) and seconds >= 0 for seconds in value.values())


def _are_epochs(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(epoch, dict) for epoch in value):
        return False
    return all(_is_number_or_none(number) for epoch in value for number in epoch.values())


# What a line of a file of results must have, and its words in an error.
_ROW: Schema = {
    "recipe": (lambda value: isinstance(value, dict), "an object"),
    "accuracy": (_is_share_or_none, "a number in [0, 1]"),
    "loss": (_is_number_or_none, "a number"),
    "training_loss": (_is_number_or_none, "a number"),
    "diverged": (_is_text, "text"),
    "seconds": (_are_seconds, "an object of seconds"),
    "epochs": (_are_epochs, "a list of objects of numbers"),
    "host": (_is_text, "text"),
    "pid": (is_count, "a count"),
    "cpu": (_is_text, "text"),
    "threads": (is_count, "a count"),
    "version": (_is_text, "text"),
    "level": (_is_text, "text"),
    "weights": (lambda value: value is None or isinstance(value, str), "text"),
}


@dataclass(frozen=True)
class Outcome:
    """What a run came to, and where.

    accuracy, loss: of the final weights, on the validation images if the data have some, else on the test images; None if the
    run diverged, and `diverged` then has the reason. training_loss: the mean of the last epoch. seconds: what the run's time
    was spent on: data, training and evaluation; do not compare those of different hosts. epochs: the numbers of each epoch.
    weights: the final parameters, float32 in the order of the network's parameter_buffer, if they were asked for.
    """

    recipe: Recipe
    accuracy: float | None
    loss: float | None
    training_loss: float | None
    diverged: str
    seconds: Mapping[str, float]
    epochs: tuple[Mapping[str, float | None], ...]
    host: str
    pid: int
    cpu: str
    threads: int
    version: str
    level: str
    weights: bytes | None = field(default=None, repr=False)

    @property
    def seed(self) -> int:
        """The seed of its recipe."""
        return self.recipe.seed

    @property
    def worker(self) -> str:
        """The process that did it."""
        return f"{self.host}:{self.pid}"

    def as_row(self) -> dict[str, object]:
        """As a file of results has it: JSON's values, with the weights in base 64."""
        weights = None if self.weights is None else base64.b64encode(self.weights).decode()
        return asdict(self) | {"weights": weights, "epochs": list(self.epochs)}

    @classmethod
    def of_row(cls, row: object) -> Outcome:
        """Returns the outcome of as_row's result. Raises TypeError or ValueError, with one line, for anything else."""
        values = judge("a run", row, _ROW)
        weights = None if values["weights"] is None else base64.b64decode(values["weights"], validate=True)
        kept = {name: values[name] for name in _ROW}
        return cls(**kept | {"recipe": made_of(Recipe, kept["recipe"]), "epochs": tuple(kept["epochs"]), "weights": weights})


def seed_of(arguments: Sequence[object]) -> int | None:
    """The seed of a call of run_task, by its arguments; None of another call. For what shows the calls of an Executor."""
    message = arguments[0] if arguments else None
    recipe = message.get("recipe") if isinstance(message, Mapping) else None
    return recipe["seed"] if isinstance(recipe, Mapping) else None
