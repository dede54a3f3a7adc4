"""Files of weights of other programs: the table of the formats that are read, and the errors for others.

A format is recognised by the first bytes of a file, or else by its suffix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fastlenet.backend import Array
from fastlenet.formats.archives import Archive
from fastlenet.formats.caffe import CaffeFile, read_caffe
from fastlenet.formats.keras import KerasFile, read_keras
from fastlenet.formats.npz import read_npz
from fastlenet.formats.onnx import OnnxFile, read_onnx
from fastlenet.formats.opening import RefusedError, opened
from fastlenet.formats.pytorch import OLD_MAGIC, read_pytorch

__all__ = ["FORMATS", "HEAD", "Contents", "Format", "foreign_format", "what_it_is"]

HEAD = 512  # bytes by which a file is recognised

Contents = Mapping[str, Array] | KerasFile | CaffeFile | OnnxFile


class Format(NamedTuple):
    """A format that is read. name: in words. suffixes: of its files. read: returns what a file holds, or raises
    CheckpointError. any_layout: whether its arrays may be laid out as those of PyTorch, or of Keras.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Contents]
    any_layout: bool = False


FORMATS: Mapping[str, Format] = {
    "pytorch": Format("a file of PyTorch", (".pt", ".pth"), read_pytorch),
    "keras": Format("a file of Keras", (".keras", ".h5", ".hdf5"), read_keras),
    "caffe": Format("a file of Caffe", (".caffemodel",), read_caffe),
    "onnx": Format("an ONNX file", (".onnx",), read_onnx),
    "npz": Format("a NumPy archive", (".npz",), read_npz, any_layout=True),
}
_SAFETENSORS = b"{"  # the first byte of its header, after the eight of the header's length
_HDF5 = b"\x89HDF\r\n\x1a\n"
_READ = "fastlenet.load reads it, and fastlenet convert writes a model's file"


def foreign_format(path: Path) -> Format | None:
    """Returns the format of a file, or None if its bytes or its suffix are those of no other program.

    Raises CheckpointError for a file of a format that is never read, with the cure.
    """
    with opened(path, "a file of weights") as stream:
        head = stream.read(HEAD)
        if head[8:9] == _SAFETENSORS:
            return None
        name = _zipped(Archive(stream)) if head.startswith(b"PK\x03\x04") else _recognised(head)
        if name is None:
            refused = what_it_is(head)
            if refused is not None:
                raise RefusedError(refused)
            name = next((key for key, kind in FORMATS.items() if path.suffix.lower() in kind.suffixes), None)
        return None if name is None else FORMATS[name]


def _zipped(archive: Archive) -> str | None:
    """The format of a zip archive, by the names of its members."""
    names = archive.names
    if any(name.endswith("/data.pkl") for name in names):
        return "pytorch"
    if "model.weights.h5" in names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else None


def _recognised(head: bytes) -> str | None:
    if head.startswith(_HDF5):
        return "keras"
    return "pytorch" if head[:1] == b"\x80" and head[2:].startswith(OLD_MAGIC) else None


def what_it_is(head: bytes) -> str | None:
    """Returns what a file is that a reader of safetensors is given, and what to do, or None. head: its first bytes."""
    if head.startswith(b"PK\x03\x04") or _recognised(head):
        return f"a file of another program; {_READ}"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        write = "load it where you trust it, and write its arrays with safetensors.numpy.save_file"
        return f"a pickle, which could run any code when it is loaded; {write}"
    if head.startswith(b"\x93NUMPY"):
        return "a NumPy array without a name; numpy.savez writes arrays with names"
    if head.startswith(b"GGUF"):
        return "a GGUF file, of a language model"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS instead of the file; git lfs pull brings it"
    return None
