"""Calls a backend with NumPy arrays, for any type of its own arrays."""

from __future__ import annotations

import functools
from typing import cast

import numpy as np
import numpy.typing as npt

from fastlenet.testing.description import Array, Backend, Op
from fastlenet.testing.judging import WrongError
from fastlenet.testing.registry import OPS

__all__ = ["Guarded", "Host", "on_host", "poison"]


_GUARD = 64  # elements on either side


def poison(dtype: npt.DTypeLike) -> float:
    """A value that no result has by chance: NaN, or the largest integer."""
    kind = np.dtype(dtype)
    return np.nan if kind.kind == "f" else int(np.iinfo(kind).max)


class Guarded:
    """Makes NumPy arrays to be filled. They contain NaN or the largest integer, and have guard bytes on both sides."""

    def __init__(self) -> None:
        self._memory: list[Array] = []

    def output(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 128, 0xA5, np.uint8)
        self._memory.append(memory)
        array: Array = memory[64 : 64 + size].view(dtype).reshape(shape)
        array.fill(poison(dtype))
        return array

    def check(self) -> None:
        """Raises AssertionError if the guard bytes of an array changed."""
        for memory in self._memory:
            if not ((memory[:64] == 0xA5).all() and (memory[-64:] == 0xA5).all()):
                raise WrongError("out expected nothing written outside of it, got other bytes around it")


class _Copy:
    """A copy of a NumPy array as an array of the backend, and the memory around it."""

    def __init__(self, backend: Backend, host: Array) -> None:
        self.host = host
        self._memory = backend.empty((host.size + 2 * _GUARD,), host.dtype)
        self._memory[...] = np.full(host.size + 2 * _GUARD, 85, host.dtype)
        self.array = self._memory[_GUARD : _GUARD + host.size].reshape(host.shape)
        if host.size:
            self.array[...] = host
        if not host.flags.writeable:
            self.array.flags.writeable = False

    def finish(self) -> None:
        memory = np.asarray(self._memory)
        if not ((memory[:_GUARD] == 85).all() and (memory[_GUARD + self.host.size :] == 85).all()):
            raise WrongError("out expected nothing written outside of it, got other numbers around it")
        if self.host.flags.writeable:
            self.host[...] = memory[_GUARD : _GUARD + self.host.size].reshape(self.host.shape)


class Host:
    """Wraps a backend: converts arrays to the backend's, copies back those that an op writes, and returns NumPy arrays."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._kind = type(backend.empty((1,)))

    def __getattr__(self, name: str) -> object:
        found = getattr(self.backend, name)
        if name not in OPS:
            return found

        @functools.wraps(found)
        def call(*positional: object, **named: object) -> object:
            return self._call(OPS[name], *positional, **named)

        return call

    def _call(self, op: Op, *positional: object, out: object = None, **named: object) -> object:
        arguments = {**dict(zip(op.parameters, positional, strict=False)), **named}
        copies: dict[int, _Copy] = {}

        def copy(value: object) -> object:
            if isinstance(value, tuple):
                return tuple(map(copy, value))
            if not isinstance(value, np.ndarray):
                return value
            if id(value) not in copies:
                copies[id(value)] = _Copy(self.backend, value)
            return copies[id(value)].array

        options = {} if out is None else {"out": copy(out)}
        given = {name: copy(value) if name in op.changes or id(value) in copies else value for name, value in arguments.items()}
        result = getattr(self.backend, op.name)(**given, **options)
        for entry in copies.values():
            entry.finish()
        hosts = {id(entry.array): entry.host for entry in copies.values()}

        def back(value: object) -> object:
            if isinstance(value, tuple):
                return tuple(map(back, value))
            if not isinstance(value, self._kind):
                return value
            if id(value) in hosts:
                return hosts[id(value)]
            array = np.asarray(value)
            return float(array) if array.dtype == np.float64 and array.shape == () else array

        return back(result)


def on_host(backend: Backend) -> Backend:
    """Returns the backend itself if its arrays are NumPy's, else a wrapper that takes and returns NumPy arrays."""
    return backend if isinstance(backend.empty((1,)), np.ndarray) else cast(Backend, Host(backend))
