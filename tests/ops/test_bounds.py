"""Random inputs: kernels stay within a derived bound of the float64 reference. No tolerance here was picked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import reference
from helpers.arrays import normals
from helpers.backends import ops
from helpers.cases import CONV, FUSED, LINEAR, Conv, Fused, Linear
from helpers.expect import expect_within, gamma

pytestmark = pytest.mark.usefixtures("backend")
Rng = np.random.Generator


def _float64(*arrays: Any) -> list[Any]:
    return [array.astype(np.float64) for array in arrays]


def _absolute(*arrays: Any) -> list[Any]:
    return [np.abs(array.astype(np.float64)) for array in arrays]


@pytest.mark.parametrize("case", CONV, ids=str)
def test_conv2d(case: Conv, rng: Rng) -> None:
    """A sum of t products, in any order and with or without fused multiply-adds, errs by at most gamma_t * sum of |terms|."""
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    taps = case.c * case.filter[0] * case.filter[1]
    y = ops.conv2d_forward(x, weight, bias, **case.options)
    exact = reference.conv2d_forward(*_float64(x, weight, bias), **case.options)
    sizes = reference.conv2d_forward(*_absolute(x, weight, bias), **case.options)
    expect_within(y, exact, gamma(taps + 1) * sizes)

    dy = normals(rng, y.shape)
    gradients = ops.conv2d_backward(dy, x, weight, **case.options)
    exact_gradients = reference.conv2d_backward(*_float64(dy, x, weight), **case.options)
    sizes_of_gradients = reference.conv2d_backward(*_absolute(dy, x, weight), **case.options)
    positions = dy[:, 0].size
    terms = (case.k * case.filter[0] * case.filter[1], positions, positions)
    for actual, exact, sizes, count in zip(gradients, exact_gradients, sizes_of_gradients, terms, strict=True):
        assert actual is not None and exact is not None and sizes is not None
        expect_within(actual, exact, gamma(count) * sizes)


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_conv2d_relu_max_pool2d(case: Fused, rng: Rng) -> None:
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    taps = case.c * case.filter[0] * case.filter[1]
    y, winners = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    exact, _ = reference.conv2d_relu_max_pool2d_forward(*_float64(x, weight, bias), **case.options)
    # The bound of the convolution, at its worst in the window: both maxima move by no more.
    size = case.kernel_size
    conv_bound = gamma(taps + 1) * reference.conv2d_forward(*_absolute(x, weight, bias), padding=case.padding)
    bound, _ = reference.max_pool2d_forward(conv_bound, size)
    expect_within(y, exact, bound)

    # The winner may be another than float64's only where the two nearly tie: within twice the bound.
    conv = reference.conv2d_forward(*_float64(x, weight, bias), padding=case.padding)
    r, s = (size, size) if isinstance(size, int) else size
    windows = reference._window_view(conv, r, s)
    windows = windows.reshape(*windows.shape[:4], r * s)
    alive = winners != 255
    at_winner = np.take_along_axis(windows, np.where(alive, winners, 0)[..., None].astype(np.int64), -1)[..., 0]
    expect_within(at_winner[alive], windows.max(-1)[alive], 2 * bound[alive])
    assert (windows.max(-1)[~alive] <= bound[~alive]).all()

    dy = normals(rng, y.shape)
    gradients = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    backward = reference.conv2d_relu_max_pool2d_backward
    exact_gradients = backward(dy.astype(np.float64), winners, *_float64(x, weight), **case.options)
    absolute = _absolute(dy, x, weight)
    sizes = backward(absolute[0], winners, *absolute[1:], **case.options)
    terms = (case.k * case.filter[0] * case.filter[1], dy[:, 0].size, dy[:, 0].size)
    for actual, exact_gradient, size_of, count in zip(gradients, exact_gradients, sizes, terms, strict=True):
        assert actual is not None and exact_gradient is not None and size_of is not None
        expect_within(actual, exact_gradient, gamma(count) * size_of)


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear(case: Linear, rng: Rng) -> None:
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    bias = normals(rng, (case.outputs,))
    sizes = reference.linear_forward(*_absolute(x, weight, bias))
    y = ops.linear_forward(x, weight, bias)
    expect_within(y, reference.linear_forward(*_float64(x, weight, bias)), gamma(case.inputs + 1) * sizes)
    dy = normals(rng, y.shape)
    exact = reference.linear_backward(*_float64(dy, x, weight))
    sizes_of_gradients = reference.linear_backward(*_absolute(dy, x, weight))
    terms = (case.outputs, case.n, case.n)
    for actual, value, size, count in zip(ops.linear_backward(dy, x, weight), exact, sizes_of_gradients, terms, strict=True):
        assert actual is not None and value is not None and size is not None
        expect_within(actual, value, gamma(count) * size)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (70, 33)], ids=str)
def test_softmax_cross_entropy(shape: tuple[int, int], smoothing: float, rng: Rng) -> None:
    """Computed in float64 (exp within 3e-13), rounded once: half an ulp, and 1e-12 of the largest term."""
    logits = 30 * normals(rng, shape)
    labels = rng.integers(0, shape[1], shape[0])
    loss, dlogits = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    exact_loss, exact = reference.softmax_cross_entropy(logits.astype(np.float64), labels, label_smoothing=smoothing)
    assert abs(loss - exact_loss) <= 1e-12 * (1 + abs(exact_loss) + 60)
    expect_within(dlogits, exact, np.spacing(np.abs(exact).astype(np.float32)) / 2 + 1e-12 / shape[0])


@pytest.mark.parametrize(("smoothing", "loss"), [(0.0, np.log(2)), (0.5, np.inf), (1.0, np.inf)])
def test_softmax_cross_entropy_of_an_infinite_logit(smoothing: float, loss: float) -> None:
    """Of probability 0: the loss is infinite where the target asks for it, and never NaN."""
    logits, labels = np.float32([[-np.inf, 1, 1]]), [1]
    for module in (ops, reference):
        assert module.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)[0] == pytest.approx(loss)
    assert ops.softmax_cross_entropy(logits, [0], label_smoothing=1.0)[0] == np.inf


def test_sigmoid_backward(rng: Rng) -> None:
    """Three roundings: 1 - y, its product with y, the product with dy."""
    y, dy = rng.random(1000, np.float32), normals(rng, (1000,))
    exact = reference.sigmoid_backward(*_float64(dy, y))
    expect_within(ops.sigmoid_backward(dy, y), exact, gamma(3) * np.abs(exact) + 2.0**-149)


def test_adam_step(rng: Rng) -> None:
    """First step from zero moments: with q = |m|/(sqrt(v)+eps) <= 1/(1-...) the roundings below add up to 12 units u at most.

    lr, beta and the corrections are rounded to float32 (4), the moments take 3 roundings each (v's root halves them), the
    root, its scale, the sum with eps, the quotient and the product 1 each; the final difference rounds the parameter.
    """
    count, lr, decay = 1000, 1e-3, 1e-2
    parameters, gradients = normals(rng, (count,)), normals(rng, (count,))
    state = [parameters.copy(), gradients, np.zeros(count, np.float32), np.zeros(count, np.float32)]
    exact = [array.astype(np.float64) for array in state]
    ops.adam_step(*state, step=1, lr=lr, weight_decay=decay)
    reference.adam_step(*exact, step=1, lr=lr, weight_decay=decay)
    expect_within(state[0], exact[0], gamma(3) * np.abs(parameters.astype(np.float64)) + gamma(12) * lr)
    expect_within(state[2], exact[2], gamma(3) * np.abs(exact[2]))
    expect_within(state[3], exact[3], gamma(4) * np.abs(exact[3]) + 2.0**-149)


def test_gather_with_transform(rng: Rng) -> None:
    """float32 coordinates err by 4 roundings of at most 64, which moves a sample by that times the steepest slope, 255."""
    images = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    transform = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (6, 1, 1)) + 0.1 * normals(rng, (6, 2, 3))
    options: dict[str, Any] = {"mean": 0.1307, "std": 0.3081, "transform": transform}
    exact = reference.gather_images(images, np.arange(6), **options).astype(np.float64)
    coordinate_error = gamma(4) * 64
    bound = (2 * coordinate_error * 255 + gamma(8) * 255) / (255 * 0.3081)
    expect_within(ops.gather_images(images, np.arange(6), **options), exact, bound)
