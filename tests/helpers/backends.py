"""The ops under test: `ops` has the names of fastlenet.ops, and runs them on the backend that a fixture has chosen.

On a GPU, real or emulated, NumPy arrays go there and back around each call; what is given as `out` becomes a device array with
guards on both sides, which must be whole afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from fastlenet import cuda
from fastlenet import ops as cpu_ops
from fastlenet.cuda.array import device
from fastlenet.testing.host import on_host
from helpers.expect import expect_same_bits


def thread_orders() -> list[str]:
    """The orders in which an emulated block's threads can run, ["hardware"] for a GPU, nothing without CUDA."""
    try:
        orders: list[str] = device().thread_orders()
    except cuda.DeviceError:
        return []
    return orders


class Ops(ModuleType):
    """The chosen backend's names."""

    def __init__(self) -> None:
        super().__init__("ops under test")
        self.chosen: Any = cpu_ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self.chosen, name)


ops: Any = Ops()


@contextmanager
def on_device(order: str) -> Iterator[None]:
    """The GPU for the ops under test, its threads in that order."""
    device().set_thread_order(order)
    ops.chosen = on_host(cuda)
    try:
        yield
    finally:
        ops.chosen = cpu_ops
        device().set_thread_order(thread_orders()[0])


ORDERS = thread_orders()
EMULATED = len(ORDERS) > 1

emulation = pytest.mark.skipif(not EMULATED, reason="needs the emulated GPU")


def in_every_order(call: Callable[[], Any]) -> None:
    """Random orders of three kinds too: each call goes on with the random numbers where the last one stopped."""
    results = []
    for order in ORDERS + ["random"] * 2 * EMULATED:
        with on_device(order):
            results.append(call())
    for result in results[1:]:
        expect_same_bits(result, results[0])
