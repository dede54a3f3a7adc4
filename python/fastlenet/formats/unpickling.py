"""Reads pickles that hold nothing but containers, text, numbers and PyTorch's tensors. Nothing is imported or called.

A pickle is a program for a stack machine. This one knows the instructions of a table, and a class or a function is only its
name, which is compared with those of a second table. Source of the instructions: Python's module pickletools.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastlenet.formats.opening import RefusedError, expect, quoted

__all__ = ["STATE_DICT", "Storage", "StoredTensor", "Unpickler"]

STATE_DICT = "in PyTorch, torch.save(model.state_dict(), FILE) writes a file that is read"  # the cure for what is refused
_MOST_INSTRUCTIONS = 1_000_000  # a tensor takes 30; each may make an object of some 100 bytes
_MOST_AXES = 32
_KEYS = (str, int, float, bool, type(None))  # of a dict. A tuple's hash can take time without bound

# PyTorch's storages, and NumPy's types of their elements.
_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Name:
    """The name of a class or a function."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """Where a tensor's elements are. dtype: NumPy's, or "bf16". key: the name in the file. count: of elements."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage: offset and strides count elements. It lies within the storage, and has no more elements than it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unpickler:
    """Reads pickles from bytes, one after the other. position: of the next byte. storages: those that were named, by key.

    `load` raises ValueError for damaged bytes, and RefusedError, which names it, for anything but containers, text, numbers and
    tensors. It takes time and memory in proportion to the bytes, and at most a million instructions.
    """

    def __init__(self, content: bytes, position: int = 0) -> None:
        self._content, self.position = content, position
        self.storages: dict[str, Storage] = {}
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """Returns the object of the next pickle."""
        self._stack, self._marks, self._memo = [], [], {}
        for _ in range(_MOST_INSTRUCTIONS):
            code = self._take(1)
            if code == b".":
                expect(len(self._stack) == 1 and not self._marks, "a pickle that ends in between")
                return self._stack.pop()
            if code not in _INSTRUCTIONS:
                raise RefusedError(
                    f"{_ONLY}; its pickle has the instruction 0x{code.hex()}, which makes other objects; {STATE_DICT}"
                )
            _INSTRUCTIONS[code](self)
        raise RefusedError(f"a pickle of more than {_MOST_INSTRUCTIONS:,} instructions; {STATE_DICT}")

    # --- bytes and the stack ---

    def _take(self, count: int) -> bytes:
        expect(0 <= count <= len(self._content) - self.position, "a pickle that is cut short")
        self.position += count
        return self._content[self.position - count : self.position]

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _line(self) -> str:
        end = self._content.find(b"\n", self.position, self.position + 1000)
        expect(end >= 0, "a name without an end")
        text = self._take(end - self.position).decode()
        self.position += 1
        return text

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        expect(len(self._stack) > (self._marks[-1] if self._marks else 0), "a pickle that takes what is not there")
        return self._stack.pop()

    def _top(self) -> object:
        value = self._pop()
        self._push(value)
        return value

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[object]:
        expect(bool(self._marks), "a pickle that takes what is not there")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    # --- instructions ---

    def _protocol(self) -> None:
        expect(self._number("B") <= 5, "a pickle of an unknown protocol")

    def _frame(self) -> None:
        """The length of what follows, which only readers of streams need."""
        self._take(8)

    def _long(self) -> None:
        size = self._number("B")
        expect(size <= 16, "a number of more than 16 bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _text(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode("utf-8", "surrogatepass"))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _tuple(self, size: int) -> None:
        self._push(tuple([self._pop() for _ in range(size)][::-1]))

    def _append(self, values: list[object]) -> None:
        target = self._top()
        expect(type(target) is list, "a pickle that appends to what is no list")
        assert isinstance(target, list)
        target.extend(values)

    def _set_items(self, values: list[object]) -> None:
        target = self._top()
        expect(type(target) is dict and len(values) % 2 == 0, "a pickle that sets items of what is no dict")
        assert isinstance(target, dict)
        _fill(target, values)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _get(self, place: int) -> None:
        expect(place in self._memo, "a pickle that takes what is not there")
        self._push(self._memo[place])

    def _put(self, place: int) -> None:
        self._memo[place] = self._top()

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        expect(isinstance(name, str) and isinstance(module, str), "a name that is no text")
        self._push(_Name(str(module), str(name)))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        expect(isinstance(function, _Name) and isinstance(arguments, tuple), "a call of what is no name")
        assert isinstance(arguments, tuple)
        if str(function) not in _CALLS:
            raise _foreign_object(str(function))
        self._push(_CALLS[str(function)](*arguments))

    def _new(self) -> None:
        self._pop()
        raise _foreign_object(str(self._pop()))

    def _build(self) -> None:
        """Attributes of an object: those of a state_dict are the versions of its layers, which say nothing of the weights."""
        state = self._pop()
        if type(state) is not dict or type(self._top()) is not dict:
            raise RefusedError(f"{_ONLY}; its pickle sets attributes of other objects; {STATE_DICT}")

    def _storage(self) -> None:
        """A persistent id: in PyTorch's files a storage."""
        said = self._pop()
        expect(isinstance(said, tuple) and len(said) > 1, "a persistent id that is no storage")
        assert isinstance(said, tuple)
        if said[0] == "module":  # before version 1.6, the class of a whole network, with its source
            raise _foreign_object(str(said[1]))
        expect(len(said) in (5, 6) and said[0] == "storage", "a persistent id that is no storage")
        kind, key, count = said[1], said[2], said[4]
        expect(isinstance(kind, _Name) and isinstance(key, str) and type(count) is int and count >= 0, "a damaged storage")
        if kind.module not in ("torch", "torch.cuda") or kind.name not in _STORAGES:
            raise RefusedError(f"holds a tensor of type {quoted(str(kind))}; convert it by tensor.float() before it is saved")
        expect(len(said) == 5 or said[5] is None, "a storage that is a view of another")
        storage = Storage(_STORAGES[kind.name], key, count)
        expect(self.storages.setdefault(key, storage) == storage, "a storage of two types or sizes")
        self._push(storage)


_ONLY = "only tensors, containers, text and numbers are read, since other objects can run code"


def _foreign_object(name: str) -> RefusedError:
    """The error about an object of a class, as a whole network is one."""
    return RefusedError(f"holds an object of {quoted(name)}, not only weights; {STATE_DICT}")


def _fill(target: dict[object, object], values: list[object]) -> None:
    for key, value in zip(values[::2], values[1::2], strict=True):
        expect(isinstance(key, _KEYS), "a dict whose keys are no text and no numbers")
        target[key] = value


def _ordered_dict(*arguments: object) -> dict[object, object]:
    """OrderedDict() or OrderedDict([[key, value], ...]), as Python 2 pickles it; or Counter({...})."""
    made: dict[object, object] = {}
    expect(len(arguments) <= 1, "a damaged OrderedDict")
    for pairs in arguments:
        pairs = [[key, value] for key, value in pairs.items()] if type(pairs) is dict else pairs
        expect(type(pairs) is list, "a damaged OrderedDict")
        assert isinstance(pairs, list)
        for pair in pairs:
            expect(type(pair) in (list, tuple) and len(pair) == 2, "a damaged OrderedDict")
            _fill(made, [*pair])
    return made


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *flags: object) -> StoredTensor:
    """flags: whether it needs a gradient, hooks, and what PyTorch's versions add; none says anything of the elements."""
    del flags
    expect(isinstance(storage, Storage) and type(offset) is int and offset >= 0, "a tensor without a storage")
    assert isinstance(storage, Storage) and isinstance(offset, int)
    expect(type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) <= _MOST_AXES, "a damaged shape")
    assert isinstance(shape, tuple) and isinstance(strides, tuple)
    expect(all(type(number) is int and 0 <= number < 2**62 for number in (*shape, *strides)), "a damaged shape")
    size = math.prod(shape)
    if size:
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        expect(last < storage.count, "a tensor that reaches beyond its storage")
        if size > storage.count:
            raise RefusedError("holds a tensor that repeats its elements, as expand() makes it; save tensor.contiguous()")
    return StoredTensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: object, *flags: object) -> StoredTensor:
    del flags
    expect(isinstance(tensor, StoredTensor), "a parameter without a tensor")
    assert isinstance(tensor, StoredTensor)
    return tensor


def _size(shape: object) -> tuple[object, ...]:
    expect(type(shape) is tuple, "a damaged shape")
    assert isinstance(shape, tuple)
    return shape


# What a name that is called makes. These are the only names that can be called.
_CALLS: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}

# Instructions of protocols 1 to 5 by their codes. These are the only ones that are known.
_INSTRUCTIONS: Mapping[bytes, Callable[[Unpickler], None]] = {
    b"\x80": Unpickler._protocol,
    b"\x95": Unpickler._frame,
    b"(": Unpickler._mark,
    b"N": lambda self: self._push(None),
    b"\x88": lambda self: self._push(True),
    b"\x89": lambda self: self._push(False),
    b"J": lambda self: self._push(self._number("<i")),
    b"K": lambda self: self._push(self._number("B")),
    b"M": lambda self: self._push(self._number("<H")),
    b"\x8a": Unpickler._long,
    b"G": Unpickler._float,
    b"X": lambda self: self._text("<I"),
    b"\x8c": lambda self: self._text("B"),
    b"\x8d": lambda self: self._text("<Q"),
    b"U": lambda self: self._text("B"),  # of Python 2
    b"}": lambda self: self._push({}),
    b"]": lambda self: self._push([]),
    b")": lambda self: self._push(()),
    b"t": lambda self: self._push(tuple(self._since_mark())),
    b"\x85": lambda self: self._tuple(1),
    b"\x86": lambda self: self._tuple(2),
    b"\x87": lambda self: self._tuple(3),
    b"a": lambda self: self._append([self._pop()]),
    b"e": lambda self: self._append(self._since_mark()),
    b"s": Unpickler._set_item,
    b"u": lambda self: self._set_items(self._since_mark()),
    b"q": lambda self: self._put(self._number("B")),
    b"r": lambda self: self._put(self._number("<I")),
    b"\x94": lambda self: self._put(len(self._memo)),
    b"h": lambda self: self._get(self._number("B")),
    b"j": lambda self: self._get(self._number("<I")),
    b"c": lambda self: self._push(_Name(self._line(), self._line())),
    b"\x93": Unpickler._stack_global,
    b"R": Unpickler._reduce,
    b"\x81": Unpickler._new,
    b"b": Unpickler._build,
    b"Q": Unpickler._storage,
}
