"""Reads IDX files, the format of MNIST: a big-endian header of magic number and sizes, then bytes.

Everything is checked before it is used, and no more memory is taken than the file fills, since a header may be wrong and a gzip
file may decompress to any size.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_BYTES", "DataError", "read_idx"]

# Of a whole data set: 267,000 images of 28x28 pixels; MNIST has 55 MB.
MAX_BYTES = 200 << 20
_UNSIGNED_BYTES = 0x08
_CHUNK = 1 << 20


class DataError(ValueError):
    """A data set cannot be read. The message is one line that names the file and the reason."""


def read_idx(path: str | os.PathLike[str], ndim: int, max_bytes: int = MAX_BYTES) -> npt.NDArray[np.uint8]:
    """Returns the uint8 array in an IDX file, gzipped or not. ndim: its number of axes.

    Raises DataError if the file cannot be read, or is not exactly one such array of at most max_bytes.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"{path}: not a file" if path.exists() else f"{path}: no such file")
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not gzipped:
                return _read(path, raw, ndim, max_bytes)
            with gzip.open(raw) as stream:
                return _read(path, stream, ndim, max_bytes)
    except PermissionError:
        raise DataError(f"{path}: no permission to read it") from None
    except EOFError:
        raise DataError(f"{path}: truncated, the gzip stream ends too early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read(path: Path, stream: IO[bytes] | gzip.GzipFile, ndim: int, max_bytes: int) -> npt.NDArray[np.uint8]:
    header = stream.read(4 + 4 * ndim)
    if len(header) < 4:
        raise DataError(f"{path}: truncated, {len(header)} bytes are no IDX file")
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


def _fill(stream: IO[bytes] | gzip.GzipFile, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        reader: Any = stream
        count = reader.readinto(buffer[filled : filled + _CHUNK])
        if not count:
            break
        filled += count
    return filled
