"""The results of a run's epochs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch.

    epoch: its number, from 1. loss: the mean training loss. accuracy: of the test images, a fraction, or None if not evaluated.
    test_loss: the mean loss of the test images, or None. seconds, images_per_second: of training, without evaluation.
    """

    epoch: int
    loss: float
    accuracy: float | None
    test_loss: float | None
    seconds: float
    images_per_second: float


@dataclass
class History:
    """The epochs of a run. interrupted: whether it was stopped before its end."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False

    @property
    def accuracy(self) -> float | None:
        """The test accuracy of the last epoch (not of the best one), a fraction, or None."""
        return self.epochs[-1].accuracy if self.epochs else None
