"""Winograd's algorithm: within its derived bound of float64, on every level; its bits, its NaN, and where it is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet import LeNet, fit, get_num_threads, ops, reference, set_num_threads
from fastlenet.backend import DEAD
from fastlenet.data import load_idx_directory
from fastlenet.formats.parameters import load_model
from fastlenet.testing.cases import CONV2, FUSED, WINOGRAD, Fused
from fastlenet.testing.fused import windows as windows_of
from fastlenet.testing.winograd import by_tiles, matrices, roundings
from helpers.arrays import Guarded, normals
from helpers.expect import expect_same_bits, expect_within, gamma

Array = npt.NDArray[Any]
Rng = np.random.Generator


def windows(conv: Array, like: Array) -> Array:
    """The 2x2 windows of as many outputs as were pooled: (n, k, p, q, 4)."""
    p, q = like.shape[2:]
    return windows_of(conv[:, :, : 2 * p, : 2 * q], 2)


def sizes(x: Array, weight: Array, bias: Array, case: Fused, exponent: int) -> Array:
    """The sum of the sizes of each output's terms, raised to that exponent."""
    a, g, b = (np.abs(matrix) ** exponent for matrix in matrices(weight.shape[2]))
    terms = by_tiles(np.abs(x) ** exponent, np.abs(weight) ** exponent, case.padding, (a, g, b))
    return terms + (np.abs(bias) ** exponent)[:, None, None]


def arguments(case: Fused, rng: Rng) -> tuple[Array, Array, Array]:
    return normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))


def winograd(x: Array, weight: Array, bias: Array | None, case: Fused, **options: Any) -> tuple[Array, Array]:
    return ops.conv2d_relu_max_pool2d_forward(x, weight, bias, algorithm="winograd", **case.options, **options)


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_the_matrices_of_the_bound_are_a_convolution(case: Fused, rng: Rng) -> None:
    x, weight, _ = (array.astype(np.float64) for array in arguments(case, rng))
    exact = reference.conv2d_forward(x, weight, padding=case.padding)
    y = by_tiles(x, weight, case.padding, matrices(weight.shape[2]))[:, :, : exact.shape[2], : exact.shape[3]]
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_within_the_bound(case: Fused, biased: bool, level: str, rng: Rng, guarded: Guarded) -> None:
    x, weight, bias = arguments(case, rng)
    if not biased:
        bias[...] = 0
    exact = [array.astype(np.float64) for array in (x, weight, bias)]
    expected, _ = reference.conv2d_relu_max_pool2d_forward(exact[0], exact[1], exact[2], **case.options)
    outs = guarded.output(expected.shape), guarded.output(expected.shape, np.uint8)
    y, winners = winograd(x, weight, bias if biased else None, case, out=outs)
    assert y is outs[0] and winners is outs[1]
    # Both maxima of a window move by no more than the worst bound in it (Higham 2002, chapter 3).
    bound = gamma(roundings(case.c)) * windows(sizes(exact[0], exact[1], exact[2], case, 1), y).max(-1)
    expect_within(y, expected, bound)
    # Random terms and roundings add up as squares do; the maximum has the error of one of two.
    squares = windows(sizes(exact[0], exact[1], exact[2], case, 2), y).max(-1)
    assert ((y - expected) ** 2 / squares).mean() <= 2 * roundings(case.c) * 2.0**-48
    promised = 1e-5 if weight.shape[2] == 5 else 3e-6
    assert np.abs(y - expected).max() <= promised * expected.max(), "more than the documentation promises"

    # Another winner than float64's only where the two nearly tie; dead only what is at most the bound above zero.
    candidates = windows(reference.conv2d_forward(exact[0], exact[1], exact[2], padding=case.padding), y)
    alive = winners != DEAD
    assert alive.any() and (winners[alive] < 4).all()
    at_winner = np.take_along_axis(candidates, np.where(alive, winners, 0)[..., None].astype(np.int64), -1)[..., 0]
    expect_within(at_winner[alive], candidates.max(-1)[alive], 2 * bound[alive])
    assert (candidates.max(-1)[~alive] <= bound[~alive]).all() and (y[~alive] == 0).all()

    direct = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    assert direct[0].tobytes() != y.tobytes(), "rounded as the direct algorithm: it was not used"


@pytest.mark.parametrize("case", [case for case in FUSED if case not in WINOGRAD], ids=str)
def test_other_shapes_are_computed_directly(case: Fused, level: str, rng: Rng) -> None:
    x, weight, bias = arguments(case, rng)
    expect_same_bits(winograd(x, weight, bias, case), ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options))


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_same_bits(case: Fused, level: str, rng: Rng) -> None:
    """Twice, with other numbers of threads, and an image alone, in another batch, at another place."""
    case = case.with_batch(37)
    x, weight, bias = arguments(case, rng)
    y, winners = winograd(x, weight, bias, case)
    before = get_num_threads()
    for threads in (1, 2, 3):
        set_num_threads(threads)
        expect_same_bits(winograd(x, weight, bias, case), (y, winners))
    set_num_threads(before)
    for part in (slice(36, 37), slice(5, 6), slice(3, 20), slice(0, 0)):
        expect_same_bits(winograd(x[part], weight, bias, case), (y[part], winners[part]))


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(odd: float, case: Fused, level: str, rng: Rng) -> None:
    """It reaches the outputs that it reaches directly, and stays in its image."""
    case = case.with_batch(4)
    x, weight, bias = arguments(case, rng)
    clean = winograd(x, weight, bias, case)
    for row, column in ((0, 0), (case.h // 2, case.w // 3), (case.h - 2, case.w - 2)):
        spoilt = x.copy()
        spoilt[2, 0, row, column] = odd
        direct, _ = ops.conv2d_relu_max_pool2d_forward(spoilt, weight, bias, **case.options)
        y, winners = winograd(spoilt, weight, bias, case)
        concerned = ~np.isfinite(direct)
        assert concerned.any() and not np.isfinite(y[concerned]).any() and (winners[concerned] != DEAD).all()
        assert np.isnan(y[concerned & np.isnan(direct)]).all()
        others = np.arange(4) != 2
        expect_same_bits((y[others], winners[others]), (clean[0][others], clean[1][others]))
    _, winners = winograd(x, weight, np.full_like(bias, np.nan), case)
    assert (winners != DEAD).all()


@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_an_unknown_algorithm(module: Any, rng: Rng) -> None:
    x, weight, _ = arguments(CONV2, rng)
    with pytest.raises(ValueError, match="conv2d_relu_max_pool2d_forward: algorithm expects 'direct' or 'winograd', got 'fft'"):
        module.conv2d_relu_max_pool2d_forward(x, weight, algorithm="fft")
    with pytest.raises(ValueError, match="LeNet: algorithm expects one of direct, winograd, got 'fft'"):
        LeNet(ops=module, algorithm="fft")


def test_a_model_runs_by_its_algorithm(rng: Rng) -> None:
    """In training, in evaluation and frozen, it has the bits of the ops one after the other."""
    model = LeNet(seed=1, algorithm="winograd")
    x, state = normals(rng, (20, 1, 28, 28)), model.state_dict()
    y = x
    for layer in ("conv1", "conv2"):
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        y, _ = ops.conv2d_relu_max_pool2d_forward(y, weight, bias, algorithm="winograd")
    y = ops.relu_forward(ops.linear_forward(y.reshape(20, 800), state["fc1.weight"], state["fc1.bias"]))
    logits = ops.linear_forward(y, state["fc2.weight"], state["fc2.bias"])
    expect_same_bits(model(x), logits)
    expect_same_bits(model.freeze()(x), logits)
    expect_same_bits(model.eval()(x), logits)
    assert LeNet(seed=1)(x).tobytes() != logits.tobytes()


@pytest.mark.slow
def test_the_command(train: Callable[..., Any], small_mnist: Path, tmp_path: Path) -> None:
    """It trains by the algorithm that it is given."""
    assert train("--data-dir", small_mnist, "--epochs", 1, "--algorithm", "winograd", "--save-model", "trained").code == 0
    trained = load_model(tmp_path / "trained")
    model = LeNet(algorithm="winograd")
    fit(model, load_idx_directory(small_mnist), epochs=1)
    for name, array in model.state_dict().items():
        expect_same_bits(trained[name], array)
