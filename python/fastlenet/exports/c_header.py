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
from fastlenet.exports.c import float32, int8
from fastlenet.exports.c.stages import LARGEST, Part, Program, program, sized
from fastlenet.exports.c.text import MOST_LITERAL, WIDTH, identifiers, in_comment, names_table
from fastlenet.exports.content import Content, ExportError, Request, expect_normalised_images, kind_of, outputs_of
from fastlenet.inference.facts import ModelFacts
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel

__all__ = ["write"]

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
/* The activations are on the stack; #define FASTLENET_STORAGE static puts them elsewhere. */
#ifndef FASTLENET_STORAGE
#define FASTLENET_STORAGE
#endif"""


@dataclass(frozen=True)
class _Sizes:
    """constants: the bytes of weights and tables. stack: the bytes of activations."""

    constants: int
    stack: int

    def __str__(self) -> str:
        return f"{self.constants:,} bytes of constants; {self.stack:,} bytes of activations on the stack"


def write(request: Request) -> Content:
    """Returns a model in C: in integers, if it was quantized, or in float32. Raises ExportError."""
    model, quantized = request.model, request.quantized
    _expect_exportable(model)
    if quantized is None:
        assert isinstance(model, Sequential)
        parts, precision, activations = float32.parts(model, identifiers(model.names)), "float32", "float"
    else:
        names = [layer.name for layer in quantized.layers]
        parts, precision, activations = int8.parts(quantized, identifiers(names)), "int8", "uint8_t"
    return _written(kind_of(model), precision, model.facts, parts, activations)


def _expect_exportable(model: Sequential | QuantizedModel) -> None:
    """Raise ExportError or TypeError unless C can compute the model from raw images."""
    expect_normalised_images(model, "C")
    shape = outputs_of(model)
    if len(shape) != 1:
        raise ExportError(f"the model gives an output of shape {shape}, where C needs a score for each class; add Flatten()")
    longest = max((len(str(name).encode("utf-8", "backslashreplace")) for name in model.class_names), default=0)
    if longest > MOST_LITERAL:
        raise ExportError(f"class_names: C takes names of at most {MOST_LITERAL:,} bytes, got one of {longest:,}")


def _written(kind: str, precision: str, facts: ModelFacts, parts: Sequence[Part], activations: str) -> Content:
    """The file. kind: the model's class. activations: their type in C."""
    assert facts.input_shape is not None
    made = program(parts, activations, facts.input_shape)
    constants = [constant for part in parts for constant in part.constants]
    classes = parts[-1].shape[0]
    sizes = _Sizes(sum(constant.bytes for constant in constants), made.bytes + 4 * classes)
    if sizes.stack > LARGEST:
        raise ExportError(f"C indexes at most {LARGEST:,} bytes of activations, and the model needs {sizes.stack:,}")
    windows = [part.struct for part in parts if part.struct]
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
    text = f"{_head(kind, precision, facts.input_shape, parts, sizes)}\n\n{guard}"
    return Content(text.encode("ascii"), (str(sizes),))


def _head(kind: str, precision: str, shape: Shape, parts: Sequence[Part], sizes: _Sizes) -> str:
    """The comment at the top."""
    layers = [f"  {in_comment(part.name):12} {part.layer:10} {sized(part.shape)}" for part in parts]
    lines = [
        f"{in_comment(kind)} in {precision}: images of {sized(shape)} bytes, {parts[-1].shape[0]:,} classes.",
        f"Written by fastlenet {config()['version']}. C99 or C++; it needs <stdint.h> alone, and no library.",
        "",
        '    #include "model.h"    this file, by its name',
        "    float probabilities[FASTLENET_CLASSES];",
        "    int number = fastlenet_predict(image, probabilities);",
        "",
        "    cc -std=c99 -O3 program.c",
        "",
        *textwrap.wrap(
            f"Memory: {sizes}, and some hundred bytes for calls. Everything is static: each file that calls fastlenet_predict "
            "has its own constants.",
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
