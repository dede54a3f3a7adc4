"""Numbers in the files of other programs as arrays of NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fastlenet.backend import Array
from fastlenet.formats.opening import expect

__all__ = ["BFLOAT16", "elements", "widened"]

BFLOAT16 = "bf16"  # the upper half of a float32, which NumPy lacks


def widened(halves: Array) -> Array:
    """Returns bfloat16 numbers, given as uint16, as float32."""
    whole: Array = (halves.astype(np.uint32) << 16).view(np.float32)
    return whole


def elements(content: bytes | memoryview, dtype: str, order: Literal["<", ">"] = "<") -> Array:
    """Returns the numbers in the bytes, in a row. dtype: NumPy's, or BFLOAT16, which becomes float32. order: "<" or ">".

    Shares the memory of the bytes unless they must be converted. Raises ValueError if the bytes are no whole numbers.
    """
    kind = np.dtype("u2" if dtype == BFLOAT16 else dtype).newbyteorder(order)
    expect(len(content) % kind.itemsize == 0, f"{len(content):,} bytes of numbers of {kind.itemsize} bytes each")
    array: Array = np.frombuffer(content, kind)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return widened(array) if dtype == BFLOAT16 else array
