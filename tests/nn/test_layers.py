"""The interface of layers: what a layer of one's own is given, what it must return, and which arguments the layers take."""

from __future__ import annotations

import numpy as np
import pytest

from fastlenet import nn, ops
from fastlenet.backend import Array
from helpers.arrays import integers, normals
from helpers.expect import expect_equal, expect_same_bits

Rng = np.random.Generator


class Twice(nn.Layer):
    """y = 2x, in NumPy; its random numbers' seed and counters are kept for the test."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool, int, int]] = []

    def forward(self, x: Array, context: nn.Context) -> Array:
        self.seen.append((context.training, context.need_dx, context.seed, context.counter))
        context.save("as it was", x.shape)
        return np.multiply(x, 2, out=context.output(x.shape))

    def backward(self, dy: Array, context: nn.Context) -> Array | None:
        word, shape = context.saved
        assert word == "as it was"
        self.seen.append((context.training, context.need_dx, context.seed, context.counter))
        return np.multiply(dy, 2, out=context.output(shape))


class Broken(nn.Layer):
    """Returns nothing, forward or backward."""

    def __init__(self, forward: bool) -> None:
        self.broken_forward = forward

    def forward(self, x: Array, context: nn.Context) -> Array:
        return None if self.broken_forward else x

    def backward(self, dy: Array, context: nn.Context) -> Array | None:
        return None


def test_a_layer_of_ones_own_trains_in_every_place(rng: Rng) -> None:
    """First, between and last; its numbers are read anew in every pass, though the arrays are the same."""
    model = nn.Sequential(Twice(), nn.Linear(3, 4), Twice(), nn.ReLU(), Twice(), seed=7)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    plain.parameter_buffer[...] = model.parameter_buffer[...] = integers(rng, (16,))
    x, dy = integers(rng, (5, 3)), integers(rng, (5, 4))
    for _ in range(3):
        x[...], dy[...] = integers(rng, x.shape), integers(rng, dy.shape)
        expect_equal(model(x), 4 * plain(2 * x))
        dx, expected = model.backward(dy, need_dx=True), plain.backward(4 * dy, need_dx=True)
        assert dx is not None and expected is not None
        expect_equal(dx, 2 * expected)
        model.backward(dy)
        expect_equal(model.gradient_buffer, plain.gradient_buffer)
    first, middle, last = (layer.seen for layer in model.layers if isinstance(layer, Twice))
    assert [need_dx for _, need_dx, _, _ in first] == [True, True, False] * 3
    assert all(need_dx for _, need_dx, _, _ in middle + last)
    assert {seed for _, _, seed, _ in first + middle + last} == {7}
    counters = [{counter for *_, counter in seen} for seen in (first, middle, last)]
    assert len(set.union(*counters)) == sum(map(len, counters)) == 9  # three layers, three steps
    model.eval()(x)
    assert first[-1][0] is False and first[0][0] is True


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.ReLU(), Broken(True)], "layer '1': forward expects to return an array, got NoneType"),
        ([nn.ReLU(), nn.Layer()], r"Layer expects a method forward\(x, context\)"),
    ],
)
def test_a_layer_that_returns_nothing(layers: list[nn.Layer], message: str) -> None:
    with pytest.raises((TypeError, NotImplementedError), match=message):
        nn.Sequential(*layers)(np.ones((2, 2), np.float32))


def test_a_layer_without_a_gradient(rng: Rng) -> None:
    """May be the first one, since nobody wants it there."""
    x = normals(rng, (2, 2))
    model = nn.Sequential(nn.Linear(2, 2), Broken(False))
    model(x)
    with pytest.raises(TypeError, match="layer '1': backward expects to return the gradient by its input, got None"):
        model.backward(x)
    model = nn.Sequential(Broken(False), nn.Linear(2, 2))
    model(x)
    assert model.backward(x) is None
    expect_same_bits(model.gradients()["1.bias"], x.sum(axis=0))
    with pytest.raises(TypeError, match="layer '0': backward expects"):
        model.backward(x, need_dx=True)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_result_is_the_callers_whatever_the_last_layer_returns(mode: str, rng: Rng) -> None:
    """Its input, or a view of it."""
    for layers in ([nn.Flatten()], [Broken(False)], [nn.ReLU(), nn.Flatten()], [nn.ReLU(), Broken(False)], []):
        model, x = getattr(nn.Sequential(*layers), mode)(), normals(rng, (2, 3, 2))
        x[...] = np.abs(x)
        first = model(x)
        kept = first.copy()
        assert not np.shares_memory(first, x)
        second = model(x + 1)
        assert not np.shares_memory(first, second)
        expect_same_bits(first, kept)
        expect_same_bits(first.reshape(x.shape), x)


@pytest.mark.parametrize("kernel_size", [1, 3, (5, 3), (1, 7)])
def test_padding_same_and_valid(kernel_size: int | tuple[int, int], rng: Rng) -> None:
    x = integers(rng, (2, 2, 9, 11))
    same, valid = (nn.Sequential(nn.Conv2d(2, 3, kernel_size, padding=padding)) for padding in ("same", "valid"))
    r, s = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    for model, padding in ((same, (r // 2, s // 2)), (valid, (0, 0))):
        weight, bias = (integers(rng, array.shape) for array in model.parameters().values())
        model.load_state_dict({"0.weight": weight, "0.bias": bias})
        expect_equal(model(x), ops.conv2d_forward(x, weight, bias, padding=padding))
        model(x)
        assert model.layers[0].output_shape((2, 9, 11)) == model(x).shape[1:]
    assert same(x).shape == (2, 3, 9, 11)


@pytest.mark.oracle
@pytest.mark.parametrize("kernel_size", [3, (5, 7)])
def test_padding_same_is_pytorchs(kernel_size: int | tuple[int, int], rng: Rng, torch: object) -> None:
    import torch

    x = integers(rng, (1, 2, 8, 9))
    theirs = torch.nn.Conv2d(2, 3, kernel_size, padding="same")
    ours = nn.Sequential(nn.Conv2d(2, 3, kernel_size, padding="same"))
    weight, bias = (integers(rng, array.shape) for array in ours.parameters().values())
    ours.load_state_dict({"0.weight": weight, "0.bias": bias})
    theirs.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    expect_equal(ours(x), theirs(torch.from_numpy(x)).detach().numpy())
