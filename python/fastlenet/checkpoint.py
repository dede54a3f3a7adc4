"""Files of parameters and of training states, in safetensors: never half written, never executed, never believed blindly."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CheckpointError", "expect_writable", "load_checkpoint", "load_model", "save_checkpoint", "save_model"]

Array = npt.NDArray[Any]

_KEY = "fastlenet"
_FORMAT = 1


class CheckpointError(ValueError):
    """A file that cannot be written or used; the message is one line that names it and says what is wrong."""


def _name(path: Path) -> str:
    """A path as an error tells it: one line, however long it is."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _cannot_be_written(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, PermissionError):
        return CheckpointError(f"{_name(path)}: no permission to write in {_name(path.parent)}")
    return CheckpointError(f"{_name(path)}: cannot be written ({error.strerror or error})")


def _temporary(path: Path) -> Path:
    """Where a file is written before it is renamed: always the same, so that the next save replaces what a kill left there."""
    return path.with_name(f".{path.name}.tmp")


def _create(path: Path) -> int:
    """The descriptor of a new file, which is not one that was there before, nor what a link there points to."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _write(path: Path, data: bytes) -> None:
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
            raise CheckpointError(f"{_name(path)}: is a folder")
        if not path.parent.is_dir():
            raise CheckpointError(f"{_name(path)}: there is no folder {_name(path.parent)}")
        if as_a_whole and path.exists() and not path.is_file():
            raise CheckpointError(f"{_name(path)}: not a file that could be replaced")
        if as_a_whole or not path.exists():
            temporary = _temporary(path)
            os.close(_create(temporary))
            temporary.unlink()
        elif not os.access(path, os.W_OK):
            raise CheckpointError(f"{_name(path)}: no permission to write to it")
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise CheckpointError(f"{_name(path)}: not a file" if path.exists() else f"{_name(path)}: no such file")
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except PermissionError:
        raise CheckpointError(f"{_name(path)}: no permission to read it") from None
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{_name(path)}: damaged, or not a safetensors file ({reason})") from None


def _dump(tensors: Mapping[str, Array], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def save_model(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write a state_dict as a safetensors file that PyTorch's users can load too."""
    _write(Path(path), _dump(state, {"format": "np"}))


def load_model(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a safetensors file. Raises CheckpointError."""
    tensors, _ = _read(Path(path))
    return tensors


def _digest(tensors: Mapping[str, Array], facts: Mapping[str, Any]) -> str:
    import hashlib  # OpenSSL behind it takes a fiftieth of NumPy's time to load

    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write a training state: arrays, and facts that JSON can hold. Raises CheckpointError; the old file then stays."""
    metadata = {"format": _FORMAT, "digest": _digest(tensors, facts), "facts": facts}
    _write(Path(path), _dump(tensors, {_KEY: json.dumps(metadata)}))


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and facts of save_checkpoint. Raises CheckpointError for a damaged or foreign file."""
    path = Path(path)
    tensors, metadata = _read(path)
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: not a checkpoint of fastlenet (a file of parameters is read by --load-model)")
    try:
        saved = json.loads(metadata[_KEY])
        if saved["format"] != _FORMAT:
            raise CheckpointError(f"{path}: a checkpoint of format {saved['format']}, this version reads format {_FORMAT}")
        facts: dict[str, Any] = saved["facts"]
        intact = saved["digest"] == _digest(tensors, facts)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged, its facts cannot be read") from None
    if not intact:
        raise CheckpointError(f"{path}: damaged, its contents do not have the checksum that was saved with them")
    return tensors, facts
