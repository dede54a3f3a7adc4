"""Files of parameters and of training states, in safetensors: never half written, never executed, never believed blindly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.files import CheckpointError, expect_writable, shown_path, write_atomically

__all__ = ["CheckpointError", "expect_writable", "load_checkpoint", "load_model", "save_checkpoint", "save_model"]

Array = npt.NDArray[Any]

_KEY = "fastlenet"
_FORMAT = 1


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise CheckpointError(f"{shown_path(path)}: not a file" if path.exists() else f"{shown_path(path)}: no such file")
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except PermissionError:
        raise CheckpointError(f"{shown_path(path)}: no permission to read it") from None
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{shown_path(path)}: damaged, or not a safetensors file ({reason})") from None


def _dump(tensors: Mapping[str, Array], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)


def save_model(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write a state_dict as a safetensors file that PyTorch's users can load too."""
    write_atomically(Path(path), _dump(state, {"format": "np"}))


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
    write_atomically(Path(path), _dump(tensors, {_KEY: json.dumps(metadata)}))


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
