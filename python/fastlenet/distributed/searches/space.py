"""The space of a search: which fields of a recipe vary, in what ranges, and how many trials and seeds they get."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from fastlenet.fields import (
    INT64_MAX,
    FieldTypeError,
    FieldValueError,
    Values,
    a_field,
    expect_fields,
    expect_names,
    values_by_field,
)
from fastlenet.files import CheckpointError, shown_path, user_path
from fastlenet.models import NETWORKS
from fastlenet.training.recipe import RECIPES, Recipe

__all__ = ["Range", "Space", "Value"]

Value = int | float | bool | str  # of a recipe's field
_MOST = 100_000  # trials of a grid


@dataclass(frozen=True)
class Range:
    """The values of a field: choices, or the numbers from low to high. log: uniform in the logarithm. step: between numbers."""

    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    whole: bool = False  # integers

    def sample(self, rng: np.random.Generator) -> Value:
        """Returns a random value."""
        if self.choices or self.step:
            return self.value(int(rng.integers(self.count)))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high + (1 if self.whole else 0))
        if self.whole:
            return min(int(value), int(self.high))
        return min(max(float(f"{value:.4g}"), self.low), self.high)  # four digits are enough, and can be read

    def as_json(self) -> object:
        """Returns it as a file of a space has it."""
        if self.choices:
            return list(self.choices)
        return (
            {"low": self.low, "high": self.high}
            | ({"log": True} if self.log else {})
            | ({"step": self.step} if self.step else {})
        )

    @property
    def count(self) -> int:
        """How many values there are: choices, or low, low + step, ..."""
        return len(self.choices) or int((self.high - self.low) / self.step + 1e-9) + 1

    def value(self, number: int) -> Value:
        """Returns one of these `count` values."""
        if self.choices:
            return self.choices[number]
        exact = self.low + self.step * number
        return int(exact) if self.whole else float(f"{exact:.12g}")


@dataclass(frozen=True)
class Space:
    """What a search tries. `Space.read` makes it of a file, `Space.of` of a mapping with the same names.

    recipe: the name of the recipe whose fields change. ranges: a Range for each field. listed: trials that are given one by
    one, as changed fields, and come before the others.
    """

    recipe: str = a_field("default", Values(str, choices=tuple(RECIPES)), "the recipe whose fields change")
    network: str = a_field("lenet", Values(str, choices=tuple(NETWORKS)), "the network to train")
    data: str = a_field("mnist", Values(str), "the name of a data set, or a path")
    validation: int = a_field(
        5000,
        Values(int, "a positive integer", 1, INT64_MAX),
        "training images at the end that judge the trials; no test image does",
    )
    trials: int = a_field(20, Values(int, f"an integer in 0..{_MOST}", 0, _MOST), "trials to sample, beside the listed ones")
    seeds: int = a_field(3, Values(int, "an integer in 1..10000", 1, 10_000), "runs of a trial, with seeds 0, 1, ...")
    seed: int = a_field(0, Values(int, "an integer in 0..2^63-1", 0, INT64_MAX), "seed of the sampler")
    sampler: str = a_field(
        "random", Values(str, choices=("random", "grid", "optuna")), "random, grid, or optuna (extra optuna)"
    )
    metric: str = a_field(
        "accuracy",
        Values(str, choices=("accuracy", "loss")),
        "the measure of a trial; compare losses only at equal label smoothing",
    )
    halving: int = a_field(
        0,
        Values(int, "0, or an integer in 2..100", 0, 100),
        "after each rung keep one trial in this many, with as many times the seeds or epochs; 0: off",
    )
    resource: str = a_field("seeds", Values(str, choices=("seeds", "epochs")), "what grows from rung to rung: seeds or epochs")
    ranges: Mapping[str, Range] = field(default_factory=dict)
    listed: Sequence[Mapping[str, Value]] = ()

    def __post_init__(self) -> None:
        expect_fields(self, "search: ")
        if self.halving == 1:
            raise FieldValueError("halving", 1, "0, or an integer in 2..100", "search: ")
        object.__setattr__(self, "ranges", dict(self.ranges or {}))
        if not self.ranges and not self.listed:
            raise FieldValueError("fields", {}, "at least one field, or a trial", "search: ", "[fields] with lr = [0.05, 0.1]")
        if self.sampler == "grid":
            for name, of in self.ranges.items():
                if not of.choices and not of.step:
                    raise FieldValueError(name, "a range", "choices or a step, for the sampler grid", "search: ")
            if self._in_grid() > _MOST:
                cure, got = "give fewer choices or larger steps, or take the sampler random", f"one of {self._in_grid():,}"
                raise FieldValueError("fields", self.ranges, f"a grid of at most {_MOST:,} trials", "search: ", cure, got=got)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Space:
        """Returns the space of a TOML file, or of a JSON file with the same names. Raises CheckpointError, or FieldError."""
        place = user_path(path)
        try:
            content = place.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{shown_path(place)}: cannot be read ({error.strerror or error})") from None
        try:
            values = json.loads(content) if place.suffix == ".json" else _parse_toml(content.decode())
        except (ValueError, RecursionError) as error:  # of either parser
            raise CheckpointError(f"{shown_path(place)}: {str(error) or 'cannot be parsed'}") from None
        return cls.of(values)

    @classmethod
    def of(cls, values: object) -> Space:
        """Returns the space of a mapping: the fields of this class, `fields` with the ranges, `trial` with listed trials.

        A range is a list of choices, or {"low": 0.01, "high": 0.2}, and with it "log": true or "step": 0.01. Raises FieldError.
        """
        if not isinstance(values, Mapping):
            raise FieldTypeError("space", values, "a mapping, or the name of a file", "search: ")
        given = dict(values)
        ranges, listed = given.pop("fields", {}), given.pop("trial", [])
        own = [entry.name for entry in fields(cls) if entry.name not in ("ranges", "listed")]
        expect_names("search", given, own, ("fields", "trial"))
        if not isinstance(ranges, Mapping):
            raise FieldTypeError("fields", ranges, "a table of fields and their ranges", "search: ")
        if not isinstance(listed, list) or not all(isinstance(trial, Mapping) for trial in listed):
            raise FieldTypeError("trial", listed, "tables of fields and their values", "search: ")
        space = cls(**given, ranges={name: _range(name, of) for name, of in ranges.items()}, listed=listed)
        for trial in space.listed:
            space.recipe_of(trial)
        for name, of in space.ranges.items():
            for value in of.choices or (of.low, of.high):
                space.recipe_of({name: int(value) if of.whole and not of.choices else value})
        return space

    def as_mapping(self) -> dict[str, object]:
        """Returns the mapping of which `of` makes this space: JSON's values."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("ranges", "listed")}
        ranges = {name: of.as_json() for name, of in self.ranges.items()}
        return own | {"fields": ranges, "trial": [dict(trial) for trial in self.listed]}

    def recipe_of(self, trial: Mapping[str, Value]) -> Recipe:
        """Returns the recipe of a trial. Raises TypeError or FieldError for fields that it does not have."""
        expect_names("search", trial, [entry.name for entry in fields(Recipe) if entry.name != "seed"])
        made: dict[str, object] = asdict(RECIPES[self.recipe]) | dict(trial)
        return _recipe(made)

    def _in_grid(self) -> int:
        return math.prod(of.count for of in self.ranges.values())

    def samples(self) -> Iterator[Mapping[str, Value]]:
        """Yields the changed fields of each trial: the listed ones, then those of the grid, or random ones.

        A sample depends on its number and the seed alone: more trials begin with the same ones.
        """
        yield from self.listed
        if not self.ranges:
            return
        if self.sampler == "grid":
            for number in range(self._in_grid()):
                trial: dict[str, Value] = {}
                left = number  # a number whose digits are those of the fields, the last field's first
                for name, of in reversed([*self.ranges.items()]):
                    left, digit = divmod(left, of.count)
                    trial[name] = of.value(digit)
                yield {name: trial[name] for name in self.ranges}
            return
        for number in range(self.trials):
            rng = np.random.default_rng([self.seed, number])
            yield {name: of.sample(rng) for name, of in self.ranges.items()}


def _recipe(values: Mapping[str, object]) -> Recipe:
    floats = {entry.name for entry in fields(Recipe) if isinstance(entry.default, float)}
    made = {name: _as_float(value) if name in floats and type(value) is int else value for name, value in values.items()}
    return Recipe(**made)  # type: ignore[arg-type]


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return number  # which no recipe takes


def _range(name: str, of: object) -> Range:
    """A field's range, checked. Raises FieldError."""
    kinds = values_by_field(Recipe)
    expect_names("search", [name], [known for known in kinds if known != "seed"])
    kind, where = kinds[name].kind, "search: "
    if isinstance(of, list) and of:
        return Range(choices=tuple(kinds[name].convert(f"{where}{name}", value) for value in of))
    if not isinstance(of, Mapping) or not of.keys() >= {"low", "high"} or kind not in (int, float):
        expected = "a list of choices" + (", or a table with low and high" if kind in (int, float) else "")
        raise FieldTypeError(name, of, expected, where)
    expect_names(f"search: {name}", of, ("low", "high", "log", "step"))
    if kind is int:
        of = {end: int(value) if isinstance(value, float) and value.is_integer() else value for end, value in of.items()}
    low, high = (kinds[name].convert(f"{where}{name}.{end}", of[end]) for end in ("low", "high"))
    log, step = of.get("log", False), of.get("step", 0)
    log = Values(bool).convert(f"{where}{name}.log", log)
    step = Values(float, "a non-negative number", 0, math.inf, below=True).convert(f"{where}{name}.step", step)
    if not float(low) < float(high) or (log and (float(low) <= 0 or step)):
        raise FieldValueError(name, dict(of), "low below high; with log, a low above 0 and no step", where)
    if step and (float(high) - float(low)) / step >= _MOST:
        raise FieldValueError(name, dict(of), f"a step that gives at most {_MOST:,} values", where)
    return Range((), float(low), float(high), log, step, kind is int)


def _parse_toml(text: str) -> object:
    """The contents of a TOML file. Raises ValueError."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        loads = importlib.import_module(name).loads
    except ImportError:
        raise CheckpointError("TOML needs tomli in Python 3.10; pip install 'fastlenet[search]', or write JSON") from None
    parsed: object = loads(text)
    return parsed
