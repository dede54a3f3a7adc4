"""What a run needs of the processes that share it."""

from __future__ import annotations

from typing import Protocol

from fastlenet.backend import Array

__all__ = ["DifferentRanksError", "Ranks"]


class DifferentRanksError(RuntimeError):
    """The ranks of a run do not hold the same parameters. The message names a rank."""


class Ranks(Protocol):
    """The processes that share a run, as one of them sees them. Every rank must call the methods in the same order.

    rank: the number of this one, 0..size-1. size: how many there are, a power of two. name: of this one, for errors.
    stop: set it to ask all ranks to stop. stopping: whether a rank had asked before the last call of `gather`.
    """

    rank: int
    size: int
    stop: bool
    stopping: bool

    def sum(self, buffer: Array) -> None:
        """Replace the buffer by the sum of all ranks' buffers, float32 (n,), with the same bits on each.

        The ranks are the leaves of a balanced binary tree, in order.
        """

    def gather(self, numbers: Array) -> Array:
        """Returns the numbers of all ranks, float64 (size, k), from those of this one, (k,). Sets `stopping` on all of them."""
