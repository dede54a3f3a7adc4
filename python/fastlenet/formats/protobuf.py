"""Messages of Protocol Buffers, which Caffe and ONNX keep their networks in. A reader knows the fields by their numbers.

Source of the encoding: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastlenet.backend import Array
from fastlenet.formats.numbers import elements
from fastlenet.formats.opening import expect

__all__ = ["Budget", "Message"]

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # the kinds of fields


@dataclass
class Budget:
    """The fields that all messages of a file may have together. Each takes some 100 bytes in memory."""

    fields: int = 500_000

    def spend(self) -> None:
        self.fields -= 1
        expect(self.fields >= 0, "more fields than any network has")


class Message:
    """The fields of a message by their numbers. Those of an unknown number are skipped; fields are not read deeper than asked.

    Raises ValueError for damaged bytes, and for a field of another type than the asked one.
    """

    def __init__(self, content: memoryview, budget: Budget) -> None:
        self._budget = budget
        self._fields: dict[int, list[int | memoryview]] = {}
        place = 0
        while place < len(content):
            budget.spend()
            tag, place = _varint(content, place)
            kind = tag & 7
            value: int | memoryview
            if kind == _VARINT:
                value, place = _varint(content, place)
            else:
                if kind == _BYTES:
                    size, place = _varint(content, place)
                else:
                    expect(kind in (_EIGHT, _FOUR), f"a field of the unknown kind {kind}")
                    size = 8 if kind == _EIGHT else 4
                expect(size <= len(content) - place, "a field that is cut short")
                value, place = content[place : place + size], place + size
            self._fields.setdefault(tag >> 3, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._fields

    def _bytes(self, field: int) -> list[memoryview]:
        values = self._fields.get(field, [])
        expect(all(isinstance(value, memoryview) for value in values), f"field {field} is of another type")
        return [value for value in values if isinstance(value, memoryview)]

    def content(self, field: int) -> memoryview:
        """The bytes of a field; none if it is absent. Of a field that occurs twice the last one counts."""
        return [memoryview(b""), *self._bytes(field)][-1]

    def text(self, field: int) -> str:
        return bytes(self.content(field)).decode()

    def texts(self, field: int) -> list[str]:
        return [bytes(value).decode() for value in self._bytes(field)]

    def messages(self, field: int) -> list[Message]:
        return [Message(value, self._budget) for value in self._bytes(field)]

    def message(self, field: int) -> Message:
        """A message within this one; an empty one if it is absent."""
        return Message(self.content(field), self._budget)

    def integers(self, field: int) -> list[int]:
        """Integers of 64 bits with a sign, one by one or packed."""
        made = []
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                made.append(value)
                continue
            place = 0
            while place < len(value):
                self._budget.spend()
                number, place = _varint(value, place)
                made.append(number)
        return [number - (number >> 63 << 64) for number in made]

    def integer(self, field: int, default: int = 0) -> int:
        return [default, *self.integers(field)][-1]

    def floats(self, field: int, dtype: str = "f4") -> Array:
        """Floats of 4 or 8 bytes, one by one or packed, as an array."""
        values = self._bytes(field)
        return elements(values[0] if len(values) == 1 else b"".join(values), dtype)

    def float(self, field: int, default: float = 0.0) -> float:
        numbers = self.floats(field)
        return float(numbers[-1]) if numbers.size else default


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = 0
    for count in range(10):
        expect(place < len(content), "a number that is cut short")
        byte = content[place]
        place += 1
        number |= (byte & 127) << (7 * count)
        if byte < 128:
            return number & (2**64 - 1), place
    raise ValueError("a number of more than ten bytes")
