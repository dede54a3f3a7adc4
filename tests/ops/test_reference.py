"""The reference itself: its gradients against central differences, its random numbers against published ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet import ops, reference
from fastlenet.philox import STREAM_DROPOUT, STREAM_SHUFFLE, permutation, philox, uniform

Array = npt.NDArray[Any]
Rng = np.random.Generator


def expect_gradient(function: Callable[[], Array], inputs: dict[str, Array], gradients: dict[str, Any], dy: Array) -> None:
    """Central differences of <dy, function()> in float64, PyTorch's gradcheck numbers: eps 1e-6, atol 1e-5, rtol 1e-3."""
    for name, x in inputs.items():
        numeric = np.empty_like(x)
        for i in np.ndindex(x.shape):
            value = x[i]
            x[i] = value + 1e-6
            above = float((dy * function()).sum())
            x[i] = value - 1e-6
            below = float((dy * function()).sum())
            x[i] = value
            numeric[i] = (above - below) / 2e-6
        np.testing.assert_allclose(gradients[name], numeric, rtol=1e-3, atol=1e-5, err_msg=name)
        assert np.abs(numeric).max() > 1e-2, f"{name}: a gradient of zeros proves nothing"


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 3), (2, 0))])
def test_conv2d_gradient(stride: Any, padding: Any, rng: Rng) -> None:
    x, weight, bias = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((3, 2, 3, 2)), rng.standard_normal(3)
    options = {"stride": stride, "padding": padding}
    y = reference.conv2d_forward(x, weight, bias, **options)
    dy = rng.standard_normal(y.shape)
    dx, dweight, dbias = reference.conv2d_backward(dy, x, weight, **options)
    expect_gradient(
        lambda: reference.conv2d_forward(x, weight, bias, **options),
        {"x": x, "weight": weight, "bias": bias},
        {"x": dx, "weight": dweight, "bias": dbias},
        dy,
    )


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": (3, 2), "stride": 1, "padding": 1}])
def test_max_pool2d_gradient(options: dict[str, Any], rng: Rng) -> None:
    x = rng.permutation(2 * 2 * 6 * 6).reshape(2, 2, 6, 6) * 0.1  # no two within eps of each other
    y, indices = reference.max_pool2d_forward(x, **options)
    dy = rng.standard_normal(y.shape)
    dx = reference.max_pool2d_backward(dy, indices, x.shape)
    expect_gradient(lambda: reference.max_pool2d_forward(x, **options)[0], {"x": x}, {"x": dx}, dy)


@pytest.mark.parametrize("options", [{}, {"padding": 1, "kernel_size": (1, 3)}])
def test_conv2d_relu_max_pool2d_gradient(options: dict[str, Any], rng: Rng) -> None:
    x, weight, bias = rng.standard_normal((2, 2, 6, 7)), rng.standard_normal((3, 2, 3, 2)), rng.standard_normal(3)
    y, winners = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **options)
    assert (winners == 255).any() and (winners != 255).any()
    dy = rng.standard_normal(y.shape)
    dx, dweight, dbias = reference.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **options)
    expect_gradient(
        lambda: reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **options)[0],
        {"x": x, "weight": weight, "bias": bias},
        {"x": dx, "weight": dweight, "bias": dbias},
        dy,
    )


def test_linear_gradient(rng: Rng) -> None:
    x, weight, bias = rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    dy = rng.standard_normal((3, 5))
    dx, dweight, dbias = reference.linear_backward(dy, x, weight)
    expect_gradient(
        lambda: reference.linear_forward(x, weight, bias),
        {"x": x, "weight": weight, "bias": bias},
        {"x": dx, "weight": dweight, "bias": dbias},
        dy,
    )


def test_element_wise_gradients(rng: Rng) -> None:
    x = rng.standard_normal((4, 5))
    dy = rng.standard_normal(x.shape)
    dx = reference.relu_backward(dy, reference.relu_forward(x))
    expect_gradient(lambda: reference.relu_forward(x), {"x": x}, {"x": dx}, dy)
    dx = reference.sigmoid_backward(dy, reference.sigmoid_forward(x))
    expect_gradient(lambda: reference.sigmoid_forward(x), {"x": x}, {"x": dx}, dy)
    dx = reference.dropout_backward(dy, reference.dropout_forward(x, 0.4, 1, 2)[1])
    expect_gradient(lambda: reference.dropout_forward(x, 0.4, 1, 2)[0], {"x": x}, {"x": dx}, dy)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_gradients(smoothing: float, rng: Rng) -> None:
    logits, labels = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    one = np.ones(())

    def loss() -> Array:
        return np.array(reference.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)[0])

    _, dlogits = reference.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    expect_gradient(loss, {"logits": logits}, {"logits": dlogits}, one)
    prediction, target = rng.standard_normal(6), rng.standard_normal(6)
    _, dprediction = reference.squared_error(prediction, target)
    expect_gradient(
        lambda: np.array(reference.squared_error(prediction, target)[0]), {"p": prediction}, {"p": dprediction}, one
    )


def test_same_names_and_signatures() -> None:
    import inspect

    assert sorted(ops.__all__) == sorted(reference.__all__)
    for name in set(ops.__all__) - {"name"}:
        ours, theirs = (inspect.signature(getattr(module, name)) for module in (ops, reference))
        assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ], name


def test_philox_published_vector() -> None:
    """The known answer of Philox4x32-10 at counter 0 and key 0, published with Random123 (Salmon et al. 2011)."""
    assert philox(0, 0, 0, 4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_philox_words() -> None:
    """A word depends neither on how many are asked for, nor but by its own counter on the others; each half of a key counts."""
    words = philox(7, 1, 2**33 + 1, 1001)
    assert words[:10].tolist() == philox(7, 1, 2**33 + 1, 10).tolist()
    others = [(8, 1, 2**33 + 1), (7 + 2**32, 1, 2**33 + 1), (7, 2, 2**33 + 1), (7, 1, 2**33 + 2), (7, 1, 1)]
    for other in others:
        assert np.mean(words == philox(*other, 1001)) < 0.01


def test_streams_differ_and_are_even() -> None:
    """100,000 draws: correlations have a standard deviation of 0.0032, means one of 0.0009; six of each are allowed."""
    a, b = (uniform(3, stream, 0, 100000) for stream in (STREAM_SHUFFLE, STREAM_DROPOUT))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.019 and abs(a.mean() - 0.5) < 0.0055 and a.min() >= 0 and a.max() < 1
    assert abs(np.corrcoef(a, uniform(3, STREAM_SHUFFLE, 1, 100000))[0, 1]) < 0.019


def test_permutation() -> None:
    order = permutation(1000, 5, 0)
    assert sorted(order.tolist()) == list(range(1000))
    assert not np.array_equal(order, permutation(1000, 5, 1)) and not np.array_equal(order, permutation(1000, 6, 0))
    assert np.array_equal(order, permutation(1000, 5, 0))
