"""The reference itself: its gradients against central differences, its random numbers against published ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastlenet import backend, ops, reference
from fastlenet.philox import (
    STREAM_AUGMENT,
    STREAM_DROPOUT,
    STREAM_INIT,
    STREAM_SHUFFLE,
    permutation,
    philox,
    uniform,
)
from fastlenet.testing import OPS, Op
from fastlenet.testing.values import Numbers

Array = npt.NDArray[Any]
Rng = np.random.Generator


def expect_gradient(function: Callable[[], Array], inputs: dict[str, Any], gradients: dict[str, Any], dy: Array) -> None:
    """Central differences of <dy, function()> in float64, PyTorch's gradcheck numbers: eps 1e-6, atol 1e-5, rtol 1e-3."""
    for name in gradients:
        x = inputs[name]
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


class Doubles(Numbers):
    """Normals in float64."""

    def __call__(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape)


WITH_GRADIENTS = [(op, case) for op in OPS.values() if op.gradient or op.scalar for case in op.small]


@pytest.mark.parametrize(("op", "case"), [pytest.param(op, case, id=f"{op.name}-{case}") for op, case in WITH_GRADIENTS])
def test_gradients(op: Op, case: Any) -> None:
    """Of every op that is a gradient, and of every loss, which returns its own."""
    inputs, _, arguments = op.chain(case, Doubles("normals", op.name, case))
    results = op.run(reference, arguments)
    if op.gradient is None:
        (name,) = op.arrays[:1]
        one = np.ones(())
        expect_gradient(lambda: np.array(op.run(reference, arguments)[0]), arguments, {name: results[1]}, one)
        return
    winners = arguments.get("winners")
    assert winners is None or (0 < np.mean(winners == 255) < 1)
    forward = op.gradient.forward
    gradients = dict(zip(op.gradient.of, results, strict=True))
    expect_gradient(lambda: np.asarray(forward.run(reference, inputs)[0]), inputs, gradients, arguments["dy"])


def test_same_names_and_signatures() -> None:
    import inspect

    assert sorted(ops.__all__) == sorted(reference.__all__)
    for name in (*backend.OPS, "empty"):
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


def test_uniform_numbers_in_pieces() -> None:
    """From any number on, they are those of one call."""
    whole = uniform(2**40 + 5, STREAM_DROPOUT, 7, 1001)
    for cuts in ([0, 1001], [0, 1, 6, 1001], [0, 400, 403, 1001]):
        pieces = [uniform(2**40 + 5, STREAM_DROPOUT, 7, b - a, a) for a, b in itertools.pairwise(cuts)]
        assert np.array_equal(np.concatenate(pieces), whole)


def test_streams_differ_and_are_even() -> None:
    """No two uses of random numbers share a stream. 100,000 draws: correlations have a standard deviation of 0.0032, means one
    of 0.0009; six of each are allowed.
    """
    assert (STREAM_INIT, STREAM_SHUFFLE, STREAM_DROPOUT, STREAM_AUGMENT) == (0, 1, 2, 3)
    a, b = (uniform(3, stream, 0, 100000) for stream in (STREAM_SHUFFLE, STREAM_DROPOUT))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.019 and abs(a.mean() - 0.5) < 0.0055 and a.min() >= 0 and a.max() < 1
    assert abs(np.corrcoef(a, uniform(3, STREAM_SHUFFLE, 1, 100000))[0, 1]) < 0.019
    words = philox(3, STREAM_SHUFFLE, 0, 100000).tolist()
    assert a.tolist() == [(word >> 8) / 2**24 for word in words]  # so that float32 holds each, and rounds none to 1


def test_permutation() -> None:
    """A sort by 64 bits of the epoch's random words: of 300,000 words of 32 bits some ten pairs are equal."""
    order = permutation(300000, 5, 0)
    words = philox(5, STREAM_SHUFFLE, 0, 600000)
    assert len(np.unique(words[0::2])) < 300000
    np.testing.assert_array_equal(order, np.lexsort((words[1::2], words[0::2])))
    few = permutation(1000, 5, 0)
    assert not np.array_equal(few, permutation(1000, 5, 1)) and not np.array_equal(few, permutation(1000, 6, 0))
