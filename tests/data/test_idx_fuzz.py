"""The reader of IDX files on damaged and forged files: it takes what a second, simple parser takes, with the same result."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastlenet.data.idx import MAX_BYTES, DataError, read_idx
from helpers.arrays import Array

Generator = np.random.Generator

_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16  # flags of RFC 1952


def parse(content: bytes, ndim: int) -> Array | None:
    """The array in a file of that content, or None where it is not exactly one."""
    if content[:2] == b"\x1f\x8b":
        decompressed = decompress(content)
        if decompressed is None:
            return None
        content = decompressed
    if len(content) < 4 + 4 * ndim or content[:4] != bytes([0, 0, 8, ndim]):
        return None
    dims = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
    if math.prod(filter(None, dims)) > MAX_BYTES or len(content) - 4 - 4 * ndim != math.prod(dims):
        return None
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(dims)


def decompress(content: bytes) -> bytes | None:
    """The members of a gzip file (RFC 1952), with zeros allowed behind each; None for a damaged one."""
    result = b""
    while content:
        start = member_start(content)
        inflate = zlib.decompressobj(-15)
        try:
            data = inflate.decompress(content[start:])
        except zlib.error:
            return None
        rest = inflate.unused_data
        if start == 0 or not inflate.eof or rest[:8] != struct.pack("<II", zlib.crc32(data), len(data)):
            return None
        result += data
        content = rest[8:].lstrip(b"\0")
    return result


def member_start(content: bytes) -> int:
    """Where the compressed data of a gzip member begin, or 0."""
    if len(content) < 10 or content[:3] != b"\x1f\x8b\x08":
        return 0
    flags, at = content[3], 10
    if flags & _EXTRA:
        at += 2 + int.from_bytes(content[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            end = content.find(b"\0", at)
            if end < 0:
                return 0
            at = end + 1
    return at + 2 * bool(flags & _HEADER_CRC)


SIZES = (0, 1, 2, 3, 4, 5, 255, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def original(rng: Generator) -> tuple[bytes, int]:
    """A small IDX file with sizes that may be 0, and its number of dimensions."""
    ndim = int(rng.integers(1, 4))
    dims = rng.integers(0 if rng.random() < 0.2 else 1, 6, ndim)
    body = rng.integers(0, 256, int(np.prod(dims)), np.uint8).tobytes()
    return bytes([0, 0, 8, ndim]) + struct.pack(f">{ndim}I", *dims) + body, ndim


def compressed(content: bytes, rng: Generator) -> bytes:
    """In one or two gzip members, with a name or without, with zeros behind or without."""
    cut = int(rng.integers(len(content) + 1)) if rng.random() < 0.4 else len(content)
    members = [gzip.compress(part, int(rng.integers(10))) for part in (content[:cut], content[cut:])]
    if rng.random() < 0.3:  # with a name in the header
        members[0] = members[0][:3] + bytes([_NAME]) + members[0][4:10] + b"name\0" + members[0][10:]
    return members[0] + (members[1] if cut < len(content) else b"") + bytes(int(rng.integers(3)))


def forged(content: bytes, ndim: int, rng: Generator) -> bytes:
    """With other sizes in the header."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, ndim + 1)):
        at = 4 + 4 * int(rng.integers(ndim))
        changed[at : at + 4] = struct.pack(">I", SIZES[rng.integers(len(SIZES))])
    return bytes(changed)


def damaged(content: bytes, rng: Generator) -> bytes:
    """With bytes or bits changed, left out, put in or repeated, or cut off."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(changed) + 1)), rng.integers(6)
        if kind == 0 and at < len(changed):
            changed[at] = rng.integers(256)
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 5))]
        elif kind == 3:
            changed[at:at] = rng.integers(0, 256, int(rng.integers(1, 5)), np.uint8).tobytes()
        elif kind == 4:
            changed[at:at] = changed[: int(rng.integers(len(changed) + 1))]
        elif kind == 5 and rng.random() < 0.5:
            del changed[at:]
    return bytes(changed)


def mutant(rng: Generator) -> tuple[bytes, int]:
    content, ndim = original(rng)
    if rng.random() < 0.5:
        content = forged(content, ndim, rng)
    if rng.random() < 0.2:
        content = damaged(content, rng)
    if rng.random() < 0.5:
        content = compressed(content, rng)
        if rng.random() < 0.4:
            content = damaged(content, rng)
    return content, ndim


def expect_as_parsed(path: Path, content: bytes, ndim: int) -> bool:
    """Whether the file was taken; where it was not, by one line that names it."""
    expected = parse(content, ndim)
    try:
        array = read_idx(path, ndim)
    except DataError as error:
        assert expected is None, (content, ndim, error)
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return False
    assert expected is not None and array.dtype == np.uint8, (content, ndim)
    np.testing.assert_array_equal(array, expected)
    return True


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_mutants(count: int, tmp_path: Path) -> None:
    rng, path, accepted = np.random.default_rng(count), tmp_path / "file", 0
    with path.open("wb", buffering=0) as file:  # one file, which takes less time than to make so many
        for _ in range(count):
            content, ndim = mutant(rng)
            file.seek(0)
            file.truncate(file.write(content))
            accepted += expect_as_parsed(path, content, ndim)
    assert 0.2 < accepted / count < 0.8  # else the mutants would say little


def test_sizes_whose_product_no_array_has(tmp_path: Path) -> None:
    """None of them is believed, though there is a 0 among them and no byte would have to follow."""
    path = tmp_path / "file"
    for dims in ((2**32 - 1, 0, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1), (2**31, 2**31, 0)):
        path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *dims))
        with pytest.raises(DataError, match=r"the header claims \(.*\), 0 bytes; at most 209,715,200 are accepted"):
            read_idx(path, 3)
