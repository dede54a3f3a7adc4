"""A pass is captured and launched again to the same bits, and the steady state takes no new memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn, ops
from fastlenet.backend import NAMES, Uncaptured
from helpers.arrays import normals
from helpers.expect import expect_equal, expect_same_bits

Rng = np.random.Generator


def op_by_op() -> ModuleType:
    """The kernels as a backend that captures nothing."""
    backend = ModuleType("op_by_op")
    vars(backend).update({name: getattr(ops, name) for name in NAMES}, Graph=Uncaptured)
    return backend


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pass_is_captured(frozen: bool, rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second time on no op is called from Python."""
    model, calls = LeNet(), []
    run, x = model.freeze() if frozen else model, normals(rng, (2, 1, 28, 28))
    for name in ("conv2d_relu_max_pool2d_forward", "linear_forward", "linear_backward"):
        function = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, f=function, **o: calls.append(f) or f(*a, **o))
    dy = normals(rng, (2, 10))
    for _ in range(3):
        calls.clear()
        run(x)
        if not frozen:
            model.backward(dy)
    assert not calls


# NumPy 2.5 still does it.
@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype) on a NumPy array:DeprecationWarning")
def test_an_array_that_has_changed_its_shape_or_dtype(rng: Rng) -> None:
    """Is another one for a graph, though it is the same object."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), seed=1)
    x = normals(rng, (1, 1, 4, 9))
    model(x)
    x.shape = (1, 1, 6, 6)
    expect_same_bits(model(x), ops.conv2d_forward(x, *model.parameters().values()))
    x.dtype = np.int32
    with pytest.raises(TypeError, match="x expects a numpy array of float32, got int32"):
        model(x)


def test_a_launched_step_has_the_bits_of_the_first(rng: Rng) -> None:
    """New numbers in the same arrays, smaller batches, other arrays and algorithms in between."""
    model, plain = LeNet(), LeNet(ops=op_by_op())
    x, dy = ops.empty((24, 1, 28, 28)), ops.empty((24, 10))
    for n in (24, 24, 24, 7, 7, 24, 24):
        x[...], dy[...] = normals(rng, x.shape), normals(rng, dy.shape)
        model.parameter_buffer += np.float32(0.001)
        plain.parameter_buffer[...] = model.parameter_buffer
        for algorithm in ("direct", "winograd"):
            model.algorithm = plain.algorithm = algorithm
            for images, gradient in ((x[:n], dy[:n]), (x[:n], dy[:n]), (x[:n].copy(), dy[:n]), (x[:n], dy[:n].copy())):
                y = model(images)
                kept = y.copy()
                expect_same_bits(y, plain(images))
                model.backward(gradient)
                plain.backward(gradient)
                expect_same_bits(model.gradient_buffer, plain.gradient_buffer)
                expect_equal(model.backward(gradient, need_dx=True), plain.backward(gradient, need_dx=True))
                model(images)
                expect_same_bits(y, kept)


def test_what_cannot_be_captured(rng: Rng) -> None:
    """A call that fails fails again; a strided array is read again; dropout draws again."""
    model, plain = LeNet(), LeNet(ops=op_by_op())
    x, dy = normals(rng, (24, 1, 28, 28)), normals(rng, (12, 10))
    for _ in range(3):
        x[...] = normals(rng, x.shape)
        expect_same_bits(model(x[::2]), plain(x[::2]))
        wrong = dy.astype(np.float64)
        for _ in range(2):
            with pytest.raises(TypeError, match="dy expects a numpy array of float32"):
                model.backward(wrong)
    dropping = LeNet(dropout=0.5)
    assert (dropping(x) != dropping(x)).any()


def test_no_allocation_in_the_steady_state(rng: Rng) -> None:
    """After two steps, a step of training allocates the logits and small objects only: no buffer of activations."""
    model = LeNet()
    x, labels = normals(rng, (32, 1, 28, 28)), rng.integers(0, 10, 32)
    dlogits = ops.empty((32, 10))

    def step() -> None:
        ops.softmax_cross_entropy(model(x), labels, out=dlogits)
        model.backward(dlogits)

    for _ in range(2):
        step()
    tracemalloc.start()
    try:
        for _ in range(3):
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # NumPy reports its arrays to tracemalloc. pool1's output alone, 32*20*12*12 floats, would be 368,640 bytes.
    assert peak < 60_000


def held(calls: Callable[[], Any]) -> int:
    """The bytes that are held after calls(): NumPy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        kept = calls()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if kept is not None else 0
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "n", "graphs"), [("train", 2, 1), ("eval", 2, 1), ("freeze", 6, 1), ("freeze", 2, 8)])
def test_buffers_are_of_the_largest_pass_however_many_sizes_there_were(how: str, n: int, graphs: int) -> None:
    """A frozen model keeps a few passes of up to four images besides."""

    def serve(*sizes: int) -> Any:
        model: Any = getattr(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 1, 3), nn.ReLU()), how)()
        for size in sizes:
            y = model(np.zeros((n, 1, size, size), np.float32))
            if how == "train":
                model.backward(y)
        return model

    sizes = range(8, 40)
    assert held(lambda: serve(*sizes)) < (graphs + 0.2) * held(lambda: serve(sizes[-1]))
    assert held(lambda: serve(*reversed(sizes))) < (graphs + 0.2) * held(lambda: serve(sizes[-1]))


def test_two_sizes_in_turn_take_no_new_memory(rng: Rng) -> None:
    """Training with two batch sizes, and evaluations between: all buffers stay."""
    backend = op_by_op()
    taken: list[tuple[int, ...]] = []
    empty = backend.empty

    def counted(shape: Any, dtype: Any = np.float32) -> Any:
        taken.append(shape)
        return empty(shape, dtype)

    backend.empty = counted
    model = LeNet(ops=backend)
    for step, n in enumerate((16, 7, 16, 7)):
        model(normals(rng, (n, 1, 28, 28)))
        model.backward(normals(rng, (n, 10)))
        model.eval()
        model(normals(rng, (20, 1, 28, 28)))
        model.train()
        if step > 0:
            assert taken == [(n, 10), (20, 10)]  # the logits, which belong to the caller
        taken.clear()
