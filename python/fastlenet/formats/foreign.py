"""Recognises files of weights in other formats by their first bytes. They are never loaded, since loading can execute code."""

from __future__ import annotations

from pathlib import Path

__all__ = ["what_it_is"]

_WRITE = "write its arrays with safetensors.numpy.save_file"


def what_it_is(head: bytes, path: Path) -> str | None:
    """Returns the format of a file and how to convert it to safetensors, or None for an unknown one.

    head: its first 512 bytes. path: its name, for the conversion's code.
    """
    if head.startswith(b"PK\x03\x04"):
        return _archive(head[30 : 30 + int.from_bytes(head[26:28], "little")], path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if head[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19":  # the magic number of torch.save before version 1.6
            return _torch(path)
        return f"a pickle, which could run any code when it is loaded; load it where you trust it, and {_WRITE}"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _keras()
    if head.startswith(b"\x93NUMPY"):
        return f"a NumPy array without a name; {_WRITE}"
    if head.startswith(b"GGUF"):
        return "a GGUF file, of a language model"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS instead of the file; git lfs pull brings it"
    return None


def _archive(first: bytes, path: Path) -> str:
    """The format of a zip archive; first: the name of its first file."""
    if first.endswith((b"data.pkl", b"/version", b"/byteorder", b"/.format_version")):
        return _torch(path)
    if first.endswith(b".npy"):
        source, target = _names(path)
        lines = f"import numpy, safetensors.numpy; safetensors.numpy.save_file(dict(numpy.load({source})), {target})"
        return f"a NumPy archive (.npz); convert it in Python: {lines}"
    if first in (b"metadata.json", b"config.json", b"model.weights.h5"):
        return _keras()
    return f"a zip archive; {_WRITE}"


def _torch(path: Path) -> str:
    source, target = _names(path)
    lines = f"import torch, safetensors.torch; safetensors.torch.save_file(torch.load({source}), {target})"
    return f"a file of torch.save, which is not read here; convert its state_dict in Python: {lines}"


def _keras() -> str:
    return (
        "an HDF5 or Keras file; read its arrays with h5py, turn kernels (r, s, c, k) into (k, c, r, s) and matrices "
        "(in, out) into (out, in), and write them with safetensors.numpy.save_file"
    )


def _names(path: Path) -> tuple[str, str]:
    """The names of the file and of the converted file, as Python string literals."""
    if len(str(path)) > 200:
        return "'FILE'", "'FILE.safetensors'"
    return repr(str(path)), repr(str(path.with_suffix(".safetensors")))
