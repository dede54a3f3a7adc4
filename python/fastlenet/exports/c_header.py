"""A model as one file of C99, which needs no library."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from fastlenet.backend import Shape
from fastlenet.config import config
from fastlenet.exports.c import float32
from fastlenet.exports.c.stages import Part, Program, program, sized
from fastlenet.exports.c.text import WIDTH, identifiers, in_comment, names_table
from fastlenet.inference.facts import ModelFacts
from fastlenet.nn import Sequential

__all__ = ["CHeader", "c_header"]

_CODE = Path(__file__).parent / "c"
_CALL = re.compile(r"\bfastlenet_\w+(?=\()")
_WINDOW = """\
/* A window that slides over an image. */
typedef struct {
  int32_t channels, height, width;   /* of the input */
  int32_t out_height, out_width;     /* of the output */
  int32_t rows, columns;             /* of the window */
  int32_t row_stride, column_stride;
  int32_t row_padding, column_padding; /* on each side of the input */
} fastlenet_window;
"""
_GUARD = """\
#ifndef FASTLENET_NETWORK
#define FASTLENET_NETWORK CHECKSUM

BODY

#elif FASTLENET_NETWORK != CHECKSUM
#error "a C file can include one network of fastlenet: include this one in another file"
#endif
"""
_STORAGE = """\
/* Where the activations are: on the stack, or by #define FASTLENET_STORAGE static elsewhere. */
#ifndef FASTLENET_STORAGE
#define FASTLENET_STORAGE
#endif"""


@dataclass(frozen=True)
class CHeader:
    """A C file. text: ASCII. constants: the bytes of weights and tables. stack: the bytes of the arrays of activations."""

    text: str
    constants: int
    stack: int


def c_header(model: Sequential) -> CHeader:
    """Returns a model in C, in float32. The model knows its images, and all its layers are the library's."""
    parts = float32.parts(model, identifiers(model.names))
    return _written(type(model).__name__, "float32", model.facts, parts, "float")


def _written(kind: str, precision: str, facts: ModelFacts, parts: Sequence[Part], activations: str) -> CHeader:
    """The file. kind: the model's class. activations: their type in C."""
    assert facts.input_shape is not None
    made = program(parts, activations, facts.input_shape)
    constants = [constant for part in parts for constant in part.constants]
    classes = parts[-1].shape[0]
    header = CHeader("", sum(constant.bytes for constant in constants), made.bytes + 4 * classes)
    windows = [part.window for part in parts if part.window]
    names = [str(name) for name in facts.class_names or range(classes)]
    body = "\n\n".join(
        [
            "#include <stdint.h>",
            _sizes(facts.input_shape, classes),
            _STORAGE,
            names_table("fastlenet_class_names", "FASTLENET_CLASSES", names),
            *([_WINDOW + "\n".join(windows)] if windows else []),
            *(constant.text() for constant in constants),
            *_needed(["common", precision], [*made.statements, _code("predict")[-1]]),
            _logits(made),
            *_code("predict"),
        ]
    )
    guard = _GUARD.replace("CHECKSUM", f"0x{crc32(body.encode('ascii')):08x}").replace("BODY", body)
    return CHeader(f"{_head(kind, precision, facts.input_shape, parts, header)}\n\n{guard}", header.constants, header.stack)


def _head(kind: str, precision: str, shape: Shape, parts: Sequence[Part], header: CHeader) -> str:
    """The comment at the top."""
    layers = [f"  {in_comment(part.name):12} {part.layer:10} {sized(part.shape)}" for part in parts]
    lines = [
        f"{in_comment(kind)} in {precision}: images of {sized(shape)} bytes, {parts[-1].shape[0]:,} classes.",
        f"Written by fastlenet {config()['version']}. C99 or C++; it needs <stdint.h> alone, and no library.",
        "",
        '    #include "this file"',
        "    float probabilities[FASTLENET_CLASSES];",
        "    int number = fastlenet_predict(image, probabilities);",
        "",
        "    cc -std=c99 -O3 program.c",
        "",
        *textwrap.wrap(
            f"Constants: {header.constants:,} bytes. Stack: {header.stack:,} bytes of activations, and some hundred bytes of "
            "calls. Every function and constant is static: each file that calls fastlenet_predict has its own.",
            WIDTH - 3,
        ),
        "",
        "The layers, and the sizes of their outputs:",
        *layers,
    ]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */"])


def _sizes(shape: Shape, classes: int) -> str:
    c, h, w = shape
    numbers = {"CLASSES": classes, "CHANNELS": c, "HEIGHT": h, "WIDTH": w}
    lines = [f"#define FASTLENET_{name} {number}" for name, number in numbers.items()]
    return "\n".join([*lines, "#define FASTLENET_PIXELS (FASTLENET_CHANNELS * FASTLENET_HEIGHT * FASTLENET_WIDTH)"])


def _logits(made: Program) -> str:
    arrays = [f"FASTLENET_STORAGE {buffer.kind} {buffer.name}[{buffer.size}];" for buffer in made.buffers]
    lines = "\n".join([*(f"  {line}" for line in arrays), *made.statements])
    return (
        "/* The last layer's outputs. image: as fastlenet_predict takes it. */\n"
        f"static inline void fastlenet_logits(const uint8_t *image, float *logits) {{\n{lines}\n}}"
    )


def _code(name: str) -> list[str]:
    """The functions of a file, each with its comment."""
    return (_CODE / f"{name}.c").read_text(encoding="ascii").strip().split("\n\n")


def _needed(files: Sequence[str], callers: Iterable[str]) -> list[str]:
    """The functions of the files that the callers call, and those that these call, in the files' order."""
    functions = {}
    for text in (text for file in files for text in _code(file)):
        functions[_CALL.findall(text[text.index("static inline") :])[0]] = text
    names, wanted = set(), [name for text in callers for name in _CALL.findall(text)]
    while wanted:
        name = wanted.pop()
        if name in functions and name not in names:
            names.add(name)
            wanted += _CALL.findall(functions[name])
    return [text for name, text in functions.items() if name in names]
