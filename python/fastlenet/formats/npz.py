"""NumPy archives of weights (.npz)."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from fastlenet.backend import Array
from fastlenet.formats.archives import Archive
from fastlenet.formats.numbers import widened
from fastlenet.formats.opening import RefusedError, expect, opened, quoted

__all__ = ["read_npz"]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path) -> dict[str, Array]:
    """Returns the arrays of a NumPy archive by name, in its order. bfloat16 becomes float32.

    Nothing is executed: an array of Python objects is refused. An archive may decompress to 16 MiB, or to 20 times its file;
    memory: at most twice that. Raises CheckpointError.
    """
    with opened(path, "a NumPy archive") as stream:
        archive = Archive(stream)
        odd = [name for name in archive.names if not name.endswith(".npy")]
        expect(not odd, f"{quoted(odd[0]) if odd else ''} is no array")
        return {name.removesuffix(".npy"): _array(name, archive.read(name)) for name in archive.names}


def _array(name: str, content: bytes) -> Array:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    expect(version in _HEADERS, f"{quoted(name)} is of an unknown version")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise RefusedError(f"{quoted(name)} holds Python objects, which could run any code when they are loaded; save numbers")
    start, size = stream.tell(), math.prod(shape)
    expect(all(length >= 0 for length in shape), f"{quoted(name)} has a damaged shape")
    expect(start + size * dtype.itemsize == len(content), f"{quoted(name)} holds not as many bytes as its header says")
    if dtype == np.dtype("V2"):  # how NumPy saves the bfloat16 of the package ml_dtypes
        array = widened(np.frombuffer(content, "<u2", size, start))
    else:
        array = np.frombuffer(content, dtype, size, start)
    return array.reshape(shape[::-1]).transpose() if fortran else array.reshape(shape)
