"""The exported C file computes what the model does, in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import Dataset
from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Sequential,
    Sigmoid,
    Tanh,
)
from helpers.c_program import COMPILERS, ODD_COMPILERS, STRICT, Program, in_c
from helpers.expect import expect_equal, expect_within
from helpers.rounding import expect_as_model
from helpers.small_networks import EXACT, small, with_integers


@pytest.mark.parametrize("case", EXACT)
def test_every_shape_is_exact(case: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """With integers no sum is rounded, so that the logits have the model's bits."""
    model = with_integers(EXACT[case], rng)
    assert model.input_shape is not None
    images = rng.integers(0, 256, (20, *model.input_shape), np.uint8)
    answers, expected = Program(in_c(model), tmp_path)(images), model.eval()(images.astype(np.float32))
    expect_equal(answers.logits, expected)
    expect_equal(answers.numbers, expected.argmax(axis=1))


def test_lenet(mnist: Dataset, tmp_path: Path) -> None:
    model, images = LeNet.pretrained(), mnist.test_images[:200]
    expect_as_model(model, Program(in_c(model), tmp_path)(images), images)


@pytest.mark.slow
def test_lenet_on_the_test_set(mnist: Dataset, tmp_path: Path) -> None:
    model, program = LeNet.pretrained(), Program(in_c(LeNet.pretrained()), tmp_path)
    for start in range(0, 10_000, 100):
        images = mnist.test_images[start : start + 100]
        expect_as_model(model, program(images), images)


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_no_undefined_behaviour(level: str, tmp_path: Path, rng: np.random.Generator) -> None:
    sanitized = ("cc", *STRICT, level, "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
    layers = [Conv2d(2, 3, (3, 2), (2, 1), (2, 1)), Tanh(), MaxPool2d(3, 1, 1), AvgPool2d(2, 2, 1), Flatten(), Linear(36, 4)]
    model = Sequential(*layers, Sigmoid(), Linear(4, 4), LeakyReLU(3.0), input_shape=(2, 7, 5))
    model.set_facts(mean=(0.2, 0.7), std=(0.3, 0.1))
    for array in model.parameters().values():
        array *= 4
    images = rng.integers(0, 256, (30, 2, 7, 5)).astype(np.uint8)
    expect_as_model(model, Program(in_c(model), tmp_path, sanitized)(images), images)


EXPONENTIALS = """\
#include <stdio.h>
#include "network.h"
int main(void)
{
    float x;
    while (fread(&x, sizeof x, 1, stdin) == 1) {
        x = fastlenet_exp(x);
        fwrite(&x, sizeof x, 1, stdout);
    }
    return fflush(stdout) != 0;
}
"""


@pytest.mark.parametrize("compiler", [COMPILERS[0], *ODD_COMPILERS[-3:]], ids=" ".join)
def test_exponential(compiler: tuple[str, ...], tmp_path: Path) -> None:
    x = np.concatenate([-np.geomspace(1e-30, 103, 50_000), -np.linspace(0, 104, 50_000), [-np.inf, -200]]).astype(np.float32)
    program = Program(in_c(small(2)), tmp_path, compiler, sources={"main.c": EXPONENTIALS})
    exact = np.exp(x.astype(np.float64))
    expect_within(np.frombuffer(program.output(x.tobytes()), np.float32), exact, 5e-7 * exact + 2.0**-126)
