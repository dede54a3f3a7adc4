"""Arrays of other libraries as a model's input."""

from __future__ import annotations

from typing import cast

import numpy as np

from fastlenet.backend import Array

__all__ = ["as_input"]

_HOST = 1  # kDLCPU of DLPack


def as_input(name: str, value: Array) -> Array:
    """Returns a tensor of another library in the host's memory as a NumPy view, by DLPack; anything else as it is.

    name: of the argument, for errors. Raises TypeError for a tensor that is not of float32, or that needs gradients.
    """
    if isinstance(value, np.ndarray):
        return value
    device = getattr(value, "__dlpack_device__", None)
    if device is None or isinstance(value, type) or device()[0] != _HOST:
        return value
    kind = type(value).__name__
    try:
        array = np.from_dlpack(value)
    except Exception as error:  # libraries raise what they please
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:100]
        cure = "of torch, .detach().float() is one"
        raise TypeError(f"{name} expects a tensor of float32 without gradients, got a {kind} ({reason}); {cure}") from None
    if array.dtype != np.float32:
        cure = "of torch, .float() is one"
        raise TypeError(f"{name} expects a tensor of float32, got a {kind} of {array.dtype}; {cure}")
    return cast(Array, array)
