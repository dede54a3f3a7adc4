"""The exported C file of a quantized model has its bits, whatever compiles it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.data import Dataset
from fastlenet.inference.forward import softmax
from fastlenet.quantization.layers import requantized
from helpers.c_program import COMPILERS, ODD_COMPILERS, Program, expect_probabilities, in_c
from helpers.expect import expect_same_bits
from helpers.small_networks import EXACT, QUANTIZED


@pytest.mark.parametrize("case", QUANTIZED)
def test_int8_has_the_same_bits(case: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = QUANTIZED[case]
    assert model.input_shape is not None
    for array in model.parameters().values():
        array[...] = rng.standard_normal(array.shape)
    images = rng.integers(0, 256, (50, *model.input_shape), np.uint8)
    images[0], images[1] = 0, 255
    quantized = model.quantize(images)
    answers = Program(in_c(model, quantized), tmp_path)(images)
    expect_same_bits(answers.logits, quantized.logits(images))
    np.testing.assert_array_equal(answers.numbers, answers.logits.argmax(axis=1))
    expect_probabilities(answers, softmax(answers.logits), 0.0)


def slow(compiler: tuple[str, ...]) -> object:
    return pytest.param(compiler, marks=pytest.mark.slow)


REQUANTISE = """\
#include <stdio.h>
#include "network.h"
int main(void)
{
    struct { int32_t sum; float multiplier; int32_t zero_point; } given;
    while (fread(&given, sizeof given, 1, stdin) == 1) {
        putchar(fastlenet_requantise(given.sum, given.multiplier, given.zero_point));
    }
    return fflush(stdout) != 0;
}
"""


@pytest.mark.parametrize("compiler", [COMPILERS[0], *ODD_COMPILERS[-3:], *map(slow, ODD_COMPILERS[:-3])], ids=" ".join)
def test_requantisation_rounds_alike_everywhere(compiler: tuple[str, ...], tmp_path: Path, rng: np.random.Generator) -> None:
    """Sums that float32 rounds, products that are ties or round to one, and what is beyond the bytes."""
    count = 40_000
    given = np.empty(5 * count, [("sum", np.int32), ("multiplier", np.float32), ("zero_point", np.int32)])
    wide, tied, to_a_tie, product, huge = np.split(given, 5)
    half = 2 * rng.integers(-128, 127, count) + 1  # of an odd number
    wide["sum"], wide["multiplier"] = rng.integers(-(2**31) + 1, 2**31, count), rng.random(count) * 2.0**-22
    tied["sum"], tied["multiplier"] = half, 0.5
    to_a_tie["sum"], to_a_tie["multiplier"] = (half << 23) + rng.integers(-3, 4, count), 2.0**-24  # float32 drops the last bits
    product["sum"] = rng.integers(1, 2**24, count)
    product["multiplier"] = (half / 2 / product["sum"]).astype(np.float32)  # often rounds to a tie
    huge["sum"], huge["multiplier"] = wide["sum"], 10.0 ** rng.integers(-45, 39, count)
    given["zero_point"] = rng.integers(0, 256, 5 * count)
    model = EXACT["overlapping pools"]
    text = in_c(model, model.quantize(np.full((2, 3, 9, 10), 9, np.uint8)))
    found = np.frombuffer(Program(text, tmp_path, compiler, sources={"main.c": REQUANTISE}).output(given.tobytes()), np.uint8)
    with np.errstate(over="ignore"):
        expected = requantized(given["sum"], given["multiplier"], given["zero_point"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [(*COMPILERS[0], "-O3"), *ODD_COMPILERS], ids=" ".join)
def test_lenet_in_int8_on_the_test_set(compiler: tuple[str, ...], mnist: Dataset, tmp_path: Path) -> None:
    """Slow programs get a twentieth of the images."""
    model, images = LeNet.pretrained(), mnist.test_images[:: 1 if "-O3" in compiler else 20, np.newaxis]
    quantized = model.quantize(mnist)
    expect_same_bits(Program(in_c(model, quantized), tmp_path, compiler)(images).logits, quantized.logits(images))
