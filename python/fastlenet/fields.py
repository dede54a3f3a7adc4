"""Values that a caller gives: of which kind, in which range; one error that names what it was for, or a plain Python value."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import fields
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

__all__ = ["INT64_MAX", "Values", "expect_fields", "integer", "values_of"]

INT64_MAX = 2**63 - 1
_KINDS = {int: "an integer", float: "a number", bool: "True or False", str: "a word"}


class Values(NamedTuple):
    """The values that are accepted: of one kind, in least..most, or one of the choices.

    kind: int, float, bool or str. expected: the range in words, for an error. above: least itself is not in the range;
    below: most is not. NaN is in no range.
    """

    kind: type
    expected: str = ""
    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()

    def convert(self, name: str, value: Any) -> Any:
        """The value as a Python int, float, bool or str, of a NumPy scalar too.

        Raises TypeError for another kind and ValueError out of the range, in one line that starts with `name`.
        """
        try:
            converted = _CONVERTERS[self.kind](value)
        except TypeError:
            raise TypeError(f"{name} expects {self._words(_KINDS[self.kind])}, got {_shown(value)}") from None
        except OverflowError:  # an integer beyond all floats
            raise ValueError(f"{name} expects {self._words(_KINDS[self.kind])}, got {_shown(value)}") from None
        if not self._holds(converted):
            bound = " below 2^63" if self.kind is int and converted > INT64_MAX == self.most else ""
            raise ValueError(f"{name} expects {self._words(self.expected)}{bound}, got {_shown(converted)}")
        return converted

    def _holds(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind in (bool, str):
            return True
        enough = value > self.least if self.above else value >= self.least
        return bool(enough and (value < self.most if self.below else value <= self.most))

    def _words(self, expected: str) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else expected


def _to_int(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return float(value)


def _to_bool(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


_CONVERTERS: Mapping[type, Any] = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str}


def _shown(value: Any) -> str:
    """The value, in one line that is not too long."""
    try:
        line = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    except ValueError:  # Python does not write integers of more than 4,300 digits
        line = "one with thousands of digits"
    return line if len(line) <= 60 else f"{line[:57]}..."


def integer(name: str, value: Any, least: int, most: int = INT64_MAX) -> int:
    """An integer in least..most as a Python int. Raises TypeError or ValueError, which name it."""
    words = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
    expected = words if most == INT64_MAX else f"an integer in {least}..{most}"
    number: int = Values(int, expected, least, most).convert(name, value)
    return number


def values_of(kind: Any, name: str) -> Values:
    """What a field of a dataclass accepts, from its metadata."""
    values: Values = next(field.metadata["values"] for field in fields(kind) if field.name == name)
    return values


def expect_fields(record: Any, prefix: str = "") -> None:
    """Convert the fields of a frozen dataclass; their metadata says under "values" what they accept. Raises as convert does."""
    for field in fields(record):
        values: Values = field.metadata["values"]
        object.__setattr__(record, field.name, values.convert(f"{prefix}{field.name}", getattr(record, field.name)))
