"""Files of torch.save: a zip archive since PyTorch 1.6, or a row of pickles before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from fastlenet.backend import Array
from fastlenet.formats.archives import Archive
from fastlenet.formats.numbers import BFLOAT16, elements
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, quoted, size_of
from fastlenet.formats.unpickling import STATE_DICT, Storage, StoredTensor, Unpickler

__all__ = ["OLD_MAGIC", "read_pytorch"]

OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how a file of torch.save before version 1.6 begins, after the protocol
_OLD_VERSION = 1001
_MOST_PICKLE = 16 << 20  # bytes of the pickle that describes the tensors
# The keys under which programs keep a state_dict beside other things, and how deep one is looked for.
_STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
_DEEPEST = 3


def read_pytorch(path: Path) -> dict[str, Array]:
    """Returns the tensors of a state_dict by name, in the file's order. bfloat16 becomes float32.

    The file holds a state_dict, or a dict with one under "state_dict", "model_state_dict", "model" or the like. Nothing in it
    is executed or imported: anything but tensors, containers, text and numbers is refused. The tensors are views of the
    storages. Memory: at most three times the file, and 200 MB for its pickle. Raises CheckpointError.
    """
    with opened(path, "a file of torch.save") as stream:
        size = size_of(stream)
        expect(size <= MAX_BYTES, f"{size:,} bytes, where at most {MAX_BYTES:,} are expected")
        zipped = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        saved, read = _of_archive(Archive(stream)) if zipped else _of_pickles(stream.read())
        state = _state_dict(saved)
        storages = {storage: read(storage) for storage in {tensor.storage for tensor in state.values()}}
        for storage, array in storages.items():
            expect(len(array) == storage.count, f"{len(array):,} elements of a storage of {storage.count:,}")
        return {name: _view(tensor, storages[tensor.storage]) for name, tensor in state.items()}


def _of_archive(archive: Archive) -> tuple[object, Callable[[Storage], Array]]:
    """What was saved, and a function that reads the elements of a storage."""
    pickles = [name for name in archive.names if name.endswith("/data.pkl") and name.count("/") == 1]
    expect(len(pickles) == 1, "an archive without data.pkl")
    if any(name.endswith("/constants.pkl") for name in archive.names):
        raise RefusedError(f"a program of TorchScript, not only weights; {STATE_DICT}")
    if not archive.is_stored():
        raise RefusedError("its members are compressed, which torch.save never does; save it again by PyTorch")
    folder = pickles[0].removesuffix("data.pkl")
    marks = f"{folder}byteorder"
    order: Literal["<", ">"] = ">" if marks in archive.names and archive.read(marks, 6) == b"big" else "<"
    saved = Unpickler(archive.read(pickles[0], _MOST_PICKLE)).load()
    return saved, lambda storage: elements(archive.read(f"{folder}data/{storage.key}"), storage.dtype, order)


def _of_pickles(content: bytes) -> tuple[object, Callable[[Storage], Array]]:
    """The same of an older file: four pickles, the list of storages, then the elements of each after their count."""
    reader = Unpickler(content)
    magic, version, system = reader.load(), reader.load(), reader.load()
    expect(magic == int.from_bytes(OLD_MAGIC[2:], "little", signed=True) and version == _OLD_VERSION, "an unknown version")
    expect(isinstance(system, dict) and system.get("little_endian") is True, "not of a little-endian machine")
    saved, keys = reader.load(), reader.load()
    expect(isinstance(keys, list) and all(key in reader.storages for key in map(str, keys)), "a damaged list of storages")
    assert isinstance(keys, list)
    places: dict[str, memoryview] = {}
    place = reader.position
    for key in map(str, keys):
        storage = reader.storages[key]
        count, start = int.from_bytes(content[place : place + 8], "little"), place + 8
        place = start + count * _size(storage)
        expect(count == storage.count and place <= len(content), "a storage that is cut short")
        places[key] = memoryview(content)[start:place]
    expect(places.keys() == reader.storages.keys(), "tensors without elements")
    return saved, lambda storage: elements(places[storage.key], storage.dtype)


def _size(storage: Storage) -> int:
    return 2 if storage.dtype == BFLOAT16 else np.dtype(storage.dtype).itemsize


def _state_dict(saved: object) -> dict[str, StoredTensor]:
    """The state_dict in what was saved: that itself, or what stands in it under one of the known keys."""
    for _ in range(_DEEPEST):
        if not isinstance(saved, dict):
            break
        if saved and all(isinstance(value, StoredTensor) for value in saved.values()):
            expect(all(isinstance(name, str) for name in saved), "tensors whose names are no text")
            return dict(saved)
        inner = [key for key in _STATES if isinstance(saved.get(key), dict)]
        if len(inner) > 1:
            raise RefusedError(f"several networks, {' and '.join(inner)}; save the state_dict of one of them alone")
        if not inner:
            break
        saved = saved[inner[0]]
    if isinstance(saved, dict):
        got = f"a dict of {', '.join(quoted(str(key)) for key in [*saved][:5])}" if saved else "an empty dict"
    else:
        got = "one tensor" if isinstance(saved, StoredTensor) else f"a {type(saved).__name__}"
    raise RefusedError(f"no state_dict is found, only {got}; {STATE_DICT}")


def _view(tensor: StoredTensor, storage: Array) -> Array:
    """The tensor's elements, which lie within the storage: the unpickler has compared them."""
    strides = [stride * storage.itemsize for stride in tensor.strides]
    start = storage[tensor.offset :] if 0 not in tensor.shape else storage[:0]
    view: Array = np.lib.stride_tricks.as_strided(start, tensor.shape, strides, writeable=False)
    return view
