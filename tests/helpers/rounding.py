"""How far a model's outputs in float32 can be from the exact ones, in whatever order the sums are added."""

from __future__ import annotations

import numpy as np

from fastlenet import reference
from fastlenet.nn import AvgPool2d, Conv2d, Flatten, Layer, LeakyReLU, Linear, MaxPool2d, ReLU, Sequential, Sigmoid, Tanh
from fastlenet.testing.judging import gamma
from helpers.arrays import Array
from helpers.c_program import Answers, expect_probabilities
from helpers.expect import expect_as_exact, expect_within

__all__ = ["exact_logits", "expect_as_model"]


def exact_logits(model: Sequential, images: Array) -> tuple[Array, Array]:
    """Returns the outputs for raw images (n, c, h, w) in float64, and a bound of the error of any computation in float32.

    A sum of k products errs by at most gamma_k of the sum of their magnitudes (Higham 2002); what it reads may be off by the
    error so far, which ReLU, tanh, sigmoid and the poolings do not enlarge.
    """
    c = images.shape[1]
    mean, std = (np.broadcast_to(np.asarray(number, np.float64), c).reshape(c, 1, 1) for number in (model.mean, model.std))
    x, error = (images / 255 - mean) / std, gamma(4) * (images / 255 + np.abs(mean)) / std
    for layer, name in zip(model.layers, model.names, strict=True):
        if isinstance(layer, (Conv2d, Linear, AvgPool2d)):
            weight, bias = (np.asarray(model.parameters().get(f"{name}.{key}", 0), np.float64) for key in ("weight", "bias"))
            terms = np.prod(layer.kernel_size if isinstance(layer, AvgPool2d) else weight.shape[1:])
            magnitudes = _sums(layer, np.abs(x) + error, np.abs(weight), np.abs(bias))
            error = _sums(layer, error, np.abs(weight), 0 * bias) + gamma(int(terms) + 2) * magnitudes
            x = _sums(layer, x, weight, bias)
        elif isinstance(layer, MaxPool2d):
            options = {"stride": layer.stride, "padding": layer.padding}
            x, error = (reference.max_pool2d_forward(array, layer.kernel_size, **options)[0] for array in (x, error))
        elif isinstance(layer, Flatten):
            x, error = (array.reshape(len(array), -1) for array in (x, error))
        elif isinstance(layer, (ReLU, LeakyReLU)):
            slope = layer.slope if isinstance(layer, LeakyReLU) else 0
            x, error = np.where(x > 0, x, slope * x), (error + gamma(2) * np.abs(x)) * max(1, slope)
        elif isinstance(layer, (Sigmoid, Tanh)):
            x, error = (np.tanh(x) if isinstance(layer, Tanh) else 0.5 + 0.5 * np.tanh(x / 2)), error + gamma(16)
    return x, error


def _sums(layer: Layer, x: Array, weight: Array, bias: Array) -> Array:
    if isinstance(layer, Linear):
        return np.asarray(x @ weight.T + bias)
    assert isinstance(layer, (Conv2d, AvgPool2d))
    options = {"stride": layer.stride, "padding": layer.padding}
    if isinstance(layer, AvgPool2d):
        return reference.avg_pool2d_forward(x, layer.kernel_size, **options)
    return reference.conv2d_forward(x, weight, np.broadcast_to(bias, len(weight)), **options)


def expect_as_model(model: Sequential, answers: Answers, images: Array) -> None:
    """The answers are the model's, within what float32 may round in either; so are the labels, except of ties within that."""
    x = images.reshape(len(images), *model.input_shape)
    exact, bound = exact_logits(model, x)
    expect_within(answers.logits, exact, bound)
    expect_as_exact(answers.logits, model.eval()(_input(model, x)), exact)
    off = bound.max(axis=1, keepdims=True)
    expect_probabilities(answers, model.predict_proba(images), 2 * off)
    second, first = np.sort(exact, axis=1)[:, -2:].T
    clear = first - second > 2 * off[:, 0]
    assert clear.mean() > 0.5, "too many ties to mean anything"
    np.testing.assert_array_equal(answers.numbers[clear], exact.argmax(axis=1)[clear])


def _input(model: Sequential, images: Array) -> Array:
    return model.ops.gather_images(images, range(len(images)), mean=model.mean, std=model.std)
