"""Dense row-major arrays in a GPU's memory, with the operations that networks and training need."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from fastlenet import _core
from fastlenet.backend import Array

__all__ = ["DeviceArray", "Input", "device", "empty", "from_dlpack", "from_numpy", "uses_noted", "wrap"]

_DLPACK_CUDA = 2


_backend: ModuleType | None = None
_making = threading.RLock()


def device() -> ModuleType:
    """The compiled backend. Raises DeviceError, which names the command that installs it, if it was not built."""
    global _backend
    if _backend is None:
        with _making:  # its types can be registered once
            if _backend is None:
                _backend = _core.cuda_backend()
    return _backend


_noted: list[object] | None = None


@contextmanager
def uses_noted() -> Iterator[list[object]]:
    """Lists the owners of all memory whose address is asked for: what a graph that is captured meanwhile must keep."""
    global _noted
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


class _Flags:
    """The part of NumPy's `flags` that a DeviceArray has: `writeable`."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array

    @property
    def writeable(self) -> bool:
        return self._array._writeable

    @writeable.setter
    def writeable(self, value: bool) -> None:
        self._array._writeable = value


class DeviceArray:
    """A dense array in GPU memory. Make one with `empty` or `from_numpy`.

    Reading it (numpy(), float(), numpy.asarray) waits for all work so far. If that work met a wrong label or index on the
    device, reading raises ValueError. a[i], a[i:j] and reshape are views. Other libraries can use it without a copy, by
    __cuda_array_interface__ or DLPack; its work is ordered with the work of the default stream.
    """

    __slots__ = ("_address", "_owner", "_writeable", "dtype", "shape")

    def __init__(
        self, owner: object, address: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], writeable: bool = True
    ) -> None:
        self._owner, self._address, self.shape, self.dtype, self._writeable = owner, address, shape, dtype, writeable

    # --- what it is ---

    @property
    def address(self) -> int:
        """The address of the first element in the device's memory."""
        if _noted is not None:
            _noted.append(self._owner)
        return self._address

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the elements in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def flags(self) -> _Flags:
        """flags.writeable: whether the array may be written; set it to False to make it read-only."""
        return _Flags(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    # --- to the host ---

    def numpy(self) -> Array:
        """Returns a NumPy copy in the host's memory. Raises ValueError for a wrong label or index in earlier work."""
        array = np.empty(self.shape, self.dtype)
        device().copy_to_host(array, self._address)
        return array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a DeviceArray becomes a numpy array by a copy only")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __float__(self) -> float:
        return float(self.numpy().reshape(()))

    def argmax(self, axis: int | None = None) -> Array | np.intp:
        """As numpy.argmax, computed on the host. axis: an axis, or None for the flattened array."""
        return self.numpy().argmax(axis=axis)

    def __reduce__(self) -> tuple[Callable[[Array], DeviceArray], tuple[Array]]:
        return from_numpy, (self.numpy(),)

    # --- views ---

    def _view(self, start: int, shape: tuple[int, ...]) -> DeviceArray:
        address = self._address + start * self.dtype.itemsize
        return DeviceArray(self._owner, address, shape, self.dtype, self._writeable)

    def __getitem__(self, key: object) -> DeviceArray:
        if key is Ellipsis:
            return self
        rest = self.shape[1:]
        if isinstance(key, slice):
            begin, end, step = key.indices(len(self))
            if step == 1:
                return self._view(begin * math.prod(rest), (max(end - begin, 0), *rest))
        elif isinstance(key, (int, np.integer)) and -len(self) <= key < len(self):
            return self._view(int(key) % len(self) * math.prod(rest), rest)
        raise IndexError(f"a DeviceArray of shape {self.shape} takes an int or a slice of step 1, got {key!r}")

    def reshape(self, *shape: int | Sequence[int]) -> DeviceArray:
        """Returns a view of another shape; one size may be -1. Raises ValueError if the elements do not fit."""
        given = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else cast("Sequence[int]", shape)
        sizes = [int(size) for size in given]
        if sizes.count(-1) == 1:
            known = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = self.size // known if known else 0
        if math.prod(sizes) != self.size or min(sizes, default=0) < 0:
            raise ValueError(f"reshape: {self.size} elements do not fit shape {tuple(sizes)}")
        return self._view(0, tuple(sizes))

    # --- writing ---

    def _expect_writeable(self) -> None:
        if not self._writeable:
            raise ValueError("assignment destination is read-only")

    def fill(self, value: float) -> None:
        """Set every element to a number. Raises ValueError for a read-only array."""
        self._expect_writeable()
        if self.dtype == np.float32:
            device().fill(self._address, value, self.size)
        elif value == 0:
            device().set_bytes(self._address, 0, self.nbytes)
        else:
            self[...] = np.full(self.shape, value, self.dtype)

    def __setitem__(self, key: object, value: object) -> None:
        """Copy in a number or an array; it is broadcast and cast as NumPy does."""
        target = self[key]
        target._expect_writeable()
        if isinstance(value, DeviceArray) and value.dtype == target.dtype and value.shape == target.shape:
            device().copy_on_device(target.address, value.address, target.nbytes)
            return
        array = np.broadcast_to(np.asarray(value), target.shape)
        device().copy_to_device(target.address, np.ascontiguousarray(array, target.dtype))

    def copy(self) -> DeviceArray:
        """Returns a copy in the device's memory."""
        other = empty(self.shape, self.dtype)
        other[...] = self
        return other

    # --- other libraries ---

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._address, not self._writeable),
            "version": 3,
            "strides": None,
            "stream": 1,  # ours and the default stream wait for each other
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CUDA, 0

    def __dlpack__(self, *, stream: object = None, **options: object) -> object:
        del stream, options
        return device().to_dlpack(self, self._address, list(self.shape), self.dtype.kind, 8 * self.dtype.itemsize)


class OfDLPack(Protocol):
    """An array of another library, by DLPack."""

    def __dlpack__(self) -> object: ...


class OfCuda(Protocol):
    """An array of another library, by its interface for CUDA."""

    @property
    def __cuda_array_interface__(self) -> dict[str, object]: ...


Input = DeviceArray | OfDLPack | OfCuda | Array  # what an op reads


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float32) -> DeviceArray:
    """Returns an uninitialised array in the device's memory, aligned to 256 bytes."""
    dims = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    kind = np.dtype(dtype)
    memory = device().Memory(math.prod(dims) * kind.itemsize)
    return DeviceArray(memory, memory.address, dims, kind)


def from_numpy(array: npt.ArrayLike) -> DeviceArray:
    """Returns a copy in the device's memory of an array, or of anything that numpy.asarray accepts."""
    host = np.asarray(array, order="C")
    result = empty(host.shape, host.dtype)
    device().copy_to_device(result.address, host)
    return result


def from_dlpack(array: OfDLPack) -> DeviceArray:
    """Returns a view of another library's dense array in the device's memory, by DLPack.

    Raises TypeError or DeviceError for an array that is not dense or not on the device.
    """
    owner, address, shape, name = device().from_dlpack(array.__dlpack__())
    if math.prod(shape):
        device().expect_on_device(address)
    return DeviceArray(owner, address, tuple(shape), np.dtype(name))


def wrap(array: object) -> DeviceArray | None:
    """Returns a view of another library's array as a DeviceArray, or None if it is not in the device's memory.

    Uses __cuda_array_interface__, else DLPack. Raises TypeError for an array that is not dense.
    """
    if isinstance(array, DeviceArray):
        return array
    if isinstance(array, type):  # a class has the attributes of its arrays
        return None
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        location = getattr(array, "__dlpack_device__", None)
        on_device = location is not None and not isinstance(array, np.ndarray) and location()[0] == _DLPACK_CUDA
        return from_dlpack(cast(OfDLPack, array)) if on_device else None
    dtype, shape = np.dtype(interface["typestr"]), tuple(interface["shape"])
    dense = [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))]
    strides = interface.get("strides")
    if strides is not None and any(a != b for a, b, size in zip(strides, dense, shape, strict=True) if size > 1):
        raise TypeError("the array expects dense rows on a GPU, got strides; make it contiguous first")
    address, read_only = interface["data"]
    if math.prod(shape):
        device().expect_on_device(address)
    return DeviceArray(array, address, shape, dtype, not read_only)
