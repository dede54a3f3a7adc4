"""Numbers of a training step on the device, so that a captured step reads their current values when it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastlenet.cuda.array import DeviceArray

__all__ = ["Count", "Rate"]


@dataclass(frozen=True)
class Rate:
    """A learning rate: a float64 on the device, times a factor that Python knows."""

    base: DeviceArray
    factor: float = 1.0

    def __mul__(self, factor: float) -> Rate:
        return replace(self, factor=self.factor * factor)


@dataclass(frozen=True)
class Count:
    """A number of steps, an epoch or a random generator's counter: a uint64 on the device, plus an offset that Python knows."""

    base: DeviceArray
    offset: int = 0

    def __add__(self, more: int) -> Count:
        return replace(self, offset=self.offset + more)
