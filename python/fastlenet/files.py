"""Writing files so that nothing is lost: at any moment a file is the old one or the new one, as a whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["CheckpointError", "expect_writable", "shown_path", "write_atomically"]


class CheckpointError(ValueError):
    """A file that cannot be written or used; the message is one line that names it and says what is wrong."""


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as an error tells it: one line, however long it is."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _cannot_be_written(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, PermissionError):
        return CheckpointError(f"{shown_path(path)}: no permission to write in {shown_path(path.parent)}")
    return CheckpointError(f"{shown_path(path)}: cannot be written ({error.strerror or error})")


def _temporary(path: Path) -> Path:
    """Where a file is written before it is renamed: always the same, so that the next save replaces what a kill left there."""
    return path.with_name(f".{path.name}.tmp")


def _create(path: Path) -> int:
    """The descriptor of a new file, which is not one that was there before, nor what a link there points to."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file as a whole: at any moment, even of a power cut, it is the old one or the new one.

    Written under a temporary name in the same folder, synced, renamed; then the folder is synced.
    """
    temporary = _temporary(path)
    try:
        with os.fdopen(_create(temporary), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_be_written(path, error) from None
        raise


def expect_writable(path: str | os.PathLike[str], *, as_a_whole: bool = True) -> None:
    """CheckpointError, before hours of work, if a file could not be written there.

    as_a_whole: it will be replaced; otherwise it is written in place, and may be a device or a pipe.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{shown_path(path)}: is a folder")
        if not path.parent.is_dir():
            raise CheckpointError(f"{shown_path(path)}: there is no folder {shown_path(path.parent)}")
        if as_a_whole and path.exists() and not path.is_file():
            raise CheckpointError(f"{shown_path(path)}: not a file that could be replaced")
        if as_a_whole or not path.exists():
            temporary = _temporary(path)
            os.close(_create(temporary))
            temporary.unlink()
        elif not os.access(path, os.W_OK):
            raise CheckpointError(f"{shown_path(path)}: no permission to write to it")
    except OSError as error:
        raise _cannot_be_written(path, error) from None
