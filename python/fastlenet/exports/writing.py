"""Writes a model to a file for other programs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastlenet.data.catalogue import load
from fastlenet.exports.content import Content, ExportError, Request
from fastlenet.fields import FieldTypeError, Values
from fastlenet.files import CheckpointError, shown_path, user_path, write_atomically
from fastlenet.inference.forward import expect_finite
from fastlenet.nn import Sequential
from fastlenet.nn.described import plain_kind
from fastlenet.nn.description import expect_library_layers
from fastlenet.quantization import QuantizedModel

__all__ = ["FORMATS", "ExportError", "Exported", "Format", "export", "format_of"]

_FLAG = Values(bool)


@dataclass(frozen=True)
class Format:
    """A kind of file. module: has write(request), which returns its Content. sentence: its line of help.

    int8: whether it can be written in integers: "can" or "always". with_normalisation: whether it can take raw images or
    normalised ones; if not, it takes raw images.
    """

    module: str
    sentence: str
    int8: str
    with_normalisation: bool = False


FORMATS: Mapping[str, Format] = {
    ".onnx": Format("fastlenet.exports.onnx_file", "ONNX, for many runtimes", "can", with_normalisation=True),
    ".h": Format("fastlenet.exports.c_header", "C99, for microcontrollers too", "can"),
    ".html": Format("fastlenet.exports.html", "a page to draw on", "always"),
}


@dataclass(frozen=True)
class Exported:
    """A file that was written. lines: what its user should know about it. quantized: the model in integers, if it has these."""

    path: Path
    bytes: int
    lines: tuple[str, ...]
    quantized: QuantizedModel | None


def format_of(path: str | os.PathLike[str]) -> Format:
    """Returns the format that a file's suffix names. Raises ExportError."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(f"{name} ({kind.sentence})" for name, kind in FORMATS.items())
        raise ExportError(f"{shown_path(path)}: the name of an exported file expects one of the endings {known}")
    return FORMATS[suffix]


def export(
    model: Sequential | QuantizedModel,
    path: str | os.PathLike[str],
    *,
    int8: bool = False,
    with_normalisation: bool = False,
    data: object = None,
) -> Exported:
    """Write a model to a file for other programs. The suffix names the format: .onnx, .h or .html.

    model: a network, or what model.quantize made of it, which is written in its integers.
    int8: in integers of 8 bits, as model.quantize makes them; for .onnx and .h. A .html file always has them.
    with_normalisation: a .onnx file that takes raw images, uint8 (n, c, h, w), and gives probabilities. Without it, it takes
    normalised images, float32, or with int8 raw ones, and gives scores. The other formats always take raw images.
    data: a Dataset, or raw images, whose activations give the ranges of int8; by default MNIST, for a model of such images.

    If the file exists, it is replaced as a whole. Raises ExportError or TypeError, in one line, for a model or an option that
    the format does not take, and CheckpointError if the file cannot be written.

        >>> import fastlenet
        >>> made = fastlenet.export(fastlenet.LeNet.pretrained(), "model.onnx", int8=True, with_normalisation=True)
        >>> made.path.name, made.quantized.nbytes
        ('model.onnx', 435161)
        >>> print(*made.lines)
        images: uint8 (n, 1, 28, 28) -> probabilities: float32 (n, 10)
    """
    if not isinstance(model, (Sequential, QuantizedModel)):
        raise FieldTypeError("model", model, "one network, a Sequential such as LeNet", "export: ", _one_of_several(model))
    if isinstance(model, Sequential):
        plain_kind(type(model), "export")
        expect_library_layers("export", model.names, model.layers)
    kind = format_of(path)
    int8 = _FLAG.convert("export: int8", int8)
    with_normalisation = _FLAG.convert("export: with_normalisation", with_normalisation)
    if with_normalisation and not kind.with_normalisation:
        raise ExportError(f"{shown_path(path)}: this format always takes raw images; leave with_normalisation out")
    if model.facts.preprocessing:
        what = f"the model preprocesses its images ({model.facts.preprocessing}), which no format can hold"
        raise ExportError(f"{shown_path(path)}: {what}; export a network whose recipe has width 0 and no deskew")
    try:
        quantized = _quantized(model, data, int8 or kind.int8 == "always")
        write: Callable[[Request], Content] = importlib.import_module(kind.module).write
        made = write(Request(model, quantized, with_normalisation))
    except ValueError as error:  # an ExportError too
        raise ExportError(f"{shown_path(path)}: {error}") from None
    except OSError as error:  # of the page's or the C code's parts
        reason = error.strerror or error
        raise CheckpointError(f"{shown_path(path)}: not written; a file of fastlenet cannot be read ({reason})") from None
    write_atomically(path, made.content)
    return Exported(user_path(path), len(made.content), made.lines, quantized)


def _quantized(model: Sequential | QuantizedModel, data: object, wanted: bool) -> QuantizedModel | None:
    if isinstance(model, QuantizedModel):
        return model
    expect_finite(model)
    return model.quantize(_calibration(model, data)) if wanted else None


def _one_of_several(model: object) -> str:
    return "export one of its members: export(ensemble[0], ...)" if hasattr(model, "members") else ""


def _calibration(model: Sequential, data: object) -> object:
    """The images that give the ranges of integers: those given, or MNIST for a model of such images."""
    if data is not None:
        return data
    mnist = load("mnist")
    if model.facts.input_shape != mnist.input_shape:
        raise ExportError("int8 needs images such as the model was trained on: give data, a Dataset or raw images")
    return mnist
