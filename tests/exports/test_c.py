"""The exported C file compiles without a warning, and computes what the model does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import Dataset
from fastlenet.exports.c_header import c_header
from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
from helpers.arrays import Array
from helpers.c_program import MAIN, STRICT, Answers, Program
from helpers.expect import expect_as_exact, expect_within
from helpers.rounding import exact_logits


def known(shape: tuple[int, int, int], *layers: Layer, names: tuple[str, ...] | None = None) -> Sequential:
    """A model of layers and the linear layer that they need, which takes bytes as they are: mean 0, deviation 1/255."""
    model = Sequential(*layers, names=names, input_shape=shape)
    model.set_facts(mean=0.0, std=1 / 255)
    return model


# Each with another kind of window; all sums of integers below 2^24, so that float32 is exact.
SHAPES = {
    "one pixel": (known((1, 1, 1), Flatten(), Linear(1, 1)), 1),
    "strides": (known((2, 11, 9), Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(2, 1)), ReLU(), Flatten(), Linear(84, 4)), 1),
    "huge padding": (known((1, 3, 2), Conv2d(1, 2, 2, padding=(40, 9), stride=(7, 5)), Flatten(), Linear(96, 3)), 1),
    "huge stride": (known((1, 5, 5), Conv2d(1, 2, 3, stride=2**31 - 1), MaxPool2d(1), Flatten()), 1),
    "overlapping pools": (
        known((3, 9, 10), MaxPool2d(3, 2, 1), Conv2d(3, 2, 2, bias=False), ReLU(), MaxPool2d((2, 3), 1, (1, 0)), Flatten()),
        1,
    ),
    "averages": (known((2, 8, 8), Conv2d(2, 4, 1), AvgPool2d(2), AvgPool2d((2, 4), (2, 1), (1, 2)), Flatten()), 64),
    "no layer but reshaping": (known((1, 4, 5), Dropout(0.5), Flatten()), 1),
    "the last is no linear layer": (known((1, 6, 6), Flatten(), Linear(36, 5), Dropout(0.5), LeakyReLU(0.5)), 2),
    "hundred classes": (known((1, 2, 2), Flatten(), Linear(4, 100, bias=False)), 1),
}


@pytest.mark.parametrize("case", SHAPES)
def test_every_shape_is_exact(case: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """With integers no sum is rounded, so that the logits have the model's bits."""
    model, factor = SHAPES[case]
    for array in model.parameters().values():
        array[...] = factor * rng.integers(-3, 4, array.shape)
    images = rng.integers(0, 256, (20, *model.facts.input_shape)).astype(np.uint8)
    answers = Program(c_header(model).text, tmp_path)(images)
    expected = model.eval()(images.astype(np.float32))
    np.testing.assert_array_equal(answers.logits, expected)
    np.testing.assert_array_equal(answers.numbers, expected.argmax(axis=1))


# --- the package's network -----------------------------------------------------------------------------------------------


def expect_as_model(model: Sequential, answers: Answers, images: Array) -> None:
    """The answers are the model's, within what float32 may round in either; so are the labels, except of ties within that."""
    x = images.reshape(len(images), *model.input_shape)
    exact, bound = exact_logits(model, x)
    expect_within(answers.logits, exact, bound)
    expect_as_exact(answers.logits, model.eval()(_input(model, x)), exact)
    # Two quotients of exponentials, each of which is off by a factor of exp(bound) at most; those of C add 5e-7 each.
    expected, off = model.predict_proba(images), bound.max(axis=1, keepdims=True)
    expect_within(answers.probabilities, expected, np.expm1(4 * off + 2e-6) * expected + 2.0**-126)
    second, first = np.sort(exact, axis=1)[:, -2:].T
    clear = first - second > 2 * off[:, 0]
    assert clear.mean() > 0.5, "too many ties to mean anything"
    np.testing.assert_array_equal(answers.numbers[clear], exact.argmax(axis=1)[clear])


def _input(model: Sequential, images: Array) -> Array:
    return model.ops.gather_images(images, range(len(images)), mean=model.mean, std=model.std)


def test_lenet(mnist: Dataset, tmp_path: Path) -> None:
    model, images = LeNet.pretrained(), mnist.test_images[:200]
    expect_as_model(model, Program(c_header(model).text, tmp_path)(images), images)


@pytest.mark.slow
def test_lenet_on_the_test_set(mnist: Dataset, tmp_path: Path) -> None:
    model, program = LeNet.pretrained(), Program(c_header(LeNet.pretrained()).text, tmp_path)
    for start in range(0, 10_000, 100):
        images = mnist.test_images[start : start + 100]
        expect_as_model(model, program(images), images)


# --- the file ------------------------------------------------------------------------------------------------------------

COMPILERS = [("cc", *STRICT), ("clang", *STRICT), ("c++", "-x", "c++", *STRICT[1:])]
HOSTILE = [
    *(
        '"',
        "\\",
        "end\\",
        "*/ int x; /*",
        "??/",
        "what??!",
        "\n#error\n",
        "\t\r\x7f\x1b[31m",
        "Zürich 東京 🎉",
        "%s%n",
        "",
        "7",
    ),
    *("\udc80", "x" * 4095, "// \\\n", "\x019"),
]
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


def small(classes: int) -> Sequential:
    model = Sequential(Flatten(), Linear(4, classes), input_shape=(1, 2, 2))
    model.set_facts(mean=0.5, std=0.25)
    return model


@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler[0])
def test_any_class_names(compiler: tuple[str, ...], tmp_path: Path) -> None:
    model = small(len(HOSTILE))
    model.set_facts(class_names=HOSTILE)
    said = Program(c_header(model).text, tmp_path, compiler, sources={"main.c": PRINT_NAMES}).output()
    assert said.split(b"\0")[:-1] == [name.encode("utf-8", "backslashreplace") for name in HOSTILE]


def test_any_layer_names(tmp_path: Path, rng: np.random.Generator) -> None:
    """None of them is an identifier, or stays in its comment by itself."""
    names = ["*/ int x; /*", "??/", "\n", "Zürich", "x" * 100, ""]
    layers = [Conv2d(1, 2, 1), ReLU(), MaxPool2d(1), Flatten(), Linear(8, 3), Linear(3, 2)]
    model = Sequential(*layers, names=names, input_shape=(1, 2, 2))
    model.set_facts(mean=0.5, std=0.25)
    images = rng.integers(0, 256, (5, 1, 2, 2)).astype(np.uint8)
    text = c_header(model).text
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
    Program(c_header(small(3)).text, tmp_path, compiler, sources=SEVERAL).output()


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.h").write_text(c_header(small(4)).text)
    with pytest.raises(AssertionError, match="a C file can include one network of fastlenet"):
        Program(c_header(small(3)).text, tmp_path, sources={"main.c": f'#include "other.h"\n{MAIN}'})


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_no_undefined_behaviour(level: str, tmp_path: Path, rng: np.random.Generator) -> None:
    sanitized = ("cc", *STRICT, level, "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
    layers = [Conv2d(2, 3, (3, 2), (2, 1), (2, 1)), Tanh(), MaxPool2d(3, 1, 1), AvgPool2d(2, 2, 1), Flatten(), Linear(36, 4)]
    model = Sequential(*layers, Sigmoid(), Linear(4, 4), LeakyReLU(3.0), input_shape=(2, 7, 5))
    model.set_facts(mean=(0.2, 0.7), std=(0.3, 0.1))
    for array in model.parameters().values():
        array *= 4
    images = rng.integers(0, 256, (30, 2, 7, 5)).astype(np.uint8)
    expect_as_model(model, Program(c_header(model).text, tmp_path, sanitized)(images), images)


def test_sizes(tmp_path: Path) -> None:
    """The stack and the constants are as large as the compiler says."""
    layers = [Conv2d(3, 4, 5), ReLU(), MaxPool2d(2), Conv2d(4, 6, 3), Sigmoid(), Flatten(), Linear(600, 50), Linear(50, 7)]
    model = Sequential(*layers, input_shape=(3, 28, 28))
    model.set_facts(mean=0.5, std=0.25)
    header = c_header(model)
    assert f"Constants: {header.constants:,} bytes. Stack: {header.stack:,} bytes" in " ".join(header.text.split(" *"))
    Program(header.text, tmp_path, ("cc", *STRICT, "-O0", "-fstack-usage"))
    frames = dict(re.findall(r":(fastlenet_\w+)\t(\d+)\tstatic", next(tmp_path.glob("*.su")).read_text()))
    assert int(frames["fastlenet_predict"]) + int(frames["fastlenet_logits"]) >= header.stack
    assert sum(map(int, frames.values())) <= header.stack + 1500  # of the functions that call each other, and the others
    symbols = subprocess.run(["nm", "-S", tmp_path / "program"], capture_output=True, text=True, check=True).stdout
    sizes = {name: int(size, 16) for size, name in re.findall(r" (\w+) [rR] fastlenet_(\w+)", symbols)}
    assert sum(size for name, size in sizes.items() if not name.endswith(("_window", "class_names"))) == header.constants
