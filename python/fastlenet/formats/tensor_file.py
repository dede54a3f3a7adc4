"""Reads safetensors files from any source: the header is checked before a tensor is read, and nothing is executed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from fastlenet.backend import Array
from fastlenet.files import CheckpointError, shown_path, user_path, write_atomically
from fastlenet.formats.foreign import HEAD, what_it_is
from fastlenet.formats.numbers import widened
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, quoted, size_of

__all__ = ["MAX_BYTES", "TensorFile", "plain", "write_tensors"]

_KIND = "a safetensors file"
_MAX_HEADER = 16 << 20  # bytes; the history of 80,000 epochs fits
_MAX_DIMENSIONS = 32  # the limit of NumPy before version 2
_BF16 = "BF16"
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    _BF16: "<u2",  # the upper half of a float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_READ_TYPES = tuple(sorted({*_TYPES.values()}))


def plain(array: Array) -> Array:
    """The same numbers as they lie in a file: row by row, little endian. Keeps a shape of (), unlike ascontiguousarray."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: dict[str, str]) -> None:
    """Write arrays and words as a safetensors file, as a whole. Raises CheckpointError; the old file then stays."""
    from safetensors.numpy import save

    arrays = {name: plain(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.str not in _READ_TYPES:
            raise TypeError(f"{name} expects one of {', '.join(_READ_TYPES)}, got {array.dtype.str}")
    _expect_memory(path, sum(array.nbytes for array in arrays.values()))
    content: bytes = _with_sorted_words(save(arrays, metadata))
    if int.from_bytes(content[:8], "little") > _MAX_HEADER:
        raise CheckpointError(f"more than {_MAX_HEADER:,} bytes of names and facts, which no file can hold")
    write_atomically(path, content)


def _expect_memory(path: str | os.PathLike[str], size: int) -> None:
    """Raise CheckpointError if there is no memory to write tensors of so many bytes: safetensors would end the process.

    It copies them three times, and _with_sorted_words once.
    """
    try:
        np.empty(4 * size + (1 << 20), np.uint8)
    except MemoryError:
        raise CheckpointError(f"{shown_path(path)}: no memory to write {size:,} bytes of tensors; free some") from None


def _with_sorted_words(content: bytes) -> bytes:
    """The same file with its metadata in the order of their names, since safetensors writes them in a random one."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@dataclass(frozen=True)
class Entry:
    """A tensor's entry in the header; start: the position of its first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int  # bytes


class TensorFile:
    """The header of a safetensors file: names, types and shapes of its tensors, and its metadata.

    Reads the header only. Raises CheckpointError for any other file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path(path)
        with opened(self.path, _KIND) as stream:
            self.entries, self.metadata = _read_header(stream)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors by name."""
        return {name: entry.shape for name, entry in self.entries.items()}

    @property
    def size(self) -> int:
        """The size of all tensors in bytes."""
        return sum(entry.size for entry in self.entries.values())

    def read(self, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
        """Returns all tensors by name; bfloat16 becomes float32.

        Raises CheckpointError, before any tensor is read, if they have more than max_bytes or a type that NumPy lacks.
        """
        if self.size > max_bytes:
            raise CheckpointError(
                f"{shown_path(self.path)}: {self.size:,} bytes of tensors, where at most {max_bytes:,} are expected"
            )
        self.expect_known_types()
        with opened(self.path, _KIND) as stream:
            return {name: _read_tensor(stream, entry) for name, entry in self.entries.items()}

    def expect_known_types(self) -> None:
        """Raise CheckpointError for a tensor of a type that NumPy lacks. The sizes of all others are those of their shapes."""
        for name, entry in self.entries.items():
            if entry.dtype not in _TYPES:
                raise CheckpointError(
                    f"{shown_path(self.path)}: {quoted(name)} is of type {quoted(entry.dtype)}; convert it to one of those "
                    f"that are read, {', '.join(_TYPES)}"
                )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _read_header(stream: BinaryIO) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read and check a header. A safetensors file is the header's length in 8 bytes, the header as JSON, then the tensors."""
    size = size_of(stream)
    head = stream.read(HEAD)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or length > _MAX_HEADER:
        other = what_it_is(head)
        if other is not None:
            raise RefusedError(other)
    expect(size > 8, "empty" if size == 0 else f"{size} bytes are not a header")
    expect(length <= _MAX_HEADER, f"a header of {length:,} bytes, where at most {_MAX_HEADER:,} are expected")
    expect(8 + length <= size, f"a header of {length:,} bytes in a file of {size:,}")
    stream.seek(8)
    header = json.loads(stream.read(length).decode(), object_pairs_hook=_without_twins)
    expect(isinstance(header, dict), "a header that is not a JSON object")
    metadata = header.pop("__metadata__", {})
    expect(isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values()), "metadata that is not text")
    entries = {name: _entry(name, fields, 8 + length) for name, fields in header.items()}
    for name in entries:
        name.encode()  # JSON can write half a character, which no checksum takes
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)):
        expect(entry.start == end, f"{quoted(name)} does not start where the tensor before it ends")
        end += entry.size
    expect(end == size, f"{size:,} bytes, but its header describes {end:,}")
    return entries, metadata


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    expect(len(made) == len(pairs), "a name that occurs twice in its header")
    return made


def _entry(name: str, fields: object, first: int) -> Entry:
    """Check a tensor's entry in the header; first: the position where the tensors begin."""
    what = f"a wrong entry for {quoted(name)}"
    expect(isinstance(fields, dict) and {"dtype", "shape", "data_offsets"} <= fields.keys(), what)
    assert isinstance(fields, dict)
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    expect(isinstance(dtype, str), what)
    expect(isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS and all(map(_is_count, shape)), what)
    expect(isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_count, offsets)), what)
    start, end = offsets
    expect(start <= end, what)
    if dtype in _TYPES:
        expect(math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize == end - start, what)
    return Entry(dtype, tuple(shape), first + start, end - start)


def _read_tensor(stream: BinaryIO, entry: Entry) -> Array:
    dtype = np.dtype(_TYPES[entry.dtype])
    stream.seek(entry.start)
    array: Array = np.fromfile(stream, dtype, entry.size // dtype.itemsize)
    expect(array.nbytes == entry.size, "cut short while it was read")
    if entry.dtype == _BF16:
        array = widened(array)
    return array.reshape(entry.shape)
