"""Sums over ranks with the same bits on each: neighbours exchange halves, along a fixed binary tree."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fastlenet import ops
from fastlenet.backend import Array

__all__ = ["Communicator", "TreeRanks"]


class Communicator(Protocol):
    """What ranks exchange arrays with. rank: the number of this one, 0..size-1."""

    rank: int
    size: int

    def exchange(self, send: Array, receive: Array, partner: int) -> None:
        """Send an array to the rank `partner`, and receive another from it. Both are contiguous; a partner calls it too."""


class TreeRanks:
    """The ranks of a run, on any communicator whose size is a power of two. It is a fastlenet.training.ranks.Ranks.

    sum() halves the buffer at every level of the tree, from the leaves on: of a pair of ranks, each adds one half and gives the
    other away. Then the parts go back the same way. So each element is added once, and every rank sends
    2 * (size - 1) / size times the buffer. An element's sum is the same tree for every number of ranks. MPI_Allreduce would be
    free to add in another order for another number of ranks.
    """

    def __init__(self, communicator: Communicator, name: str = "") -> None:
        self._communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size
        self.stop = self.stopping = self.compare = self.comparing = False
        self._received: Array = np.empty(0, np.float32)
        self.names = [name or f"rank {self.rank}"]
        self.names = self.gather_texts(self.names[0])

    def exchange(self, send: Array, receive: Array, partner: int) -> None:
        """As of the communicator."""
        self._communicator.exchange(send, receive, partner)

    def sum(self, buffer: Array) -> None:
        if isinstance(buffer, np.ndarray):
            self._sum(buffer)
            return
        host: Array = np.array(buffer)  # from a GPU
        self._sum(host)
        buffer[...] = host

    def _sum(self, buffer: Array) -> None:
        if len(self._received) < len(buffer) - len(buffer) // 2:
            self._received = ops.empty((len(buffer) - len(buffer) // 2,))
        first, end, distance = 0, len(buffer), 1
        done: list[tuple[int, Array, Array]] = []
        while distance < self.size:
            partner, middle = self.rank ^ distance, (first + end) // 2
            low, high = buffer[first:middle], buffer[middle:end]
            if self.rank & distance:
                own, given, first = high, low, middle
            else:
                own, given, end = low, high, middle
            received = self._received[: len(own)]
            self._communicator.exchange(given, received, partner)
            ops.sgd_step(own, received, None, lr=-1.0)  # adds
            done.append((partner, own, given))
            distance *= 2
        for partner, own, given in reversed(done):
            self._communicator.exchange(own, given, partner)

    def gather(self, numbers: Array) -> Array:
        table = np.zeros((self.size, len(numbers) + 2))
        table[self.rank] = [*numbers, self.stop, self.compare]
        self.compare = False
        distance = 1
        while distance < self.size:
            first = self.rank // distance * distance
            theirs = first ^ distance
            own, received = table[first : first + distance], table[theirs : theirs + distance]
            self._communicator.exchange(own, received, self.rank ^ distance)
            distance *= 2
        self.stopping, self.comparing = (bool(flags.any()) for flags in table[:, -2:].T)
        return table[:, :-2]

    def leave(self) -> None:
        """Wait until all ranks are here. Call it once, as the last."""
        self.gather(np.empty(0))

    def gather_texts(self, text: str) -> list[str]:
        """Returns the texts of all ranks."""
        own = text.encode()
        lengths = self.gather(np.array([float(len(own))]))[:, 0].astype(int)
        padded = np.zeros(lengths.max(initial=0))
        padded[: len(own)] = np.frombuffer(own, np.uint8)
        rows = self.gather(padded).astype(np.uint8)
        return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]
