"""Keras's files: `.keras` archives, and HDF5 files of whole models or of weights, of Keras 2 and Keras 3."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastlenet.backend import Array
from fastlenet.formats.archives import Archive
from fastlenet.formats.numbers import BFLOAT16, elements
from fastlenet.formats.opening import MAX_BYTES, RefusedError, expect, opened, size_of

__all__ = ["KerasFile", "read_keras"]

_INSTALL = "reading Keras's files needs the package h5py: pip install 'fastlenet[keras]'"
_LARGEST_TEXT = 16 << 20  # bytes of a network's description
_MOST_AXES = 32  # of an array; HDF5 has no more
_SECONDS = 60  # until the program that reads HDF5 is ended, and one more for each MiB

# Runs a file with the folders of this process's imports, and with no others, such as the working folder.
_RUN = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[2]); runpy.run_path(sys.argv[1], run_name='__main__')"
_PROGRAM = Path(__file__).with_name("hdf5.py")


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

    Nothing in it is executed, and no other file is opened: links, and data sets that are stored elsewhere, are refused. The
    HDF5 library runs in a process of its own, whose time and memory are limited. Memory: at most 50 times the file, since its
    arrays may be compressed, and 2 GiB of address space. Raises CheckpointError, and ImportError without h5py.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ImportError(_INSTALL)
    with opened(path, "a Keras file") as stream:
        expect(size_of(stream) <= MAX_BYTES, f"{size_of(stream):,} bytes, where at most {MAX_BYTES:,} are expected")
        zipped = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        if not zipped:
            return _of_hdf5(stream.read(), None)
        archive = Archive(stream)
        config = _described(archive.read("config.json", _LARGEST_TEXT).decode())
        return _of_hdf5(archive.read("model.weights.h5"), config)


def _described(text: str) -> Mapping[str, object]:
    config = json.loads(text)
    expect(isinstance(config, dict), "a description that is no JSON object")
    assert isinstance(config, dict)
    return config


def _of_hdf5(content: bytes, config: Mapping[str, object] | None) -> KerasFile:
    """What the program hdf5.py reads. config: the description of the network, if it is not in the HDF5 file."""
    head, _, numbers = _run(content).partition(b"\n")
    said = json.loads(head)
    expect(isinstance(said, dict), "the HDF5 library gives no answer that can be read")
    if "refused" in said:
        raise RefusedError(str(said["refused"]))
    if "damaged" in said:
        raise ValueError(str(said["damaged"]))
    expect(_is_answer(said), "the HDF5 library gives no answer that can be read")
    if config is None and said["config"] is not None:
        config = _described(said["config"])
    weights: dict[str, list[Array]] = {}
    rest = memoryview(numbers)
    for layer, arrays in said["layers"]:
        weights[layer] = []
        for dtype, shape in arrays:
            size = math.prod(shape) * (2 if dtype == BFLOAT16 else int(dtype[2:]))
            weights[layer].append(elements(rest[:size], dtype, ">" if dtype[0] == ">" else "<").reshape(shape))
            rest = rest[size:]
    return KerasFile(config, weights, said["by_name"])


def _is_answer(said: object) -> bool:
    """Whether the program, which damaged bytes may have taken over, names layers of arrays with types and shapes."""
    if not isinstance(said, dict) or not isinstance(said.get("by_name"), bool) or not isinstance(said.get("layers"), list):
        return False
    if not isinstance(said.get("config"), (str, type(None))):
        return False
    layers = said["layers"]
    if not all(_is_pair(layer) and isinstance(layer[0], str) and isinstance(layer[1], list) for layer in layers):
        return False
    return all(_is_pair(array) and _is_type(array[0]) and _is_shape(array[1]) for _, arrays in layers for array in arrays)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _is_type(value: object) -> bool:
    return value == BFLOAT16 or (isinstance(value, str) and re.fullmatch(r"[<>|=][fiub](1|2|4|8|16)", value) is not None)


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_AXES and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _run(content: bytes) -> bytes:
    """The output of hdf5.py for the bytes of an HDF5 file. Raises ValueError if the library crashes, or does not end."""
    command = [sys.executable, "-I", "-c", _RUN, str(_PROGRAM), json.dumps(sys.path)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_SECONDS + (len(content) >> 20), check=False)
    except subprocess.TimeoutExpired:
        raise ValueError("the HDF5 library does not end") from None
    if done.returncode:
        raise ValueError(f"the HDF5 library fails, exit code {done.returncode}")
    return done.stdout
