"""Files of parameters and of training states, in safetensors: never half written, never executed, never believed blindly."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlenet.files import CheckpointError, shown_path, write_atomically
from fastlenet.formats.tensor_file import MAX_BYTES, MAX_HEADER, READ_TYPES, TensorFile
from fastlenet.nn.state import expect_shapes, own_names

if TYPE_CHECKING:
    from fastlenet.nn import Sequential

__all__ = [
    "MAX_MEMBERS",
    "CheckpointError",
    "NoCheckpointError",
    "expect_parameters",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "save_model",
]

Array = npt.NDArray[Any]

_KEY = "fastlenet"
_FORMAT = 1
MAX_MEMBERS = 1000  # networks in one file: what is read of one is bounded by so many times the model's own size


class NoCheckpointError(CheckpointError):
    """A safetensors file, but of parameters alone."""


def _plain(array: Array) -> Array:
    """The same numbers as they lie in a file: row by row, little endian. Keeps a shape of (), unlike ascontiguousarray."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _dump(tensors: Mapping[str, Array], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    arrays = {name: _plain(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.str not in READ_TYPES:
            raise TypeError(f"{name} expects one of {', '.join(READ_TYPES)}, got {array.dtype.str}")
    content: bytes = save(arrays, metadata)
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise CheckpointError(f"more than {MAX_HEADER:,} bytes of names and facts, which no file can hold")
    return content


def save_model(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write a state_dict as a safetensors file that PyTorch's users can load too.

    Raises CheckpointError where it cannot be written, and for numbers that are not finite, which no network would load.
    """
    for name, array in state.items():
        if np.asarray(array).dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{shown_path(path)}: not written; {name} holds a number that is not finite")
    write_atomically(path, _dump(state, {"format": "np"}))


def load_model(path: str | os.PathLike[str], model: Sequential | None = None) -> dict[str, Array]:
    """The arrays of a safetensors file: integers, booleans, floats of 16 to 64 bits; bfloat16 as float32.

    model: whose parameters they are to be. A file that does not hold them is then refused before its tensors are read; without
    a model, one of more than 2 GiB is. Raises CheckpointError.
    """
    file = TensorFile(path)
    if model is None:
        return file.read()
    names = expect_parameters(path, file.shapes, model)
    return {names[name]: array for name, array in file.read(file.size).items()}


def expect_parameters(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]], model: Sequential) -> dict[str, str]:
    """From the names in a file to those of the model's parameters; CheckpointError, which says what differs, for others.

    What torch.nn.DataParallel or torch.compile put before the names does not matter.
    """
    own = {name: array.shape for name, array in model.parameters().items()}
    names = own_names(shapes, own)
    try:
        expect_shapes({names[name]: shape for name, shape in shapes.items()}, own)
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: not this network's parameters; {error}") from None
    return names


def _digest(tensors: Mapping[str, Array], facts: Mapping[str, Any]) -> str:
    import hashlib  # OpenSSL behind it takes a fiftieth of NumPy's time to load

    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        array = _plain(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write a training state: arrays, and facts that JSON can hold. Raises CheckpointError; the old file then stays."""
    metadata = {"format": _FORMAT, "digest": _digest(tensors, facts), "facts": facts}
    write_atomically(path, _dump(tensors, {_KEY: json.dumps(metadata)}))


def load_checkpoint(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and facts of save_checkpoint. Raises CheckpointError for a damaged or foreign file.

    max_bytes: of arrays; a file that has more is refused before they are read.
    """
    file = TensorFile(path)
    if _KEY not in file.metadata:
        raise NoCheckpointError(f"{shown_path(path)}: not a checkpoint of fastlenet; load_model reads files of parameters")
    try:
        saved = json.loads(file.metadata[_KEY])
        form, digest, facts = saved["format"], saved.get("digest"), saved.get("facts")
    except MemoryError:
        raise
    except Exception:  # RecursionError too
        raise CheckpointError(f"{shown_path(path)}: damaged, its facts cannot be read") from None
    if form != _FORMAT:
        raise CheckpointError(
            f"{shown_path(path)}: a checkpoint of format {reprlib.repr(form)}, this version reads format {_FORMAT}"
        )
    tensors = file.read(max_bytes)
    if not isinstance(facts, dict) or digest != _digest(tensors, facts):
        raise CheckpointError(f"{shown_path(path)}: damaged, its contents do not have the checksum that was saved with them")
    return tensors, facts
