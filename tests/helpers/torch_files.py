"""Files as torch.save writes them, made without PyTorch: the pickle's instructions byte by byte, and the archive around them.

A test compares them with those of PyTorch 2.13.0, byte by byte.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAGIC = 0x1950A86A20F9469CFC6C  # of files before PyTorch 1.6
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u2": "BFloat16Storage"}


class Pickled:
    """The instructions of a pickle of protocol 2, with the memo that Python's pickler keeps."""

    def __init__(self) -> None:
        self.content, self._memo = io.BytesIO(), dict[Any, int]()
        self.storages: list[Array] = []
        self.write(b"\x80\x02")

    def write(self, *parts: bytes) -> None:
        for part in parts:
            self.content.write(part)

    def once(self, key: Any, made: bytes) -> None:
        """What the pickler writes the first time, and refers to the next time."""
        if key in self._memo:
            self.write(b"h", bytes([self._memo[key]]))
        else:
            self.write(made)
            self.put(key)

    def put(self, key: Any = None) -> None:
        place = self._memo[key if key is not None else object()] = len(self._memo)
        self.write(b"q", bytes([place])) if place < 256 else self.write(b"r", struct.pack("<I", place))

    def name(self, module: str, name: str) -> None:
        self.once((module, name), f"c{module}\n{name}\n".encode())

    def text(self, word: str) -> None:
        self.once(word, b"X" + struct.pack("<I", len(word.encode())) + word.encode())

    def number(self, number: int) -> None:
        if number < 256:
            self.write(b"K", bytes([number]))
        elif number < 65536:
            self.write(b"M", struct.pack("<H", number))
        else:
            self.write(b"J", struct.pack("<i", number))

    def numbers(self, numbers: tuple[int, ...]) -> None:
        self.write(b"(" * (len(numbers) > 3))
        for number in numbers:
            self.number(number)
        self.write(b")" if not numbers else (b"\x85", b"\x86", b"\x87")[len(numbers) - 1] if len(numbers) < 4 else b"t")
        if numbers:
            self.put()

    def ordered_dict(self) -> None:
        self.name("collections", "OrderedDict")
        self.write(b")R")

    def tensor(self, array: Array, strides: tuple[int, ...], *, old: bool = False) -> None:
        key = str(len(self.storages))
        self.storages.append(array)
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.write(b"((")
        self.text("storage")
        self.name("torch", STORAGES[array.dtype.str[1:]])
        self.text(key)
        self.text("cpu")
        self.number(array.size)
        self.write(b"N" * old, b"t")
        self.put()
        self.write(b"QK\x00")
        self.numbers(array.shape)
        self.numbers(strides)
        self.write(b"\x89")
        self.ordered_dict()
        self.put()
        self.write(b"t")
        self.put()
        self.write(b"R")
        self.put()


def strides_of(array: Array) -> tuple[int, ...]:
    return tuple(stride // array.itemsize for stride in array.strides)


def state_pickle(state: Mapping[str, Array], *, old: bool = False) -> tuple[bytes, list[Array]]:
    """The pickle of an OrderedDict of tensors, and the storages in its order. bfloat16 is given as uint16."""
    made = Pickled()
    made.ordered_dict()
    made.put()
    made.write(b"(")
    for name, array in state.items():
        made.text(name)
        made.tensor(array, strides_of(array), old=old)
    made.write(b"u.")
    return made.content.getvalue(), made.storages


def archive(path: Path, pickle: bytes, storages: list[Array], *, byteorder: bytes = b"little", **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", pickle)
        file.writestr("archive/byteorder", byteorder)
        for number, storage in enumerate(storages):
            file.writestr(f"archive/data/{number}", storage.tobytes())
        file.writestr("archive/version", b"3\n")
    return path


def save(path: Path, state: Mapping[str, Array]) -> Path:
    return archive(path, *state_pickle(state))


def save_old(path: Path, state: Mapping[str, Array]) -> Path:
    """As PyTorch before 1.6: a row of pickles, then each storage after its count of elements."""
    pickle, storages = state_pickle(state, old=True)
    system = b"\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88u."
    keys = b"".join(b"X" + struct.pack("<I", len(str(n))) + str(n).encode() for n in range(len(storages)))
    head = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"." + b"\x80\x02M\xe9\x03." + system
    tail = b"".join(struct.pack("<q", storage.size) + storage.tobytes() for storage in storages)
    path.write_bytes(head + pickle + b"\x80\x02](" + keys + b"e." + tail)
    return path


def floats(count: int) -> Array:
    """Numbers that are exact in float16 and bfloat16."""
    return np.asarray(np.arange(count) % 15 - 7, np.float32) / 8
