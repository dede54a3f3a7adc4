"""The interface of the processes that share a run."""

from __future__ import annotations

from typing import Protocol

from fastlenet.backend import Array

__all__ = ["Ranks", "RanksError"]


class RanksError(RuntimeError):
    """Processes cannot share or continue a run: one of them failed, differs, or has no MPI. The message is one line."""


class Ranks(Protocol):
    """The processes that share a run, as one of them sees them. All must call the methods in the same order.

    rank: the number of this one, 0..size-1. size: the number of ranks, a power of two. names: of all ranks, for errors.
    stop: set it to ask all ranks to stop. stopping: whether a rank has asked, as all of them know since the last `gather`.
    compare: set it to ask all ranks to compare their parameters; `gather` resets it. comparing: whether a rank asked in the
    last `gather`.
    """

    rank: int
    size: int
    names: list[str]
    stop: bool
    stopping: bool
    compare: bool
    comparing: bool

    def sum(self, buffer: Array) -> None:
        """Replace the buffer by the sum of all ranks' buffers, float32 (n,), with the same bits on each.

        The ranks are the leaves of a balanced binary tree, in order.
        """

    def gather(self, numbers: Array) -> Array:
        """Returns the numbers of all ranks, float64 (size, k), from those of this one, (k,)."""
