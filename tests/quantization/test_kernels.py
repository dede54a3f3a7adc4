"""int8 on the kernels: every unit, number of threads and batch gives the bits of the layers in NumPy.

On a CPU without an instruction its emulation is tested alone, and the session's summary says so.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import _core
from fastlenet.data import load_mnist
from fastlenet.quantization import (
    QuantizedAvgPool2d,
    QuantizedConv2d,
    QuantizedFlatten,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedMaxPool2d,
    Scores,
)
from fastlenet.quantization.kernels import Kernels, built
from helpers.arrays import Array, Guarded
from helpers.int8 import LACKING, TILES, UNITS, using
from helpers.networks import NETWORKS, some_images

Rng = np.random.Generator
BATCHES = (1, 2, 4, 5, 8, 9, 16, 17, 33, 70)  # one by one, blocks of 8 and 16 that are full or not, tasks of several blocks


def by_layers(layers: Sequence[QuantizedLayer], images: Array) -> Array:
    x: Any = images
    for layer in layers:
        x = layer(x)
    return np.asarray(x)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, unit: str) -> None:
    model = NETWORKS[name]()
    images = some_images(model, max(BATCHES))
    small = model.quantize(images[:20])
    expected = by_layers(small.layers, images)
    with using(unit):
        for count in BATCHES:
            np.testing.assert_array_equal(small.logits(images[:count]), expected[:count], err_msg=f"{count} images")


def integers(rng: Rng, shape: tuple[int, ...], extreme: bool) -> Array:
    """Weights: any, or only the largest, whose sums of products are the largest too."""
    weight = rng.integers(-127, 128, shape) if not extreme else np.where(rng.random(shape) < 0.5, -127, 127)
    return weight.astype(np.int8)


def constants(rng: Rng, weight: Array, extreme: bool) -> tuple[Array, Array]:
    """A bias and a multiplier that bring most sums near 0..255, and some beyond."""
    outputs, depth = len(weight), weight[0].size
    bias = rng.integers(-2000, 2001, outputs).astype(np.int32)
    largest = 255 * 127 * depth if extreme else 255 * 127 * depth**0.5
    return bias, (rng.uniform(0, 600, outputs) / largest).astype(np.float32)


def random_layers(rng: Rng) -> tuple[list[QuantizedLayer], tuple[int, int, int]]:
    """A convolution of any shape, perhaps with a maximum behind it, and a linear layer."""
    c, h, w = (int(size) for size in (rng.integers(1, 10), rng.integers(3, 14), rng.integers(3, 14)))
    k, r, s = int(rng.integers(1, 21)), int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1))
    stride, padding = tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(0, 3, 2).tolist())
    extreme = bool(rng.random() < 0.5)
    p, q = (
        (size + 2 * pad - window) // step + 1 for size, pad, window, step in zip((h, w), padding, (r, s), stride, strict=True)
    )
    weight = integers(rng, (k, c, r, s), extreme)
    value = rng.integers(0, 256, c).astype(np.uint8)
    zero_point = int(rng.integers(0, 256))
    conv = QuantizedConv2d("conv", (k, p, q), weight, *constants(rng, weight, extreme), zero_point, stride, padding, value)
    layers: list[QuantizedLayer] = [conv]
    if rng.random() < 0.7:
        size = int(rng.integers(1, p + 1)), int(rng.integers(1, q + 1))
        p, q = p // size[0], q // size[1]
        layers.append(QuantizedMaxPool2d("pool", (k, p, q), size, size, (0, 0)))
    outputs = int(rng.integers(1, 71))
    matrix = integers(rng, (outputs, k * p * q), extreme)
    layers.append(QuantizedFlatten("flatten", (k * p * q,)))
    layers.append(QuantizedLinear("linear", (outputs,), matrix, *constants(rng, matrix, extreme), None))
    return layers, (c, h, w)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("seed", range(25))
def test_shapes(seed: int, unit: str) -> None:
    rng = np.random.default_rng(seed)
    layers, shape = random_layers(rng)
    images = rng.integers(0, 256, (19, *shape), dtype=np.uint8)
    images[::3] = 255
    expected = by_layers(layers, images)
    with using(unit):
        kernels = Kernels(layers, shape)
        for count in (1, 3, 19):
            np.testing.assert_array_equal(kernels(images[:count]), expected[:count])


@pytest.mark.parametrize("unit", UNITS)
def test_the_largest_sums(unit: str) -> None:
    """Up to 2^31 - 1, which pairs of products that saturate at 16 bits would not reach."""
    depth = (2**31 - 1) // (255 * 127)
    signs = np.array([[1], [-1]], np.int8)
    weight, rest = 127 * signs.repeat(depth, 1), 2**31 - 1 - 255 * 127 * depth
    layer = QuantizedLinear("linear", (2,), weight, np.array([rest, -rest], np.int32), np.ones(2, np.float32), None)
    images = np.full((17, depth, 1, 1), 255, np.uint8)
    flat = QuantizedFlatten("flatten", (depth,))
    with using(unit):
        for count in (1, 17):
            found = Kernels([flat, layer], (depth, 1, 1))(images[:count])
            assert (found == np.array([2.0**31, -(2.0**31)], np.float32)).all()
    over = QuantizedLinear("linear", (2,), weight, np.array([rest + 1, 0], np.int32), np.ones(2, np.float32), None)
    with pytest.raises(ValueError, match=r"add_linear: weight and bias expect .* got 2147483648 for output 0; use smaller"):
        Kernels([flat, over], (depth, 1, 1))(images)


@pytest.mark.parametrize("unit", UNITS)
def test_ties_are_rounded_to_even(unit: str) -> None:
    """Halves below, within and above 0..255, and the floats next to them."""
    halves = np.arange(-20, 540, dtype=np.int32)
    factors = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0)), np.nextafter(np.float32(0.5), np.float32(1))])
    bias = np.tile(halves, 3)
    weight = np.zeros((len(bias), 1, 1, 1), np.int8)
    multiplier = factors.astype(np.float32).repeat(len(halves))
    value = np.zeros(1, np.uint8)
    outputs = len(bias)
    identity = np.eye(outputs, dtype=np.int8)
    for zero_point in (0, 3, 255):
        conv = QuantizedConv2d("c", (outputs, 1, 1), weight, bias, multiplier, zero_point, (1, 1), (0, 0), value)
        ones, zeros = np.ones(outputs, np.float32), np.zeros(outputs, np.int32)
        layers = [conv, QuantizedFlatten("f", (outputs,)), QuantizedLinear("l", (outputs,), identity, zeros, ones, None)]
        images = np.zeros((17, 1, 1, 1), np.uint8)
        scaled = [round(float(np.float32(np.float32(total) * factor))) for total, factor in zip(bias, multiplier, strict=True)]
        expected = np.clip(np.array(scaled) + zero_point, 0, 255)  # Python's round is to even
        with using(unit):
            for count in (1, 17):
                assert np.array_equal(Kernels(layers, (1, 1, 1))(images[:count]), np.tile(expected, (count, 1)))


def test_no_images_and_no_channels() -> None:
    """As a folder without images has them, and a convolution without filters, whose sums behind it are biases."""
    weight, value = np.ones((2, 1, 3, 3), np.int8), np.zeros(1, np.uint8)
    zeros, ones = np.zeros(2, np.int32), np.ones(2, np.float32)
    conv = QuantizedConv2d("conv", (2, 3, 3), weight, zeros, ones, 0, (1, 1), (0, 0), value)
    none = QuantizedConv2d("none", (0, 3, 3), weight[:0], zeros[:0], ones[:0], 0, (1, 1), (0, 0), value)
    after = QuantizedConv2d("after", (2, 3, 3), weight[:, :0], zeros + 7, ones, 0, (1, 1), (1, 1), value[:0])
    flat, matrix = QuantizedFlatten("flat", (18,)), np.ones((2, 18), np.int8)
    linear = QuantizedLinear("linear", (2,), matrix, zeros, ones, None)
    images = np.full((3, 1, 5, 5), 9, np.uint8)
    for n in (0, 3):
        for layers, score in (([conv], 18 * 81), ([none, after], 18 * 7)):
            expected = np.full((n, 2), score, np.float32)
            np.testing.assert_array_equal(by_layers([*layers, flat, linear], images[:n]), expected)
            np.testing.assert_array_equal(Kernels([*layers, flat, linear], (1, 5, 5))(images[:n]), expected)


@pytest.mark.parametrize("multiplier", [0.25, 1.0, 1e30, 3.4028235e38])
def test_a_mean_of_any_multiplier_stays_a_byte(multiplier: float) -> None:
    """Also where the product is no integer of 32 bits, or no number of float32."""
    zero_point = np.array([0, 100, 255], np.uint8)
    pool = QuantizedAvgPool2d("pool", (3, 1, 2), (2, 2), (2, 2), (0, 0), zero_point, np.float32(multiplier))
    images = np.array([[[[v, v, 0, 255], [v, v, 255, 255]]] * 3 for v in (0, 99, 100, 101, 255)], np.uint8)
    exact = images.astype(np.int64).reshape(5, 3, 1, 2, 2, 2).sum(axis=(3, 5)) - 4 * zero_point.astype(np.int64)[:, None, None]
    means = np.rint(exact * np.float64(np.float32(multiplier))) + zero_point[:, None, None]
    layers = [pool, Scores("scores", (3, 1, 2), np.float32(1), 0)]
    expected = np.clip(means, 0, 255).astype(np.float32)
    np.testing.assert_array_equal(by_layers(layers, images), expected)
    np.testing.assert_array_equal(built(layers, (3, 2, 4)).scores(images, None), expected)


def test_the_same_bits_for_any_number_of_threads(threads: int) -> None:
    data = load_mnist()
    small = fastlenet.LeNet.pretrained().quantize(data)
    images = data.test_images[:200].reshape(200, 1, 28, 28)
    expected = by_layers(small.layers, images)
    assert np.array_equal(small.logits(images), expected)
    again = pickle.loads(pickle.dumps(small))
    assert np.array_equal(again.logits(images[:30]), expected[:30])
    for batch in (1, 7, 200):
        assert np.array_equal(small.predict_proba(images, batch_size=batch), small.predict_proba(images))


def test_several_python_threads_at_once() -> None:
    """Also the first call, which packs the layers."""
    data = load_mnist()
    small = fastlenet.LeNet.pretrained().quantize(data)
    parts = [data.test_images[start : start + 40, None] for start in range(0, 400, 40)]
    expected = [by_layers(small.layers, part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for found, exact in zip(pool.map(small.logits, parts), expected, strict=True):
                np.testing.assert_array_equal(found, exact)


def test_the_level_chooses(level: str) -> None:
    """A level's instructions and no others, unless asked; all units of the same level give the same."""
    wanted = {"x86-64-v4": UNITS, "x86-64-v3": [name for name in UNITS if name not in ("tdpbsud", "vpdpbusd")]}
    emulations = ["vpmaddwd-emulated"]
    assert _core.int8_unit() == wanted.get(level, emulations)[0]
    assert fastlenet.config()["int8"] == _core.int8_unit()


@pytest.mark.slow
def test_the_variable_chooses() -> None:
    def use(name: str) -> str:
        code = "import fastlenet; print(fastlenet.config()['int8'])"
        environment = os.environ | {"FASTLENET_INT8": name}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    assert use("vpdpbusd-emulated") == "vpdpbusd-emulated"
    assert use("abacus") == (
        f"ValueError: FASTLENET_INT8: unknown int8 unit 'abacus'; built: {', '.join(_core.int8_units_built())}; "
        f"available on this CPU: {', '.join(UNITS)}"
    )
    for unit in set(LACKING) & set(_core.int8_units_built()):
        assert use(unit).startswith(f"ValueError: FASTLENET_INT8: {unit} cannot be used: this CPU has no ")


def test_what_is_refused() -> None:
    network = _core.Int8Network(1, 5, 5)
    weight, bias, ones = np.ones((2, 1, 3, 3), np.int8), np.zeros(2, np.int32), np.ones(2, np.float32)
    value, images = np.zeros(1, np.uint8), np.zeros((2, 1, 5, 5), np.uint8)

    def refused(message: str, add: Any, *arguments: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            add(*arguments)

    conv, rest = network.add_conv, (1, 0, value, 1)
    refused("weight expects a numpy array of int8, got", conv, weight.astype(np.int16), bias, ones, 0, *rest)
    refused("weight expects 2 input channels, x has 1", conv, np.ones((2, 2, 3, 3), np.int8), bias, ones, 0, *rest)
    refused(r"bias expects shape \(2,\), got \(1,\)", conv, weight, bias[:1], ones, 0, *rest)
    refused("multiplier expects finite numbers of at least 0, got -1", conv, weight, bias, -ones, 0, *rest)
    refused("multiplier expects finite numbers of at least 0, got nan", conv, weight, bias, ones * np.nan, 0, *rest)
    refused(r"zero_point expects None or 0\.\.255, got 256", conv, weight, bias, ones, 256, *rest)
    refused("only a linear layer gives scores", conv, weight, bias, ones, None, *rest)
    refused("window expects at least 1x1 and at most the output", conv, weight, bias, ones, 0, 1, 0, value, 4)
    refused(r"padding_value expects shape \(1,\), got \(2,\)", conv, weight, bias, ones, 0, 1, 0, np.zeros(2, np.uint8), 1)
    wide = 2**30
    refused(
        r"at most 2\^27 numbers with its padding, got \(1, 2147483653, 5\)", conv, weight, bias, ones, 0, 1, (wide, 0), value, 1
    )
    refused(r"at most 2\^27 numbers with its padding, got \(10000, 10000, 10\)", _core.Int8Network, 10_000, 10_000, 10)
    large = _core.Int8Network(1, 2901, 2903)  # 8,421,603 numbers, times 255 above 2^31 - 1
    refused(
        r"kernel_size expects at most 8421504 numbers in a window, so that no sum overflows, got \(2901, 2903\)",
        large.add_avg_pool,
        (2901, 2903),
        1,
        0,
        value,
        1.0,
    )
    large.add_avg_pool((2901, 2902), 1, 0, value, 1.0)
    refused(r"x expects \(features,\), got", network.add_linear, np.ones((2, 25), np.int8), bias, ones, None)
    refused("the last layer expects to give scores", network.scores, images, None)
    network.add_flatten()
    refused("add_conv: x expects", conv, weight, bias, ones, 0, *rest)
    network.add_linear(np.ones((2, 25), np.int8), bias, ones, None)
    refused("a layer behind the scores expects bytes", network.add_flatten)
    refused("images expects a numpy array of uint8", network.scores, images.astype(np.float32), None)
    refused(r"images expects shape \(2, 1, 5, 5\), got \(2, 1, 4, 5\)", network.scores, images[:, :, :4], None)
    refused("out expects a numpy array of float32, got uint8", network.scores, images, images)
    assert network.scores(images[:0], None).shape == (0, 2)


# --- tiles --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", TILES)
@pytest.mark.parametrize("kind", ["any", "largest"])
def test_a_tile_product_is_exact(kind: str, unit: str, rng: Rng) -> None:
    """Weights are signed, cells unsigned; sums wrap at 32 bits."""
    a, b = rng.integers(-128, 128, (40, 16, 64)), rng.integers(0, 256, (40, 16, 64))
    sums = rng.integers(-(2**31), 2**31, (40, 16, 16))
    sums = np.where(rng.random(sums.shape) < 0.5, sums, np.where(sums < 0, -(2**31), 2**31 - 1))
    if kind == "largest":
        a, b = np.where(a < 0, -128, 127), np.full_like(b, 255)
    exact = sums + np.einsum("nikt,nkjt->nij", a.reshape(40, 16, 16, 4), b.reshape(40, 16, 16, 4))
    assert (np.abs(exact) >= 2**31).any()
    found = _core.tile_product_int8(unit, sums.astype(np.int32), a.astype(np.int8), b.astype(np.uint8))
    np.testing.assert_array_equal(found, exact.astype(np.int32))


def test_what_a_tile_product_refuses() -> None:
    sums, a, b = np.zeros((1, 16, 16), np.int32), np.zeros((1, 16, 64), np.int8), np.zeros((1, 16, 64), np.uint8)
    with pytest.raises(ValueError, match="tile_product_int8: vpmaddwd-emulated has no tiles"):
        _core.tile_product_int8("vpmaddwd-emulated", sums, a, b)
    with pytest.raises(ValueError, match=r"tile_product_int8: b expects shape \(1, 16, 64\), got \(1, 16, 16\)"):
        _core.tile_product_int8(TILES[0], sums, a, b[:, :, :16])
    with pytest.raises(ValueError, match="unknown int8 unit 'abacus'; built: "):
        _core.tile_product_int8("abacus", sums, a, b)


@pytest.mark.parametrize(("every", "times"), [(1, 1), (2, 3), (1, 9), (3, 10), (1, 1000)])
@pytest.mark.parametrize("unit", TILES)
def test_a_block_whose_tiles_are_lost_is_computed_again(unit: str, every: int, times: int, rng: Rng) -> None:
    """After ten losses in a row by the emulation; the integers are the same."""
    weight, matrix = integers(rng, (20, 3, 3, 3), False), integers(rng, (40, 20 * 3 * 3), False)
    value, bytes_of = np.zeros(3, np.uint8), constants(rng, weight, False)
    conv = QuantizedConv2d("conv", (20, 6, 6), weight, *bytes_of, 3, (1, 1), (0, 0), value)
    pool, flat = QuantizedMaxPool2d("pool", (20, 3, 3), (2, 2), (2, 2), (0, 0)), QuantizedFlatten("flatten", (180,))
    linear = QuantizedLinear("linear", (40,), matrix, *constants(rng, matrix, False), None)
    layers = [conv, pool, flat, linear]
    images = rng.integers(0, 256, (16, 3, 8, 8), dtype=np.uint8)
    expected = by_layers(layers, images)
    with using(unit):
        kernels = Kernels(layers, (3, 8, 8))
        before = _core.tile_repeats()
        _core.plant_losses(every, times)
        try:
            np.testing.assert_array_equal(kernels(images), expected)
        finally:
            _core.plant_losses(0, 0)
    # One call for each of 3 lines of windows, with 2 tiles of 10 rows for each of 3 windows; and one with 3 tiles of rows.
    lost = 3 * -(-6 // every) + -(-3 // every)
    assert _core.tile_repeats() - before == lost * min(times, 10)


def test_nothing_is_written_outside_of_the_scores(guarded: Guarded, rng: Rng) -> None:
    """Where the last block, tile and step are filled in part."""
    layers, shape = random_layers(np.random.default_rng(3))
    images = rng.integers(0, 256, (21, *shape), dtype=np.uint8)
    expected = by_layers(layers, images)
    for unit in UNITS:
        with using(unit):
            for count in (1, 21):
                found = built(layers, shape).scores(images[:count], guarded.output((count, expected.shape[1])))
                np.testing.assert_array_equal(found, expected[:count])
