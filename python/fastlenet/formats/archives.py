"""Zip archives from anywhere: the list of their members is bounded, and so is what a member decompresses to."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

from fastlenet.formats.opening import RefusedError, expect, quoted, size_of

__all__ = ["Archive"]

_LARGEST_LIST = 4 << 20  # bytes of the list of members, each of which takes ten times that in memory
_TIMES, _LEAST = 20, 16 << 20  # a file's own size, and bytes: what its members may decompress to together


class Archive:
    """The members of a zip archive by name.

    Members that are together larger than 16 MiB and than 20 times the file are refused, as are encrypted members and two of one
    name. Raises ValueError, zipfile.BadZipFile or RefusedError.
    """

    def __init__(self, stream: BinaryIO) -> None:
        limited = _Limited(stream)
        self._archive = zipfile.ZipFile(limited)
        limited.most = size_of(stream)
        infos = self._archive.infolist()
        self._infos = {info.filename: info for info in infos}
        expect(len(self._infos) == len(infos), "an archive with two members of one name")
        self.size = size_of(stream)
        whole = sum(info.file_size for info in infos)
        if whole > max(_LEAST, _TIMES * self.size):
            raise RefusedError(f"its members come to {whole:,} bytes, more than {_TIMES} times the file")

    @property
    def names(self) -> list[str]:
        return list(self._infos)

    def size_of(self, name: str) -> int:
        """The bytes of a member."""
        expect(name in self._infos, f"an archive without {quoted(name)}")
        return self._infos[name].file_size

    def is_stored(self) -> bool:
        """Whether no member is compressed, and together they are no larger than the file."""
        infos = self._infos.values()
        stored = all(info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size for info in infos)
        return stored and sum(info.file_size for info in infos) <= self.size

    def read(self, name: str, most: int | None = None) -> bytes:
        """Returns a member's bytes, of which there must be as many as the archive says. most: bytes that are expected."""
        size = self.size_of(name)
        expect(most is None or size <= most, f"{size:,} bytes of {quoted(name)}, more than expected")
        info = self._infos[name]
        expect(not info.flag_bits & 1, f"{quoted(name)} is encrypted")
        with self._archive.open(info) as member:
            content = member.read(size)
            expect(len(content) == size and not member.read(1), f"{quoted(name)} is cut short")
        return content


class _Limited(io.RawIOBase):
    """A stream that refuses to read more than `most` bytes at once: zipfile reads the list of members in one piece."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.most = stream, _LARGEST_LIST

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(self.most + 1 if size < 0 else min(size, self.most + 1))
        expect(len(content) <= self.most, f"a list of members of more than {self.most:,} bytes")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
