"""Reads IDX files, the format of MNIST: a big-endian header of magic number and sizes, then bytes.

Everything is checked before it is used, and no more memory is taken than the file fills, since a header may be wrong and a gzip
file may decompress to any size.
"""

from __future__ import annotations

import math
import os
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastlenet.data.reading import MAX_BYTES, DataError, opened

__all__ = ["MAX_BYTES", "Bytes", "DataError", "read_idx"]

Bytes = npt.NDArray[np.uint8]

_UNSIGNED_BYTES = 0x08
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str], ndim: int, max_bytes: int = MAX_BYTES) -> Bytes:
    """Returns the uint8 array in an IDX file, gzipped or not. ndim: its number of axes.

    Raises DataError if the file cannot be read, or is not exactly one such array of at most max_bytes.
    """
    with opened(path) as (path, stream):
        return _read(path, stream, ndim, max_bytes)


def _read(path: Path, stream: BufferedIOBase, ndim: int, max_bytes: int) -> Bytes:
    header = stream.read(4 + 4 * ndim)
    if len(header) < 4:
        raise DataError(f"{path}: truncated, {len(header)} bytes are not an IDX file")
    expected = bytes([0, 0, _UNSIGNED_BYTES, ndim])
    if header[:4] != expected:
        raise DataError(
            f"{path}: wrong magic number 0x{header[:4].hex()}, expected 0x{expected.hex()} (uint8, {ndim} dimensions)"
        )
    if len(header) < 4 + 4 * ndim:
        raise DataError(f"{path}: truncated inside the header")
    dims = tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    size = math.prod(dims)
    if math.prod(max(1, dim) for dim in dims) > max_bytes:  # NumPy makes no array of 0 x 2^32 x 2^32 either
        raise DataError(
            f"{path}: the header claims {dims}, {size:,} bytes; at most {max_bytes:,} are accepted "
            f"({MAX_BYTES:,} for the four files of a data set)"
        )
    data = np.empty(size, np.uint8)  # pages of it become memory only as they fill
    filled = _fill(stream, data.data)
    if filled < size:
        raise DataError(f"{path}: truncated, the header claims {dims}, {size:,} bytes, but {filled:,} follow")
    if stream.read(1):
        raise DataError(f"{path}: trailing bytes after the {size:,} that the header claims")
    return data.reshape(dims)


def _fill(stream: BufferedIOBase, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled : filled + _CHUNK])
        if not count:
            break
        filled += count
    return filled
