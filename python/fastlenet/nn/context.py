"""What a pass through the layers carries along: the backend, its buffers, and what the backward pass will need."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet._core import Recording

__all__ = ["Array", "Pass", "Shape", "Workspace", "Workspaces"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Workspace:
    """Buffers by name, kept between calls: each as long as the largest array of its name so far, whatever their shapes."""

    def __init__(self, backend: ModuleType) -> None:
        self._empty = backend.empty
        self._buffers: dict[tuple[Any, ...], Array] = {}

    def take(self, name: tuple[Any, ...], shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """An array of undefined numbers; the next one of its name lies in the same memory."""
        key, size = (*name, dtype), math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[key] = self._empty((size,), dtype)
        return buffer[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return sum(buffer.nbytes for buffer in self._buffers.values())


class Workspaces(threading.local):
    """The workspaces that no pass of this thread is using.

    A pass within a pass, of a signal handler or a finaliser, finds none and takes another one.
    """

    def __init__(self, backend: ModuleType) -> None:
        self._backend, self._free = backend, list[Workspace]()

    def take(self) -> Workspace:
        return self._free.pop() if self._free else Workspace(self._backend)

    def give_back(self, workspace: Workspace) -> None:
        self._free[:] = [workspace]  # of several, one is kept


class _Counting:
    """A backend that counts how often it was asked for an op."""

    def __init__(self, backend: ModuleType) -> None:
        self.backend, self.calls = backend, 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self.backend, name)


@dataclass
class Pass:
    """One forward pass, and what its backward pass needs: filled by the layers, keyed by their position."""

    backend: ModuleType
    workspace: Workspace
    parameters: Mapping[str, Array]
    training: bool
    seed: int = 0
    dropout_counter: int = 0
    skip_zeros: bool = False  # the weights are known to be finite
    packed: Mapping[str, Array] = field(default_factory=dict)  # weights made ready for a few images
    algorithm: str = "direct"  # of convolutions fused with ReLU and max-pooling
    saved: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    result: Array | None = None  # what the last layer wrote
    replays: bool = False  # whether its ops are recorded, to be called again without Python's part
    recordings: dict[str, Recording] = field(default_factory=dict)

    @contextmanager
    def record(self, name: str, subject: Array) -> Iterator[None]:
        """Records the ops that the layers call in this context, on `subject` and arrays of the model's.

        Where others called ops meanwhile, in a signal handler or a finaliser, nothing is kept.
        """
        if not self.replays:
            yield
            return
        self.recordings.pop(name, None)
        recording, backend = Recording(subject), self.backend
        counting: Any = _Counting(backend)
        self.backend = counting
        try:
            with recording:
                yield
        finally:
            self.backend = backend
        if recording.calls == counting.calls:
            self.recordings[name] = recording

    def replay(self, name: str, subject: Array) -> bool:
        """Calls again what was recorded, if it was on the same array; returns whether."""
        recording = self.recordings.get(name)
        return recording is not None and recording.replay(subject)
