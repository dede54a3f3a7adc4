"""Writes messages of Protocol Buffers: a dict of field numbers to values, or lists of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

Fields = Mapping[int, Any]


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def message(fields: Fields) -> bytes:
    """ints and bools as varints, floats as 4 bytes, text and bytes, arrays as packed numbers, dicts as messages."""
    made = b""
    for number, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool | int):
                made += varint(number << 3) + varint(int(each))
            elif isinstance(each, float):
                made += varint(number << 3 | 5) + struct.pack("<f", each)
            else:
                content = message(each) if isinstance(each, Mapping) else _content(each)
                made += varint(number << 3 | 2) + varint(len(content)) + content
    return made


def _content(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype.kind == "f" else b"".join(map(varint, value.tolist()))
    return value.encode() if isinstance(value, str) else bytes(value)
