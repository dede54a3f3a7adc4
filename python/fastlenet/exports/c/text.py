"""Words of C99: identifiers, string literals, comments and arrays of constants. All of it is ASCII."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from fastlenet.backend import Array

__all__ = ["MOST_LITERAL", "WIDTH", "array", "identifiers", "in_comment", "names_table", "real"]

WIDTH = 100  # columns of the file
MOST_LITERAL = 4095  # the characters of a string that every C99 compiler takes
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)  # with a prefix and a suffix, 63 characters are told apart


def identifiers(names: Sequence[str]) -> list[str]:
    """Returns a part of an identifier for each layer: its name, or layerNAME, or if neither suits all, layer0, layer1, ..."""
    for made in (list(names), [f"layer{name}" for name in names]):
        if all(map(_IDENTIFIER.fullmatch, made)):
            return made
    return [f"layer{place}" for place in range(len(names))]


def in_comment(text: str) -> str:
    """Returns text, shortened, that cannot end a comment, begin one within it, or be a trigraph."""
    words = text[:60].encode("unicode_escape").decode("ascii") + "..." * (len(text) > 60)
    return re.sub(r"(?<=[*/?])(?=[*/?])", " ", words)


def _literal(text: str) -> str:
    """Returns a string literal of the text's UTF-8 bytes, in pieces that fit a line."""
    pieces = [""]
    for byte in text.encode("utf-8", "backslashreplace"):
        character = chr(byte)
        # Octal, of which C reads three digits at most; a hexadecimal escape would take the letters after it. ??/ is a trigraph.
        plain = character.isascii() and character.isprintable() and character not in '"\\?'
        escaped = character if plain else f"\\{byte:03o}"
        if len(pieces[-1]) + len(escaped) > WIDTH - 10:
            pieces.append("")
        pieces[-1] += escaped
    return "\n    ".join(f'"{piece}"' for piece in pieces)


def names_table(name: str, size: str, names: Sequence[str]) -> str:
    """Returns the definition of an array of strings. size: its length, in C."""
    entries = "\n".join(f"  {_literal(entry)}," for entry in names)
    return f"static const char *const {name}[{size}] = {{\n{entries}\n}};"


def array(kind: str, name: str, values: Array, comment: str = "") -> str:
    """Returns the definition of a constant array of C, flat. kind: float, int8_t, uint8_t or int32_t. comment: its shape."""
    said = f"/* {comment} */\n" if comment else ""
    return f"{said}static const {kind} {name}[{values.size}] = {{\n{_lines(_words(kind, values.ravel()))}\n}};"


def real(value: np.float32) -> str:
    """Returns a constant of C, in the fewest digits from which every compiler reads the same float32."""
    return f"{value!s}f"


def _words(kind: str, values: Array) -> Iterable[str]:
    if kind == "float":
        return (f"{word}f" for word in values.astype(np.float32).astype(str).tolist())
    return map(str, values.tolist())


def _lines(words: Iterable[str]) -> str:
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) + 2 > WIDTH:
            lines.append(line)
            line = " "
        line += f" {word},"
    return "\n".join([*lines, line])
