"""Compiles an exported C file, and runs it on images."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from helpers.arrays import Array

__all__ = ["MAIN", "STRICT", "Answers", "Program"]

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
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
