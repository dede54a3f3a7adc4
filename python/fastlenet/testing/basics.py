"""What a backend has beside its ops: a name, and arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet.testing.judging import WrongError

__all__ = ["BASICS"]

Backend = Any  # called with its own arrays


def name(backend: Backend) -> None:
    """Its name is a word."""
    found = getattr(backend, "name", None)
    if not isinstance(found, str) or not found:
        raise WrongError(f"name expected a string, got {found!r}")


def level(backend: Backend) -> None:
    """`level()` is a word."""
    found = backend.level() if callable(getattr(backend, "level", None)) else None
    if not isinstance(found, str) or not found:
        raise WrongError(f"level() expected a string, got {found!r}")


def empty(backend: Backend) -> None:
    """`empty` makes arrays of any shape, of float32 unless another dtype is asked for."""
    if not callable(getattr(backend, "empty", None)):
        raise WrongError("empty expected a function of a shape and a dtype, got none")
    for shape in (5, (3, 5), (0, 2), ()):
        array = backend.empty(shape)
        wanted = (shape,) if isinstance(shape, int) else shape
        if tuple(array.shape) != wanted or array.dtype != np.float32:
            raise WrongError(f"empty({shape!r}) expected float32 of shape {wanted}, got {array.dtype} of shape {array.shape}")
    for dtype in (np.uint8, np.int32, np.int64):
        array = backend.empty((2, 3), dtype)
        if array.dtype != dtype:
            raise WrongError(f"empty((2, 3), {np.dtype(dtype)}) expected {np.dtype(dtype)}, got {array.dtype}")


def arrays(backend: Backend) -> None:
    """Arrays are filled by `a[...] = NumPy's` and read by numpy.asarray; slices along the first axis and reshape are views."""
    host = np.arange(24, dtype=np.float32)
    array = backend.empty((24,))
    array[...] = host
    _expect("a[...] = values", array, host)
    array[3:9].reshape((2, 3))[...] = host[:6].reshape(2, 3) + 100
    host[3:9] = host[:6] + 100
    _expect("a[3:9].reshape((2, 3))[...] = values", array, host)
    array[...] = 0
    _expect("a[...] = 0", array, np.zeros(24, np.float32))
    if len(array) != 24 or array.reshape((4, 6)).shape != (4, 6) or array.nbytes != 96:
        raise WrongError(f"empty((24,)) expected 24 elements and 96 bytes, got {len(array)} and {array.nbytes}")


def _expect(what: str, array: Any, expected: np.ndarray[Any, Any]) -> None:
    got = np.asarray(array)
    if not np.array_equal(got, expected):
        raise WrongError(f"{what} expected {expected.tolist()}, got {got.tolist()}")


BASICS: dict[str, Callable[[Backend], None]] = {"name": name, "level": level, "empty": empty, "arrays": arrays}
