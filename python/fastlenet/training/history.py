"""What a run came to: its epochs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean training loss, test accuracy (a fraction) and loss, seconds and images/s of training."""

    epoch: int
    loss: float
    accuracy: float | None
    test_loss: float | None
    seconds: float
    images_per_second: float


@dataclass
class History:
    """The epochs of a run; interrupted: that it was stopped before its end."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False

    @property
    def accuracy(self) -> float | None:
        """The last epoch's test accuracy: the final one, not the best."""
        return self.epochs[-1].accuracy if self.epochs else None
