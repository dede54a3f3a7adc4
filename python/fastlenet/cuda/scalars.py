"""Numbers of a training step that lie on the device, so that a captured step finds those of its turn when it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastlenet.cuda.array import DeviceArray

__all__ = ["Count", "Rate", "count_argument", "rate_argument"]


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


def rate_argument(rate: float | Rate) -> tuple[int | None, float]:
    """As the compiled backend takes it."""
    return (rate.base.address, rate.factor) if isinstance(rate, Rate) else (None, rate)


def count_argument(count: int | Count) -> tuple[int | None, int]:
    """As the compiled backend takes it."""
    return (count.base.address, count.offset % 2**64) if isinstance(count, Count) else (None, count % 2**64)
