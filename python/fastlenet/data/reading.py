"""Files of data: opened, decompressed and bounded; whatever is wrong with one is a DataError of one line that names it."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from fastlenet.fields import FieldError
from fastlenet.files import shown_path, user_path

__all__ = ["MAX_BYTES", "DataError", "DataFieldError", "at_most", "limit_of", "listing", "opened", "pixels_at_most", "wrong"]

# Of a whole data set: 267,000 images of 28x28 pixels; MNIST has 55 MB.
MAX_BYTES = 200 << 20
_SHOWN = 5  # names in an error
_PIXELS = 40_000_000  # an A4 page at 600 dpi has 35 million
_TIMES = 20  # a file's own size: what a larger one may decompress to


class DataError(ValueError):
    """A data set that cannot be read; the message is one line that names the file and says what is wrong."""


class DataFieldError(FieldError, DataError):
    """A file in which a part is not as it should be. field: the part; where: the file's name."""


def wrong(path: Path, field: str, expected: str, got: str, cure: str = "") -> DataFieldError:
    """The error about a part of a file."""
    return DataFieldError(field, got, expected, f"{shown_path(path)}: ", cure, got)


def at_most(size: int) -> int:
    """The bytes that compressed files of that size may come to: 200 MiB, or 20 times their own size if that is more."""
    return max(MAX_BYTES, _TIMES * size)


def pixels_at_most(size: int) -> int:
    """The pixels that a picture in a file of that size may have: 40 million, or 20 for each byte if that is more."""
    return max(_PIXELS, _TIMES * size)


def limit_of(path: Path) -> int:
    """The same of one file."""
    return at_most(path.stat().st_size)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[Path, BufferedIOBase]]:
    """The path, and the file as a stream, decompressed where it is gzipped; for the block that reads it.

    Raises DataError for whatever the system, or a damaged file, has to say.
    """
    path = user_path(path)
    try:
        if not path.is_file():
            raise DataError(f"{shown_path(path)}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not gzipped:
                yield path, raw
                return
            with gzip.open(raw) as stream:
                yield path, stream
    except PermissionError:
        raise DataError(f"{shown_path(path)}: no permission to read it") from None
    except EOFError:
        raise DataError(f"{shown_path(path)}: truncated, the gzip stream ends too early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown_path(path)}: damaged gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from None


def listing(folder: Path) -> str:
    """What is in a folder instead: a few names, on one line."""
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    if not names:
        return "it is empty"
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:_SHOWN])
    return f"it has {shown}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
