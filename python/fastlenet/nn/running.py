"""What a pass through the layers carries along: the backend, its buffers, and what the backward pass will need."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet._core import Recording

__all__ = ["Array", "Pass", "Shape", "Workspace"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Workspace:
    """Buffers by name, kept between calls: as long as the largest batch so far, handed out as leading slices."""

    def __init__(self, backend: ModuleType) -> None:
        self._empty = backend.empty
        self._buffers: dict[tuple[Any, ...], Array] = {}

    def take(self, name: tuple[Any, ...], shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        key = (*name, shape[1:], np.dtype(dtype))
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < shape[0]:
            buffer = self._buffers[key] = self._empty(shape, dtype)
        return buffer[: shape[0]]


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

    def record(self, name: str, subject: Array) -> AbstractContextManager[None]:
        """Records the ops that are called in this context, on `subject` and arrays of the model's."""
        if not self.replays:
            return nullcontext()
        recording = self.recordings[name] = Recording(subject)
        return recording

    def replay(self, name: str, subject: Array) -> bool:
        """Calls again what was recorded, if it was on the same array; returns whether."""
        recording = self.recordings.get(name)
        return recording is not None and recording.replay(subject)

    def replay_copy(self, name: str, subject: Array) -> bool:
        """The same for any array of that shape, whose numbers are copied."""
        recording = self.recordings.get(name)
        return recording is not None and recording.replay_copy(subject)
