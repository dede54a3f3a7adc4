"""What a backend has beside its ops: a name, a level, arrays and graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastlenet.backend import Array, Graph
from fastlenet.testing.description import Backend
from fastlenet.testing.judging import WrongError

__all__ = ["BASICS"]


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
    if len(array) != 24 or tuple(array.reshape((4, 6)).shape) != (4, 6) or array.nbytes != 96:
        raise WrongError(f"empty((24,)) expected 24 elements and 96 bytes, got {len(array)} and {array.nbytes}")


def graph(backend: Backend) -> None:
    """A `Graph` does its function's work at once. It can be launched again, or says in one line why not."""
    x, y = _filled(backend, [-1, 2, -3]), backend.empty((3,))
    made = backend.Graph(lambda x: backend.relu_forward(x, out=y), x)
    _expect("Graph(function, x)", y, np.array([0, 2, 0], np.float32))
    if made.reason is None:
        _launched(backend, made, x, y)
        made = backend.Graph(lambda x: (backend.relu_forward(x, out=y), backend.Graph.void("a reason of mine")), x)
        if made.reason is None or "a reason of mine" not in made.reason:
            raise WrongError(f"Graph.void('a reason of mine') expected that reason, got {made.reason!r}")
    if not isinstance(made.reason, str) or "\n" in made.reason or not made.reason:
        raise WrongError(f"Graph.reason expected a line, got {made.reason!r}")
    try:
        made.launch()
    except RuntimeError as error:
        if made.reason not in str(error):
            raise WrongError(f"launch of a void graph expected its reason, {made.reason!r}, got {error}") from None
    else:
        raise WrongError("launch of a void graph expected a RuntimeError, got none")


def _launched(backend: Backend, made: Graph[Array], x: Array, y: Array) -> None:
    """The same ops, on the same arrays, with the numbers that these hold by now."""
    if made.calls != 1:
        raise WrongError(f"Graph.calls expected 1, got {made.calls}")
    x[...] = np.array([4, -5, 6], np.float32)
    made.launch()
    _expect("launch()", y, np.array([4, 0, 6], np.float32))
    returned = made.launch(copy_of=_filled(backend, [-7, 8, 9]))
    _expect("launch(copy_of=numbers)", y, np.array([0, 8, 9], np.float32))
    _expect("the result of launch(copy_of=numbers)", returned, np.array([0, 8, 9], np.float32))
    _expect("x after launch(copy_of=numbers)", x, np.array([-7, 8, 9], np.float32))
    if not made.reads(x) or made.reads(_filled(backend, [1, 2, 3])):
        raise WrongError("Graph.reads expected True of its input alone, got the opposite")


def _filled(backend: Backend, numbers: list[float]) -> Array:
    array = backend.empty((len(numbers),))
    array[...] = np.array(numbers, np.float32)
    return array


def _expect(what: str, array: object, expected: Array) -> None:
    got = np.asarray(array)
    if not np.array_equal(got, expected):
        raise WrongError(f"{what} expected {expected.tolist()}, got {got.tolist()}")


BASICS: dict[str, Callable[[Backend], None]] = {
    "name": name,
    "level": level,
    "empty": empty,
    "arrays": arrays,
    "Graph": graph,
}
