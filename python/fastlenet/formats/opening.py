"""Opens a file of weights for a reader; whatever goes wrong is a CheckpointError of one line that names the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastlenet.files import CheckpointError, shown_path

__all__ = ["MAX_BYTES", "RefusedError", "expect", "opened", "quoted", "size_of"]

MAX_BYTES = 2 << 30  # of a file, or of its tensors, where no model limits them; LeNet has 1.7 MB


class RefusedError(Exception):
    """The file may be whole, but it is not read. The message says why, and what to do."""


@contextmanager
def opened(path: Path, kind: str) -> Iterator[BinaryIO]:
    """The open file, for the block that reads it. kind: what the reader expects, such as "a safetensors file".

    Raises CheckpointError for a file that cannot be read, for a RefusedError of the block, with its message, and for any other
    error of the block, since parsing unknown bytes can raise anything.
    """
    name = shown_path(path)
    try:
        if not path.is_file():
            raise CheckpointError(f"{name}: {'not a file' if path.exists() else 'no such file'}")
        with open(path, "rb") as stream:
            yield stream
    except (CheckpointError, MemoryError, ImportError):
        raise
    except PermissionError:
        raise CheckpointError(f"{name}: no permission to read it") from None
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read ({error.strerror or _line(error)})") from None
    except RefusedError as error:
        raise CheckpointError(f"{name}: {error}") from None
    except Exception as error:
        raise CheckpointError(f"{name}: damaged, or not {kind} ({_line(error)})") from None


def expect(holds: bool, what: str) -> None:
    """Raise ValueError, for a damaged file, unless a condition holds. what: the message."""
    if not holds:
        raise ValueError(what)


def quoted(name: str) -> str:
    """A name from a file for an error message: in quotes, escaped and at most 80 characters of it."""
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:80]}..."


def size_of(stream: BinaryIO) -> int:
    """The size of an open file in bytes."""
    return os.fstat(stream.fileno()).st_size


def _line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return line if line.isprintable() else ascii(line)
