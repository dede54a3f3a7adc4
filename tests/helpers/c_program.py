"""Compiles an exported C file, and runs it on images."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fastlenet.exports.c_header import write
from fastlenet.exports.content import Request
from fastlenet.nn import Sequential
from fastlenet.quantization import QuantizedModel
from helpers.arrays import Array
from helpers.expect import expect_within

__all__ = ["COMPILERS", "MAIN", "ODD_COMPILERS", "STRICT", "Answers", "Program", "expect_probabilities", "in_c"]

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
# Those that are installed. A compiler may compute in more bits than float32 has, or fuse a product with a sum.
COMPILERS = [
    command
    for command in (("cc", *STRICT), ("clang", *STRICT), ("c++", "-x", "c++", *STRICT[1:]))
    if shutil.which(command[0]) is not None
]
ODD_COMPILERS = [
    *((*command, level) for command in COMPILERS for level in ("-O0", "-Os")),
    ("cc", "-std=gnu99", "-O3", "-ffp-contract=fast", "-march=native"),
    ("cc", "-std=gnu99", "-O3", "-ffast-math", "-march=native"),
    *([("gcc", "-std=gnu99", "-O2", "-mfpmath=387")] if platform.machine() == "x86_64" and shutil.which("gcc") else []),
]
# Reads images, and writes the class, the logits and the probabilities of each.
MAIN = """\
#include <stdio.h>
#include "network.h"
int main(void)
{
    static uint8_t image[FASTLENET_PIXELS];
    static float numbers[2 * FASTLENET_CLASSES];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        const int32_t number = fastlenet_predict(image, numbers + FASTLENET_CLASSES);
        fastlenet_logits(image, numbers);
        fwrite(&number, sizeof number, 1, stdout);
        fwrite(numbers, sizeof numbers, 1, stdout);
    }
    return fflush(stdout) != 0;
}
"""


def in_c(model: Sequential, quantized: QuantizedModel | None = None) -> str:
    return write(Request(model, quantized)).content.decode("ascii")


class Answers:
    """numbers: int32 (n,). logits, probabilities: float32 (n, classes)."""

    def __init__(self, raw: bytes, count: int) -> None:
        words = np.frombuffer(raw, np.int32).reshape(count, -1)
        self.numbers = words[:, 0]
        self.logits, self.probabilities = np.split(words[:, 1:].view(np.float32), 2, axis=1)


class Program:
    """A program of an exported C file.

    text: the file. compiler: with its flags. sources: the other files, which include "network.h". run: what starts the program,
    such as an emulator.
    """

    def __init__(
        self,
        text: str,
        folder: Path,
        compiler: Sequence[str] = ("cc", *STRICT, "-O3"),
        *,
        sources: Mapping[str, str] | None = None,
        run: Sequence[str] = (),
    ) -> None:
        sources = {"main.c": MAIN} if sources is None else sources
        folder.mkdir(exist_ok=True)
        for name, code in {"network.h": text, **sources}.items():
            (folder / name).write_text(code, encoding="ascii")
        self.command = [*run, str(folder / "program")]
        compile = [*compiler, *sources, "-o", "program"]
        done = subprocess.run(compile, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[:5000]

    def output(self, given: bytes = b"") -> bytes:
        """What the program prints. given: its standard input."""
        done = subprocess.run(self.command, input=given, capture_output=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr[:5000].decode()
        return done.stdout

    def __call__(self, images: Array) -> Answers:
        """images: uint8 (n, ...)."""
        assert images.dtype == np.uint8
        return Answers(self.output(images.tobytes()), len(images))


def expect_probabilities(answers: Answers, expected: Array, off: Array | float) -> None:
    """The probabilities are those expected of logits that may be off by so much.

    A probability is a quotient of exponentials. Each is off by a factor of exp(off), by the rounding of the difference of two
    logits, and by the 5e-7 of fastlenet_exp; at most u for each class is added by their sum.
    """
    logits = answers.logits.astype(np.float64)
    below = logits.max(axis=1, keepdims=True) - logits
    bound = np.expm1(2 * off + 2.0**-24 * (below + logits.shape[1]) + 1e-6) * expected
    expect_within(answers.probabilities, expected, bound + 2.0**-126)
