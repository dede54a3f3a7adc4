"""Work that is recorded once and then launched as a whole, without a word from Python in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlenet.cuda.array import device, uses_noted

__all__ = ["Graph", "synchronize"]


class Graph:
    """The ops that `work()` calls, recorded but not run; launch() runs them, on the arrays that they were called with.

    It keeps these arrays, and what work allocates. work must not read a result nor take NumPy arrays: ValueError. No other
    thread may use the device while it is captured.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        backend = device()
        backend.begin_graph()
        try:
            with uses_noted() as self._uses:
                work()
        finally:
            self._graph = backend.end_graph()

    def launch(self) -> None:
        """Queue one run of the work, and return at once."""
        self._graph.launch()


def synchronize() -> None:
    """Wait for all work so far. Raises ValueError for wrong values that the device found, DeviceError for its failures."""
    device().synchronize()
