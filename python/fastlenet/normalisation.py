"""The mean and the standard deviation that normalise pixels: a number, or one for each channel."""

from __future__ import annotations

import numpy as np

from fastlenet.fields import FieldValueError, Values

__all__ = ["PerChannel", "expect_normalisation"]

PerChannel = float | tuple[float, ...]

_MEAN = Values(float, "a finite number", -1e30, 1e30)
_STD = Values(float, "a positive number", 0, 1e30, above=True)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def expect_normalisation(mean: object, std: object, channels: int, where: str = "") -> tuple[PerChannel, PerChannel]:
    """Returns mean and std as numbers, or as tuples of one number for each of several channels. Raises FieldTypeError or
    FieldValueError, which names mean or std.
    """
    means, stds = _per_channel(f"{where}mean", mean, _MEAN, channels), _per_channel(f"{where}std", std, _STD, channels)
    for m, s in np.broadcast(means, stds):
        if (1 + abs(float(m))) / float(s) > _FLOAT32_MAX:  # Python's floats, which become infinite without NumPy's warning
            raise FieldValueError("std", std, "a number that pixels can be divided by in float32", where, got=f"{s}")
    return means, stds


def _per_channel(name: str, value: object, values: Values[float], channels: int) -> PerChannel:
    """A number, for all channels, or one for each; of one channel a number."""
    if not isinstance(value, (tuple, list, np.ndarray)) or np.ndim(value) == 0:
        return values.convert(name, value.item() if isinstance(value, np.ndarray) else value)
    numbers = tuple(values.convert(f"{name}[{channel}]", number) for channel, number in enumerate(value))
    if len(numbers) != channels:
        owner, colon, field = name.rpartition(": ")
        expected = f"a number for each of {channels} channels"
        raise FieldValueError(field, value, expected, owner + colon, got=f"{len(numbers)}")
    return numbers if channels > 1 else numbers[0]
