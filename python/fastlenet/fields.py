"""Checks the values of arguments and fields: each becomes a plain Python value, or an error that names the argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from numbers import Real
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "INT64_MAX",
    "FieldError",
    "FieldTypeError",
    "FieldValueError",
    "Values",
    "a_field",
    "expect_fields",
    "expect_names",
    "integer",
    "named",
    "names_expected",
    "nearest",
    "shown",
    "values_by_field",
]

T = TypeVar("T", bool, int, float, str)
C = TypeVar("C")

_SYNONYMS = {"learning_rate": "lr"}  # other libraries' names that are not near enough

INT64_MAX = 2**63 - 1


class FieldError(Exception):
    """A field or an argument does not accept a value. The message is one line.

    field: its name. value: the rejected value. expected: what the field accepts, in words. where: a prefix of the name, such as
    "Augmentation: " or a file's name. cure: what to do about it. got: the value in words, if its repr would not be clear.
    """

    def __init__(self, field: str, value: object, expected: str, where: str = "", cure: str = "", got: str = "") -> None:
        super().__init__(field, value, expected, where, cure, got)
        self.field, self.value, self.expected, self.where, self.cure = field, value, expected, where, cure
        self.got = got or shown(value)

    def worded(self, name: str, cure: str | None = None) -> str:
        """Returns the message with another name of the field, and another cure, for a reader who knows it by that name."""
        cure = self.cure if cure is None else cure
        return printable(f"{name} expects {self.expected}, got {self.got}" + (f"; {cure}" if cure else ""))

    def __str__(self) -> str:
        return self.worded(f"{self.where}{self.field}")


class FieldValueError(FieldError, ValueError):
    """A value is out of the field's range."""


class FieldTypeError(FieldError, TypeError):
    """A value has not the field's type."""


@dataclass(frozen=True)
class Values(Generic[T]):
    """The values that a field accepts: a type, with a range least..most or a set of choices.

    kind: int, float, bool or str. expected: the range in words, for errors. above: excludes least. below: excludes most.
    NaN is in no range.
    """

    kind: type[T]
    expected: str = ""
    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()

    def convert(self, name: str, value: object) -> T:
        """Returns the value, which may be a NumPy scalar, as a Python int, float, bool or str.

        name: the field's name, with its owner if there is one: "Chain: rate". Raises FieldTypeError for another type, and
        FieldValueError for a value out of the range.
        """
        owner, colon, field = name.rpartition(": ")
        where, kind = owner + colon, self._words(_KINDS[self.kind])
        try:
            converted = _converter(self.kind)(value)
        except TypeError:
            raise FieldTypeError(field, value, kind, where) from None
        except OverflowError:  # an integer beyond all floats
            raise FieldValueError(field, value, kind, where) from None
        if not self._holds(converted):
            expected = self._words(self.expected)
            if isinstance(converted, int) and converted > INT64_MAX == self.most:
                expected += " below 2^63"
            raise FieldValueError(field, converted, expected, where)
        return converted

    def _holds(self, value: float | str) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, (bool, str)):
            return True
        enough = value > self.least if self.above else value >= self.least
        return enough and (value < self.most if self.below else value <= self.most)

    def _words(self, expected: str) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else expected


def _to_int(value: object) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(cast(int, value))


def _to_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return float(value)


def _to_bool(value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _to_str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


_KINDS: Mapping[type, str] = {int: "an integer", float: "a number", bool: "True or False", str: "a word"}
_CONVERTERS: Mapping[type, Callable[[object], object]] = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}


def _converter(kind: type[T]) -> Callable[[object], T]:
    return cast("Callable[[object], T]", _CONVERTERS[kind])


def printable(text: str) -> str:
    """Returns the text with escape sequences for characters that cannot be printed, since a file may have put them there."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def named(name: object) -> str:
    """Returns a name that may come from a file: as it is if it can be printed and is short, else its repr in one short line."""
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= 60 else shown(name)


def shown(value: object) -> str:
    """Returns the value's repr in one line of at most 60 characters."""
    try:
        line = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except ValueError:  # Python does not write integers of more than 4,300 digits
        line = "one with thousands of digits"
    return line if len(line) <= 60 else f"{line[:57]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of the known words that a misspelt one may have meant; empty where none is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1)), "")


def expect_names(function: str, names: Iterable[str], known: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raises TypeError, with the nearest one, for a name that is not known. others: to be suggested too."""
    known = list(known)
    for name in names:
        if name not in known:
            near = _SYNONYMS.get(name) or nearest(name, [*known, *others])
            cure = f"did you mean {near}?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"{function}: unexpected argument {named(name)}; {cure}")


def names_expected(kind: type[C]) -> type[C]:
    """A decorator of a dataclass: its constructor answers a misspelt field with the nearest one."""
    construct = kind.__init__
    known = [name for name in construct.__annotations__ if name != "return"]

    @wraps(construct)
    def checked(self: C, *values: object, **named: object) -> None:
        expect_names(kind.__name__, named, known)
        construct(self, *values, **named)

    type.__setattr__(kind, "__init__", checked)
    return kind


def integer(name: str, value: object, least: int, most: int = INT64_MAX) -> int:
    """Returns the value as a Python int in least..most. Raises FieldTypeError or FieldValueError."""
    words = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
    expected = words if most == INT64_MAX else f"an integer in {least}..{most}"
    return Values(int, expected, least, most).convert(name, value)


def a_field(default: T, values: Values[T], help: str = "") -> T:
    """Returns a dataclass field. values: what it accepts. help: its meaning, for a command's --help."""
    return field(default=default, metadata={"values": values, "help": help})


def values_by_field(kind: type[DataclassInstance]) -> dict[str, Values[int] | Values[float] | Values[bool] | Values[str]]:
    """Returns what each field accepts, for the fields of a dataclass that a_field made."""
    return {entry.name: entry.metadata["values"] for entry in fields(kind) if "values" in entry.metadata}


def expect_fields(record: DataclassInstance, where: str = "") -> None:
    """Convert the fields of a frozen dataclass that a_field made. Raises as Values.convert does."""
    for name, values in values_by_field(type(record)).items():
        value = getattr(record, name)
        if value is None and getattr(type(record), name, False) is None:
            continue
        object.__setattr__(record, name, values.convert(f"{where}{name}", value))
