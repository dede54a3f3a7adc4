"""Numbers of a training step that lie on the device, so that a captured step finds those of its turn when it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastlenet.cuda.array import DeviceArray

__all__ = ["Count", "Rate"]


@dataclass(frozen=True)
class Rate:
    """A learning rate: one float64 on the device, times a factor that is known here."""

    base: DeviceArray
    factor: float = 1.0

    def __mul__(self, factor: float) -> Rate:
        return replace(self, factor=self.factor * factor)


@dataclass(frozen=True)
class Count:
    """Steps, an epoch, a random generator's counter: one uint64 on the device, and an offset that is known here."""

    base: DeviceArray
    offset: int = 0

    def __add__(self, more: int) -> Count:
        return replace(self, offset=self.offset + more)
