"""Keras's files: `.keras` archives, and HDF5 files of whole models or of weights, of Keras 2 and Keras 3."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fastlenet.backend import Array
from fastlenet.formats.archives import Archive
from fastlenet.formats.numbers import widened
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, quoted, size_of

if TYPE_CHECKING:
    import h5py

__all__ = ["KerasFile", "read_keras"]

_INSTALL = "reading Keras's files needs the package h5py: pip install 'fastlenet[keras]'"
_TIMES, _LEAST = 20, 16 << 20  # a file's own size, and bytes: what compressed arrays may come to
_MOST_OBJECTS, _DEEPEST = 100_000, 12  # groups and data sets of a file, and how deep they are nested
_LARGEST_TEXT = 16 << 20  # bytes of a network's description


@dataclass(frozen=True)
class KerasFile:
    """config: the description of the network, {"class_name", "config"}; None in a file of weights alone. weights: the arrays
    of each layer, in the order in which Keras keeps them: kernel, bias. by_name: whether they stand under the layer's name;
    otherwise under its class's name in small letters and a number, "conv2d_1", which counts the layers of a class.
    """

    config: Mapping[str, object] | None
    weights: Mapping[str, list[Array]]
    by_name: bool


def read_keras(path: Path) -> KerasFile:
    """Returns the description and the arrays in one of Keras's files.

    Nothing in it is executed, and no other file is opened: links, and data sets that are stored elsewhere, are refused. Memory:
    at most 22 times the file, since its arrays may be compressed, or 16 MiB. Raises CheckpointError, and ImportError without
    h5py.
    """
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise ImportError(_INSTALL) from None
    with opened(path, "a Keras file") as stream:
        expect(size_of(stream) <= MAX_BYTES, f"{size_of(stream):,} bytes, where at most {MAX_BYTES:,} are expected")
        if stream.read(4) != b"PK\x03\x04":
            return _of_hdf5(stream, size_of(stream), None)
        archive = Archive(stream)
        config = _described(archive.read("config.json", _LARGEST_TEXT).decode())
        content = archive.read("model.weights.h5")
        return _of_hdf5(io.BytesIO(content), len(content), config)


def _described(text: str) -> Mapping[str, object]:
    config = json.loads(text)
    expect(isinstance(config, dict), "a description that is no JSON object")
    assert isinstance(config, dict)
    return config


def _of_hdf5(stream: BinaryIO | io.BytesIO, size: int, config: Mapping[str, object] | None) -> KerasFile:
    import h5py

    stream.seek(0)
    with h5py.File(stream, "r") as file:
        found = {name: each for name, each in _walk(file) if not name.startswith("/optimizer")}
        sets = {name: each for name, each in found.items() if isinstance(each, h5py.Dataset)}
        whole = sum(each.nbytes for each in sets.values())
        if whole > max(_LEAST, _TIMES * size):
            raise RefusedError(f"its arrays come to {whole:,} bytes, more than {_TIMES} times the file")
        if config is None and "model_config" in file.attrs:
            config = _described(_text(file, "model_config"))
        root = "/model_weights" if "/model_weights" in found else ""
        if any(re.fullmatch(r"layer_names\d*", name) for name in found.get(root, file).attrs):
            return KerasFile(config, _named(found, root, found.get(root, file)), by_name=True)
        return KerasFile(config, _numbered(sets), by_name=False)


def _walk(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and data set by its path. Raises RefusedError for those that are not in this file."""
    import h5py

    waiting: list[tuple[str, h5py.Group]] = [("", group)]
    count = 0
    while waiting:
        path, group = waiting.pop()
        expect(path.count("/") < _DEEPEST, "groups that are nested too deep")
        for name in group:
            count += 1
            expect(count <= _MOST_OBJECTS, f"more than {_MOST_OBJECTS:,} groups and data sets")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedError(f"{quoted(name)} is a link, which is not followed")
            each = group[name]
            if isinstance(each, h5py.Dataset) and (each.external or each.is_virtual):
                raise RefusedError(f"{quoted(name)} is stored in another file, which is not opened")
            yield f"{path}/{name}", each
            if isinstance(each, h5py.Group):
                waiting.append((f"{path}/{name}", each))


def _named(found: Mapping[str, h5py.Group | h5py.Dataset], root: str, top: h5py.Group) -> dict[str, list[Array]]:
    """The arrays of HDF5 files as Keras 2 wrote them, where attributes list the layers and their weights."""
    weights: dict[str, list[Array]] = {}
    for layer in _words(top, "layer_names"):
        group = found.get(f"{root}/{layer}")
        expect(group is not None, f"no weights of layer {quoted(layer)}")
        assert group is not None
        weights[layer] = []
        for name in _words(group, "weight_names"):
            each = found.get(f"{root}/{layer}/{name}")
            expect(each is not None, f"no weights {quoted(name)}")
            assert each is not None
            weights[layer].append(_array(name, each))
    return weights


def _numbered(sets: Mapping[str, h5py.Dataset]) -> dict[str, list[Array]]:
    """The arrays of Keras 3's `.weights.h5`: layers/LAYER/vars/0, ... A layer within a layer is LAYER/LAYER here."""
    numbers: dict[str, dict[int, Array]] = {}
    for path in sorted(sets, key=_natural):
        match = re.fullmatch(r"((?:/(?:layers|_layer_checkpoint_dependencies)/[^/]+)+)/vars/(\d{1,4})", path)
        if match is not None:
            layer = "/".join(match[1].split("/")[2::2])
            numbers.setdefault(layer, {})[int(match[2])] = _array(path, sets[path])
    return {name: [arrays[number] for number in sorted(arrays)] for name, arrays in numbers.items()}


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders conv2d_10 behind conv2d_9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)]


def _array(name: str, each: h5py.Group | h5py.Dataset) -> Array:
    expect(hasattr(each, "shape") and each.shape is not None, f"{quoted(name)} is no array")
    if each.dtype.kind == "V" and each.dtype.itemsize == 2:  # Keras 3 keeps bfloat16 so
        return widened(each[()].view(np.uint16))
    expect(each.dtype.kind in "fiub", f"{quoted(name)} holds no numbers")
    array: Array = np.asarray(each[()])
    return array


def _text(each: h5py.Group, name: str) -> str:
    (word,) = _attribute(each, name)
    return word


def _words(each: h5py.Group, name: str) -> list[str]:
    """A list of names, which may be in several attributes if it is long: layer_names0, layer_names1, ..."""
    numbered = [f"{name}{place}" for place in range(len(each.attrs)) if f"{name}{place}" in each.attrs]
    return [word for key in ([name] if name in each.attrs else numbered) for word in _attribute(each, key)]


def _attribute(each: h5py.Group, name: str) -> list[str]:
    """The texts in an attribute. Each may be anywhere in the file, even all in one place, so that their number is bounded."""
    entry = each.attrs.get_id(name)
    count = math.prod(entry.shape)
    expect(count * max(each.file.id.get_filesize(), entry.dtype.itemsize) <= MAX_BYTES, f"too many texts in {quoted(name)}")
    if not count:
        return []
    words = np.asarray(each.attrs[name], object).reshape(-1).tolist()
    expect(all(isinstance(word, (str, bytes)) for word in words), f"{quoted(name)} is no text")
    return [word.decode() if isinstance(word, bytes) else str(word) for word in words]
