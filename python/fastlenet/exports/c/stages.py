"""A network as C statements: which layers run together, and in which buffers.

A stage is a layer with a new output, and the activations after it, which need no buffer of their own. A convolution, its
activations and a pooling are one stage, which runs channel by channel. So only one channel of the convolution's output is in
memory, not all of them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fastlenet.backend import Array, Shape
from fastlenet.exports.c.text import WIDTH, array, in_comment
from fastlenet.exports.content import ExportError
from fastlenet.nn.layers.base import Sizes

__all__ = ["LARGEST", "Buffer", "Constant", "Part", "Program", "define_window", "program", "sized"]

LARGEST = 2**31 - 1  # C's indices are int32_t
Kind = Literal["input", "conv", "pool", "linear", "pointwise", "nothing"]
_BYTES = {"float": 4, "int32_t": 4, "int8_t": 1, "uint8_t": 1}


@dataclass(frozen=True)
class Constant:
    """A constant array. kind: float, int8_t, uint8_t or int32_t."""

    kind: str
    name: str
    values: Array
    comment: str

    @property
    def bytes(self) -> int:
        return self.values.size * _BYTES[self.kind]

    def text(self) -> str:
        return array(self.kind, self.name, self.values, self.comment)


@dataclass(frozen=True)
class Buffer:
    """An array that holds activations."""

    kind: str
    name: str
    size: int

    @property
    def bytes(self) -> int:
        return self.size * _BYTES[self.kind]


@dataclass(frozen=True)
class Part:
    """A layer in C. name, layer: the layer's name and class, for the reader.

    kind: "input" and "linear" compute a whole output, "conv" channel k of it, "pool" one channel, "pointwise" changes its
    target in place, "nothing" computes nothing. shape: of the output. call: the C expression, where {x} is the source, {y} the
    target and {n} the number of elements that it computes. struct: the definition of the window that it uses. sums: the size of
    the array of sums that it needs.
    """

    name: str
    layer: str
    kind: Kind
    shape: Shape
    call: str
    constants: Sequence[Constant] = ()
    struct: str = ""
    sums: int = 0

    def statement(self, source: str, target: str, size: int) -> str:
        return self.call.format(x=source, y=target, n=size) + ";"


@dataclass(frozen=True)
class Program:
    """The statements of a network, and the buffers that they use."""

    statements: Sequence[str]
    buffers: Sequence[Buffer]

    @property
    def bytes(self) -> int:
        return sum(buffer.bytes for buffer in self.buffers)


def program(parts: Sequence[Part], kind: str, shape: Shape) -> Program:
    """Returns the statements that compute `logits` of `image`. kind: the type of the activations. shape: of the image.

    The outputs of the stages are in buffers a and b in turn; the last one is in `logits`.
    """
    stages = _stages(parts)
    sizes = {"a": 0, "b": 0, "plane": 0}
    statements: list[str] = []
    source = "image"
    for number, stage in enumerate(stages):
        target = "logits" if number == len(stages) - 1 else "ab"[number % 2]
        statements += _comment(stage, shape)
        head, *rest = [part for part in stage if part.kind != "nothing"]
        if target in sizes:
            sizes[target] = max(sizes[target], math.prod(stage[-1].shape))
        if head.kind in ("conv", "pool"):
            statements += _by_channel(head, rest, source, target, math.prod(shape[1:]))
            if any(part.kind == "pool" for part in rest):
                sizes["plane"] = max(sizes["plane"], math.prod(head.shape[1:]))
        else:
            size = math.prod(head.shape)
            statements += [head.statement(source, target, size), *(part.statement(target, target, size) for part in rest)]
        source, shape = target, stage[-1].shape
    buffers = [
        *(Buffer(kind, name, size) for name, size in sizes.items()),
        Buffer("int32_t", "sums", max(part.sums for part in parts)),
    ]
    return Program([line for text in statements for line in _wrapped(text)], [buffer for buffer in buffers if buffer.size])


def _stages(parts: Sequence[Part]) -> list[list[Part]]:
    stages: list[list[Part]] = []
    for part in parts:
        kinds = [before.kind for before in stages[-1]] if stages else []
        joins = part.kind in ("pointwise", "nothing") or (part.kind == "pool" and kinds[:1] == ["conv"] and "pool" not in kinds)
        if stages and joins:
            stages[-1].append(part)
        elif part.kind != "nothing":  # of the image itself
            stages.append([part])
    return stages


def _by_channel(head: Part, rest: Sequence[Part], source: str, target: str, pixels: int) -> list[str]:
    """A loop over the channels of the output. What a pooling after a convolution reads is in `plane`.

    pixels: of a channel of the input.
    """
    size = math.prod(head.shape[1:])
    whole = f"{target} + k * {size}"
    pool = next((part for part in rest if part.kind == "pool"), None)
    place = whole if pool is None else "plane"
    loop = [head.statement(source if head.kind == "conv" else f"{source} + k * {pixels}", place, size)]
    for part in rest:
        if part is pool:
            size = math.prod(pool.shape[1:])
            whole = f"{target} + k * {size}"
            loop.append(part.statement(place, whole, size))
            place = whole
        else:
            loop.append(part.statement(place, place, size))
    return [f"for (int32_t k = 0; k < {head.shape[0]}; ++k) {{", *(f"  {line}" for line in loop), "}"]


def _wrapped(statement: str) -> list[str]:
    """A statement in lines that fit the file, indented by two."""
    indent = " " * (len(statement) - len(statement.lstrip()) + 6)
    whole = statement.replace(" + k * ", "\xa0+\xa0k\xa0*\xa0")  # at which textwrap does not break
    lines = textwrap.wrap(f"  {whole}", WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _comment(stage: Sequence[Part], shape: Shape) -> list[str]:
    names = ", ".join(in_comment(part.name) for part in stage)
    return [f"/* {names}: {sized(shape)} -> {sized(stage[-1].shape)} */"]


def define_window(name: str, kernel_size: Sizes, stride: Sizes, padding: Sizes, shape: Shape, out: Shape) -> str:
    """Returns the definition of a fastlenet_window. shape, out: of the layer's input and output."""
    if any(size + 2 * pad > LARGEST for size, pad in zip(shape[1:], padding, strict=True)):
        raise ExportError(f"C indexes at most {LARGEST:,} pixels a side, and {name} has more with its padding of {padding}")
    numbers = (*shape, *out[1:], *kernel_size, *stride, *padding)
    return f"static const fastlenet_window {name} = {{{', '.join(map(str, numbers))}}};"


def sized(shape: Shape) -> str:
    """Returns a shape as 1x28x28."""
    return "x".join(map(str, shape))
