"""Reads Keras's weights from HDF5, as a program of its own: bytes from standard input, JSON and numbers to standard output.

The HDF5 library can crash or run for ever on a damaged file. In a process with its own limits this becomes an error. The
program imports h5py and NumPy alone, not fastlenet, so that it starts quickly. formats/keras.py runs it.
"""

from __future__ import annotations

import io
import json
import math
import re
import resource
import sys
from collections.abc import Iterator, Mapping

import h5py
import numpy as np

_TIMES, _LEAST = 20, 16 << 20  # a file's own size, and bytes: what compressed arrays may come to
_MOST_OBJECTS, _DEEPEST = 100_000, 12  # groups and data sets of a file, and how deep they are nested
_LARGEST_TEXTS = 2 << 30  # bytes that the texts of an attribute may come to
_SPACE, _SECONDS = 2 << 30, 10  # of memory for the program itself, and of time for any file
_SPACE_TIMES = 50  # a file's own size, in memory beside that

Objects = Mapping[str, "h5py.Group | h5py.Dataset"]


class RefusedError(Exception):
    """A file that may be whole, but is not read."""


def main() -> None:
    """Write a line of JSON, and the numbers of all arrays after it."""
    content = sys.stdin.buffer.read()
    limit(resource.RLIMIT_AS, _SPACE + _SPACE_TIMES * len(content))
    limit(resource.RLIMIT_CPU, _SECONDS + (len(content) >> 20))
    arrays: list[np.ndarray] = []
    try:
        said: dict[str, object] = read(content, arrays)
    except RefusedError as error:
        said = {"refused": str(error)}
    except BaseException as error:  # what damaged bytes make a library raise
        said = {"damaged": str(error) or type(error).__name__}
        arrays = []
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(array.tobytes())


def limit(kind: int, amount: int) -> None:
    """Lower a limit of this process, if it is not lower already."""
    most = resource.getrlimit(kind)[1]
    amount = amount if most == resource.RLIM_INFINITY else min(amount, most)
    resource.setrlimit(kind, (amount, amount))


def read(content: bytes, arrays: list[np.ndarray]) -> dict[str, object]:
    """Returns the description of the network, and the name, types and shapes of each layer's arrays, which it appends."""
    with h5py.File(io.BytesIO(content), "r") as file:
        found = {name: each for name, each in walk(file) if not name.startswith("/optimizer")}
        sets = {name: each for name, each in found.items() if isinstance(each, h5py.Dataset)}
        whole = sum(each.nbytes for each in sets.values())
        if whole > max(_LEAST, _TIMES * len(content)):
            raise RefusedError(f"its arrays come to {whole:,} bytes, more than {_TIMES} times the file")
        config = None
        if "model_config" in file.attrs:
            (config,) = texts(file, "model_config")
        root = "/model_weights" if "/model_weights" in found else ""
        top = found.get(root, file)
        by_name = any(re.fullmatch(r"layer_names\d*", name) for name in top.attrs)
        layers = named(found, root, top) if by_name else numbered(sets)
        said = []
        for layer, members in layers.items():
            said.append((layer, [described(name, each) for name, each in members]))
            arrays += [np.asarray(each[()]) for _, each in members]
        return {"config": config, "by_name": by_name, "layers": said}


def walk(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and data set by its path. Raises RefusedError for those that are not in this file."""
    waiting: list[tuple[str, h5py.Group]] = [("", group)]
    count = 0
    while waiting:
        path, group = waiting.pop()
        expect(path.count("/") < _DEEPEST, "groups that are nested too deep")
        for name in group:
            count += 1
            expect(count <= _MOST_OBJECTS, f"more than {_MOST_OBJECTS:,} groups and data sets")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedError(f"{name[:80]!r} is a link, which is not followed")
            each = group[name]
            if isinstance(each, h5py.Dataset) and (each.external or each.is_virtual):
                raise RefusedError(f"{name[:80]!r} is stored in another file, which is not opened")
            yield f"{path}/{name}", each
            if isinstance(each, h5py.Group):
                waiting.append((f"{path}/{name}", each))


Members = dict[str, list[tuple[str, "h5py.Dataset"]]]


def named(found: Objects, root: str, top: h5py.Group) -> Members:
    """The arrays of files as Keras 2 wrote them, where attributes list the layers and their weights."""
    layers: Members = {}
    for layer in texts(top, "layer_names"):
        group = found.get(f"{root}/{layer}")
        expect(group is not None, f"no weights of layer {layer[:80]!r}")
        paths = [f"{root}/{layer}/{name}" for name in texts(group, "weight_names")]
        expect(all(path in found for path in paths), f"layer {layer[:80]!r} without its weights")
        layers[layer] = [(path, found[path]) for path in paths]
    return layers


def numbered(sets: Mapping[str, h5py.Dataset]) -> Members:
    """The arrays of Keras 3's `.weights.h5`: layers/LAYER/vars/0, ... A layer within a layer is LAYER/LAYER here."""
    numbers: dict[str, dict[int, tuple[str, h5py.Dataset]]] = {}
    for path in sorted(sets, key=natural):
        match = re.fullmatch(r"((?:/(?:layers|_layer_checkpoint_dependencies)/[^/]+)+)/vars/(\d{1,4})", path)
        if match is not None:
            layer = "/".join(match[1].split("/")[2::2])
            numbers.setdefault(layer, {})[int(match[2])] = path, sets[path]
    return {name: [members[number] for number in sorted(members)] for name, members in numbers.items()}


def natural(name: str) -> list[tuple[int, str]]:
    """Orders conv2d_10 behind conv2d_9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)]


def described(name: str, each: h5py.Dataset) -> tuple[str, list[int]]:
    """The type and the shape of an array. Keras 3 keeps bfloat16 as pairs of bytes."""
    expect(isinstance(each, h5py.Dataset) and each.shape is not None, f"{name[:80]!r} is no array")
    if each.dtype.kind == "V" and each.dtype.itemsize == 2:
        return "bf16", list(each.shape)
    expect(each.dtype.kind in "fiub", f"{name[:80]!r} holds no numbers")
    return each.dtype.str, list(each.shape)


def texts(each: h5py.Group, name: str) -> list[str]:
    """The texts in an attribute, or in several if they are many: layer_names0, layer_names1, ...

    Each may be anywhere in the file, even all in one place, so that their number is bounded.
    """
    several = [f"{name}{place}" for place in range(len(each.attrs)) if f"{name}{place}" in each.attrs]
    words: list[str] = []
    for key in [name] if name in each.attrs else several:
        entry = each.attrs.get_id(key)
        count = math.prod(entry.shape)
        largest = max(each.file.id.get_filesize(), entry.dtype.itemsize)
        expect(count * largest <= _LARGEST_TEXTS, f"too many texts in {key[:80]!r}")
        found = np.asarray(each.attrs[key], object).reshape(-1).tolist() if count else []
        expect(all(isinstance(word, (str, bytes)) for word in found), f"{key[:80]!r} is no text")
        words += [word.decode() if isinstance(word, bytes) else str(word) for word in found]
    return words


def expect(holds: bool, what: str) -> None:
    """Raise ValueError, for a damaged file, unless a condition holds."""
    if not holds:
        raise ValueError(what)


if __name__ == "__main__":
    main()
