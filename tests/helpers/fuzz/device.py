"""The fuzzer's calls on a GPU, real or emulated: host memory goes there root by root, so that what shares memory still does."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlenet import cuda
from fastlenet.backend import gaps_of
from fastlenet.cuda.array import DeviceArray, device
from fastlenet.testing.description import KINDS, Array
from fastlenet.testing.values import Draw
from helpers.fuzz.calls import LOW_PRECISION
from helpers.fuzz.int8_network import NETWORK
from helpers.fuzz.memory import Memory, address

# Their arguments or results are other things than on the CPU.
NOT_ON_DEVICE = ("empty", "inverse_root", *gaps_of(cuda), *LOW_PRECISION, NETWORK)
# Kinds of arguments that stay on the host: numbers, which NumPy's arrays may stand for; and places, of which a wrong one is
# found later there, when a result is read: tests/cuda/test_cuda.py has that.
_ON_HOST = ("pair", "sizes", "places")


class DeviceCall:
    """One call of fastlenet.cuda with NumPy's arrays; those that a device array cannot stand for are given as they are."""

    def __init__(self, draw: Draw, memory: Memory) -> None:
        self._draw, self._memory = draw, memory
        self._buffers: dict[int, DeviceArray] = {}
        self._hosts: list[tuple[DeviceArray, Array]] = []

    def _on_device(self, array: Any) -> Any:
        if not isinstance(array, np.ndarray) or not (array.flags.c_contiguous and array.flags.aligned):
            return array
        if array.dtype not in (np.float32, np.float64, np.int32, np.int64, np.uint8):
            return array
        if not array.size:  # and lies nowhere
            self._hosts.append((cuda.empty(array.shape, array.dtype), array))
            self._hosts[-1][0].flags.writeable = array.flags.writeable
            return self._hosts[-1][0]
        for i, root in enumerate(self._memory.roots):
            start = address(array) - address(root)
            if not (start >= 0 and start + array.nbytes <= root.size):
                continue
            if i not in self._buffers:
                self._buffers[i] = cuda.empty((root.size,), np.uint8)
                device().copy_to_device(self._buffers[i].address, np.asarray(root))
            buffer = self._buffers[i]
            result = DeviceArray(buffer, buffer.address + start, array.shape, array.dtype, array.flags.writeable)
            self._hosts.append((result, array))
            return result
        return array

    def _output(self, out: Any) -> Any:
        return tuple(map(self._on_device, out)) if type(out) is tuple else self._on_device(out)

    def run(self, op: str, given: dict[str, Any], written: tuple[str, ...], options: dict[str, Any]) -> Any:
        """The op's result in NumPy's arrays; those that were given as `out` are returned themselves."""
        arguments = {
            name: self._on_device(value)
            if name in written or (KINDS.get(name) not in _ON_HOST and self._draw.chance(0.5))
            else value
            for name, value in given.items()
        }
        options = {name: self._output(value) for name, value in options.items()}
        try:
            return self._back(getattr(cuda, op)(**arguments, **options))
        finally:
            for i, buffer in self._buffers.items():
                self._memory.roots[i][...] = buffer.numpy()

    def _back(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(map(self._back, result))
        if not isinstance(result, DeviceArray):
            return result
        for ours, host in self._hosts:
            if ours is result:
                return host
        return float(result) if result.dtype == np.float64 and not result.shape else result.numpy()
