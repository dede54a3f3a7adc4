"""What a value breaks of a JSON Schema, in one line each: the part of draft 2020-12 that result.schema.json uses.

A package such as jsonschema knows all of it, and would be a dependency for a file of one screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

from fastlenet.fields import named, shown

__all__ = ["Json", "broken"]

Json = Mapping[str, Any]  # an object of JSON, whose fields a schema describes

_KINDS: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
_WORDS = {"array": "a list", "object": "an object", "integer": "an integer", "null": "null"}
_BOUNDS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (lambda value, bound: value >= bound, "a number of at least"),
    "maximum": (lambda value, bound: value <= bound, "a number of at most"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "a number above"),
}
_SIZES: Mapping[str, tuple[str, Callable[[int, int], bool], str]] = {
    "minItems": ("array", lambda size, bound: size >= bound, "a list of at least"),
    "maxItems": ("array", lambda size, bound: size <= bound, "a list of at most"),
    "minProperties": ("object", lambda size, bound: size >= bound, "an object of at least"),
    "minLength": ("string", lambda size, bound: size >= bound, "a text of at least"),
}


def broken(value: object, schema: Json, name: str = "") -> Iterator[str]:
    """What the value breaks, in one line each. name: of the value, such as "results: x: runs[0]"; empty for the whole file."""
    where = name or "the file"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} expects one of {', '.join(map(str, schema['enum']))}, got {shown(value)}"
    given = schema.get("type", ())
    kinds: Sequence[str] = [given] if isinstance(given, str) else given
    if kinds and not any(_KINDS[kind](value) for kind in kinds):
        expected = " or ".join(_WORDS.get(kind, f"a {kind}") for kind in kinds)
        yield f"{where} expects {expected}, got {shown(value)}"
        return
    yield from _out_of_bounds(value, schema, where)
    if isinstance(value, dict):
        own = schema.get("properties", {})
        yield from (f"{where} lacks {key}" for key in schema.get("required", ()) if key not in value)
        for key, part in value.items():
            of_part = own.get(key, schema.get("additionalProperties"))
            if of_part is not None:
                yield from broken(part, of_part, f"{name}: {named(key)}" if name else named(key))
    if isinstance(value, list) and "items" in schema:
        for place, part in enumerate(value):
            yield from broken(part, schema["items"], f"{name}[{place}]")


def _out_of_bounds(value: object, schema: Json, where: str) -> Iterator[str]:
    for word, (holds, expected) in _BOUNDS.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        if word in schema and not holds(value, schema[word]):
            yield f"{where} expects {expected} {schema[word]}, got {shown(value)}"
    for word, (kind, fits, expected) in _SIZES.items():
        if word in schema and isinstance(value, Sized) and _KINDS[kind](value) and not fits(len(value), schema[word]):
            yield f"{where} expects {expected} {schema[word]}, got {len(value)}"
