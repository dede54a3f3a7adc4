"""The exported C file: any names, any program around it, its sizes, what is refused, the command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet
from fastlenet.cli.main import main
from fastlenet.data import Dataset
from fastlenet.exports import ExportError
from fastlenet.exports.c_header import write
from fastlenet.exports.content import Request
from fastlenet.models.ensemble import Ensemble
from fastlenet.nn import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential, Sigmoid
from helpers.arrays import Array
from helpers.c_program import COMPILERS, MAIN, STRICT, Program, in_c
from helpers.expect import expect_same_bits
from helpers.rounding import expect_as_model
from helpers.small_networks import small

HOSTILE = ['"', "\\", "end\\", "*/ int x; /*", "??/", "what??!", "\n#error\n", "\t\r\x7f\x1b[31m", "Zürich 東京 🎉", "%s%n", ""]
HOSTILE += ["\udc80", "x" * 4095, "// \\\n", "\x019"]
PRINT_NAMES = """\
#include <stdio.h>
#include "network.h"
int main(void)
{
    for (int k = 0; k < FASTLENET_CLASSES; ++k) {
        printf("%s%c", fastlenet_class_name(k), 0);
    }
    return 0;
}
"""


@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler[0])
def test_any_class_names(compiler: tuple[str, ...], tmp_path: Path) -> None:
    model = small(len(HOSTILE))
    model.set_facts(class_names=HOSTILE)
    said = Program(in_c(model), tmp_path, compiler, sources={"main.c": PRINT_NAMES}).output()
    assert said.split(b"\0")[:-1] == [name.encode("utf-8", "backslashreplace") for name in HOSTILE]


def test_any_layer_names(tmp_path: Path, rng: np.random.Generator) -> None:
    """None of them is an identifier, or stays in its comment by itself."""
    names = ["*/ int x; /*", "??/", "\n", "Zürich", "x" * 100, ""]
    layers = [Conv2d(1, 2, 1), ReLU(), MaxPool2d(1), Flatten(), Linear(8, 3), Linear(3, 2)]
    model = Sequential(*layers, names=names, input_shape=(1, 2, 2))
    model.set_facts(mean=0.5, std=0.25)
    images = rng.integers(0, 256, (5, 1, 2, 2)).astype(np.uint8)
    text = in_c(model)
    expect_as_model(model, Program(text, tmp_path)(images), images)
    assert max(map(len, text.splitlines())) <= 100 and text.isascii()


CALL = """\
#include "network.h"
int NAME(const uint8_t *image);
int NAME(const uint8_t *image) { return fastlenet_predict(image, 0); }
"""
SEVERAL = {
    "one.c": CALL.replace("NAME", "one"),
    "two.c": CALL.replace("NAME", "two") + '#include "network.h"\n',
    "sizes.c": '#include "network.h"\nextern const int classes;\nconst int classes = FASTLENET_CLASSES;\n',
    "main.c": """\
#include "network.h"
int one(const uint8_t *image);
int two(const uint8_t *image);
extern const int classes;
int main(void)
{
    const uint8_t image[FASTLENET_PIXELS] = {0};
    return one(image) != two(image) || classes != 3;
}
""",
}


@pytest.mark.parametrize("compiler", COMPILERS[:2], ids=lambda compiler: compiler[0])
def test_several_files_of_a_program(compiler: tuple[str, ...], tmp_path: Path) -> None:
    """Those that predict, and those that want only the sizes. No symbol is there twice, and none is unused."""
    Program(in_c(small(3)), tmp_path, compiler, sources=SEVERAL).output()


def test_the_program_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (program,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    for compiler in COMPILERS:
        done = Program(in_c(small(3)), tmp_path, compiler, sources={"main.c": program.replace("model.h", "network.h")})
        number, probability = done.output().split()
        assert int(number) in range(3) and float(probability) > 1 / 3


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.h").write_text(in_c(small(4)))
    with pytest.raises(AssertionError, match="a C file can include one network of fastlenet"):
        Program(in_c(small(3)), tmp_path, sources={"main.c": f'#include "other.h"\n{MAIN}'})


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_sizes(int8: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    """The stack and the constants are as large as the compiler says, and the file says so too."""
    layers = [Conv2d(3, 4, 5), ReLU(), MaxPool2d(2), Conv2d(4, 6, 3), Sigmoid(), Flatten(), Linear(600, 50), Linear(50, 7)]
    model = Sequential(*layers, input_shape=(3, 28, 28))
    model.set_facts(mean=0.5, std=0.25)
    made = write(Request(model, model.quantize(rng.integers(0, 256, (20, 3, 28, 28), np.uint8)) if int8 else None))
    text, (line,) = made.content.decode("ascii"), made.lines
    assert line in " ".join(text.replace(" *", "").split())
    constants, stack = (int(number.replace(",", "")) for number in re.findall(r"([0-9,]+) bytes", line))
    Program(text, tmp_path, ("cc", *STRICT, "-O0", "-fstack-usage"))
    frames = dict(re.findall(r":(fastlenet_\w+)\t(\d+)\t(?:static|dynamic,bounded)\n", next(tmp_path.glob("*.su")).read_text()))
    assert int(frames["fastlenet_predict"]) + int(frames["fastlenet_logits"]) >= stack
    assert sum(map(int, frames.values())) <= stack + 1500  # of the functions that call each other, and the others
    symbols = subprocess.run(["nm", "-S", tmp_path / "program"], capture_output=True, text=True, check=True).stdout
    sizes = {name: int(size, 16) for size, name in re.findall(r" (\w+) [rR] fastlenet_(\w+)", symbols)}
    assert sum(size for name, size in sizes.items() if not name.endswith(("_window", "class_names"))) == constants


# --- what is refused -----------------------------------------------------------------------------------------------------


class Own(ReLU):
    """A layer of one's own."""


class Called(Sequential):
    def __call__(self, x: Array) -> Array:
        return 2 * super().__call__(x)


def called() -> Sequential:
    model = Called(Flatten(), input_shape=(1, 2, 2))
    model.set_facts(mean=0.5, std=0.25)
    return model


def without_facts() -> Sequential:
    return Sequential(Flatten(), Linear(4, 3), input_shape=(1, 2, 2))


def with_nan() -> Sequential:
    model = small(3)
    model.parameters()["1.weight"][0] = np.nan
    return model


def known(*layers: Layer, shape: tuple[int, ...] = (1, 2, 2)) -> Sequential:
    model = Sequential(*layers, input_shape=shape)
    model.set_facts(mean=0.5, std=0.25)
    return model


def named(name: str) -> Sequential:
    model = small(2)
    model.set_facts(class_names=["a", name])
    return model


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Sequential(Flatten()), ExportError, "the shape of its input; fit sets it, or call model.set_facts"),
    (lambda: known(Linear(4, 3), shape=(4,)), ExportError, r"takes examples of shape \(4,\); C expects images"),
    (without_facts, ExportError, "how its images are normalised; fit sets this, or call model.set_facts"),
    (with_nan, ExportError, "NaN or infinity in 1.weight"),
    (lambda: known(Own(), Flatten()), TypeError, "layer '0': Own is not a layer of the library"),
    (lambda: known(Conv2d(1, 2, 2)), ExportError, r"an output of shape \(2, 1, 1\).*; add Flatten"),
    (lambda: named("x" * 4096), ExportError, "names of at most 4,095 bytes, got one of 4,096"),
    (lambda: known(Conv2d(1, 1, 1, padding=20_000), MaxPool2d(40_000), Flatten()), ExportError, "the model needs 6,4"),
    (lambda: known(Conv2d(1, 1, 1, stride=2**31 - 1, padding=2**31 - 1), Flatten()), ExportError, "pixels a side"),
    (called, TypeError, "Called defines __call__"),
    (lambda: Ensemble([small(2), small(2)]), TypeError, r"one network.*ensemble\[0\]"),
]


@pytest.mark.parametrize(("make", "kind", "message"), REFUSED)
def test_what_is_refused(make: Callable[[], object], kind: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message) as refused:
        fastlenet.export(make(), tmp_path / "m.h")  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


# --- the command ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(small_mnist: Path, tmp_path: Path, mnist: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    model = LeNet(input_shape=(1, 28, 28))
    model.set_facts(mean=0.1, std=0.3)
    model.save(tmp_path / "m.safetensors")
    assert main(["export", str(tmp_path / "m.safetensors"), str(tmp_path / "m.h"), "--int8", "--data", str(small_mnist)]) == 0
    path, sizes, accuracy = capsys.readouterr().out.splitlines()
    assert path == f"{tmp_path / 'm.h'}: {(tmp_path / 'm.h').stat().st_size:,} bytes"
    assert sizes == "435,161 bytes of constants; 4,392 bytes of activations on the stack"
    assert accuracy.startswith("accuracy on the 500 test images")
    images = mnist.test_images[:20]
    answers = Program((tmp_path / "m.h").read_text(), tmp_path / "c")(images)
    expect_same_bits(answers.logits, model.quantize(mnist.train_images[:2000]).logits(images[:, np.newaxis]))
