"""The ops under test: `ops` has the names of fastlenet.ops, and runs them on the backend that a fixture has chosen.

On a GPU, real or emulated, NumPy arrays go there and back around each call; what is given as `out` becomes a device array with
guard bytes on both sides, which must be whole afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet import cuda
from fastlenet import ops as cpu_ops
from fastlenet.cuda.array import DeviceArray, device, empty
from helpers.expect import expect_same_bits

Array = npt.NDArray[Any]

_GUARD = 256
_IN_PLACE = {"sgd_step": 3, "adam_step": 4, "ema_step": 1}  # how many of the first arguments change


def thread_orders() -> list[str]:
    """The orders in which an emulated block's threads can run, ["hardware"] for a GPU, nothing without CUDA."""
    try:
        orders: list[str] = device().thread_orders()
    except cuda.DeviceError:
        return []
    return orders


class _Guarded:
    """A device array that starts as a NumPy array is, and what surrounds it."""

    def __init__(self, host: Array) -> None:
        self.host = host
        self._memory = empty((host.nbytes + 2 * _GUARD,), np.uint8)
        self._memory.fill(0xA5)
        self.array = DeviceArray(self._memory, self._memory.address + _GUARD, host.shape, host.dtype, host.flags.writeable)
        device().copy_to_device(self.array.address, np.ascontiguousarray(host))

    def finish(self) -> None:
        memory = self._memory.numpy()
        assert (memory[:_GUARD] == 0xA5).all() and (memory[-_GUARD:] == 0xA5).all(), "wrote outside the output"
        if self.host.flags.writeable:
            self.host[...] = self.array.numpy()


class _Device:
    """fastlenet.cuda, from NumPy arrays to NumPy arrays."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(cuda, name)
        if name == "empty":
            return cpu_ops.empty
        return self._wrapped(name, function)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            guarded: dict[int, _Guarded] = {}

            def guard(value: Any) -> Any:
                if isinstance(value, tuple):
                    return tuple(guard(part) for part in value)
                if not isinstance(value, np.ndarray):
                    return value
                return guarded.setdefault(id(value), _Guarded(value)).array

            if "out" in options:
                options["out"] = guard(options["out"])
            changed = _IN_PLACE.get(name, 0)
            inputs = [guard(a) if i < changed or id(a) in guarded else a for i, a in enumerate(arguments)]
            result = function(*inputs, **options)
            for entry in guarded.values():
                entry.finish()
            given = {id(entry.array): entry.host for entry in guarded.values()}

            def back(value: Any) -> Any:
                if isinstance(value, tuple):
                    return tuple(back(part) for part in value)
                if not isinstance(value, DeviceArray):
                    return value
                if id(value) in given:
                    return given[id(value)]
                return float(value) if value.dtype == np.float64 and value.shape == () else value.numpy()

            return back(result)

        return call


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
    ops.chosen = _Device()
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
