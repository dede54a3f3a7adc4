"""The types that the writers of all formats share: the request, the file's content, and the error for the user."""

from __future__ import annotations

from dataclasses import dataclass

from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel

__all__ = ["Content", "ExportError", "Request"]


class ExportError(ValueError):
    """A model cannot be written in a format. The message is one line with the cure."""


@dataclass(frozen=True)
class Request:
    """What is to be written. quantized: the model in integers, if int8 was asked for, or if the format has only that."""

    model: Sequential
    quantized: QuantizedModel | None = None
    with_normalisation: bool = False


@dataclass(frozen=True)
class Content:
    """A file. lines: what its user should know about it, such as its memory; the command prints them."""

    content: bytes
    lines: tuple[str, ...] = ()
