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
from helpers.small_networks import EXACT, with_integers


@pytest.mark.parametrize("case", EXACT)
def test_every_shape_is_exact(case: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """With integers no sum is rounded, so that the logits have the model's bits."""
    model = with_integers(EXACT[case], rng)
    assert model.input_shape is not None
    images = rng.integers(0, 256, (20, *model.input_shape), np.uint8)
    answers, expected = Program(in_c(model), tmp_path)(images), model.eval()(images.astype(np.float32))
    expect_equal(answers.logits, expected)
    expect_equal(answers.numbers, expected.argmax(axis=1))


@pytest.mark.slow
def test_lenet(mnist: Dataset, tmp_path: Path) -> None:
    model, images = LeNet.pretrained(), mnist.test_images[:200]
    expect_as_model(model, Program(in_c(model), tmp_path)(images), images)


@pytest.mark.slow
def test_lenet_on_the_test_set(mnist: Dataset, tmp_path: Path) -> None:
    model, program = LeNet.pretrained(), Program(in_c(LeNet.pretrained()), tmp_path)
    for start in range(0, 10_000, 250):  # 4,000 images, from all parts of the set
        images = mnist.test_images[start : start + 100]
        expect_as_model(model, program(images), images)


@pytest.mark.parametrize("level", ["-O0", pytest.param("-O3", marks=pytest.mark.slow)])
def test_no_undefined_behaviour(level: str, tmp_path: Path, rng: np.random.Generator) -> None:
    sanitized = ("cc", *STRICT, level, "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
    layers = [Conv2d(2, 3, (3, 2), (2, 1), (2, 1)), Tanh(), MaxPool2d(3, 1, 1), AvgPool2d(2, 2, 1), Flatten(), Linear(36, 4)]
    model = Sequential(*layers, Sigmoid(), Linear(4, 4), LeakyReLU(3.0), input_shape=(2, 7, 5))
    model.set_facts(mean=(0.2, 0.7), std=(0.3, 0.1))
    for array in model.parameters().values():
        array *= 4
    images = rng.integers(0, 256, (30, 2, 7, 5)).astype(np.uint8)
    expect_as_model(model, Program(in_c(model), tmp_path, sanitized)(images), images)


FUNCTIONS = """\
#include <stdio.h>
#include "network.h"
int main(void)
{
    float x, y[3];
    while (fread(&x, sizeof x, 1, stdin) == 1) {
        y[0] = fastlenet_exp(x > 0 ? -x : x);
        y[1] = y[2] = x;
        fastlenet_tanh(y + 1, 1);
        fastlenet_sigmoid(y + 2, 1);
        fwrite(y, sizeof y, 1, stdout);
    }
    return fflush(stdout) != 0;
}
"""


@pytest.mark.parametrize("compiler", [COMPILERS[0], *ODD_COMPILERS[-3:]], ids=" ".join)
def test_functions(compiler: tuple[str, ...], tmp_path: Path) -> None:
    """The relative error of the exponential is 5e-7; of tanh it is up to 3 times that, where 1 - e cancels."""
    model = Sequential(Flatten(), Tanh(), Sigmoid(), input_shape=(1, 2, 2))
    model.set_facts(mean=0.5, std=0.25)
    half = np.concatenate([np.geomspace(1e-30, 103, 30_000), np.linspace(0, 104, 30_000), [np.inf, 200]])
    x = np.concatenate([-half, half]).astype(np.float32)
    program = Program(in_c(model), tmp_path, compiler, sources={"main.c": FUNCTIONS})
    found = np.frombuffer(program.output(x.tobytes()), np.float32).reshape(-1, 3).T
    exact = x.astype(np.float64)
    e = np.exp(-np.abs(exact))
    for y, expected, error in zip(found, (e, np.tanh(exact), np.where(x < 0, e, 1) / (1 + e)), (5e-7, 2e-6, 1e-6), strict=True):
        expect_within(y, expected, error * np.abs(expected) + 2.0**-126)
