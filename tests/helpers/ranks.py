"""Ranks as threads of this process, for tests that need no MPI."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from fastlenet.distributed.exchange import TreeRanks
from helpers.arrays import Array

__all__ = ["run_ranks"]

T = TypeVar("T")

_SECONDS = 60  # after which a rank that hears nothing of its partner fails


class _Threads:
    """A communicator: a queue for each pair of ranks and each direction."""

    def __init__(self, rank: int, queues: dict[tuple[int, int], queue.SimpleQueue[Array]], size: int) -> None:
        self.rank, self.size, self._queues = rank, size, queues

    def exchange(self, send: Array, receive: Array, partner: int) -> None:
        assert send.flags.c_contiguous and receive.flags.c_contiguous
        self._queues[self.rank, partner].put(send.copy())
        receive[...] = self._queues[partner, self.rank].get(timeout=_SECONDS)


def run_ranks(size: int, function: Callable[[TreeRanks], T]) -> list[T]:
    """Calls the function on `size` ranks at once. Returns their results, or raises the first error."""
    queues = {(a, b): queue.SimpleQueue[Array]() for a in range(size) for b in range(size)}
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        try:
            results[rank] = function(TreeRanks(_Threads(rank, queues, size)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(size)]
