"""The GPU backend beyond its ops: arrays, graphs, networks, other libraries, and what is said when something is wrong.

With -m cuda on a build for a GPU or for the emulated one. What only the emulation can do, such as losing its device, runs there
alone; the orders of a block's threads are its own too.
"""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, cuda, nn, reference
from fastlenet.optim import SGD, AdamW
from fastlenet.testing import Op, checks
from helpers.arrays import integers, normals
from helpers.backends import emulation, in_every_order, ops
from helpers.command import Result
from helpers.described import cases
from helpers.expect import expect_same_bits, expect_within, gamma

Rng = np.random.Generator
Train = Callable[..., Result]

pytestmark = pytest.mark.cuda

# --- the same bits, whatever the order of the threads ------------------------------------------------------------------------


@cases("bounded")
def test_orders(op: Op, case: Any) -> None:
    call = checks.calls_of(op, case, "normals")[0]
    in_every_order(lambda: tuple(np.asarray(array) for array in op.run(ops, call.copied()) if array is not None))


# --- arrays ----------------------------------------------------------------------------------------------------------------


def test_arrays(rng: Rng) -> None:
    host = normals(rng, (4, 3, 2))
    array = cuda.from_numpy(host)
    assert array.shape == (4, 3, 2) and array.dtype == np.float32 and len(array) == 4 and array.nbytes == 96
    for actual, expected in [
        (array, host),
        (array[1:3], host[1:3]),
        (array[-1], host[-1]),
        (array[2:1], host[2:1]),
        (array.reshape(2, -1), host.reshape(2, -1)),
        (array.reshape((12, 2))[4:].copy(), host.reshape(12, 2)[4:]),
        (pickle.loads(pickle.dumps(array)), host),
        (np.asarray(array, np.float64), host.astype(np.float64)),
    ]:
        np.testing.assert_array_equal(np.asarray(actual), expected)
    array[1:2][...] = 7
    array[3][...] = np.arange(6).reshape(3, 2)
    host[1:2], host[3] = 7, np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(array.numpy(), host)
    array.fill(2.5)
    assert (array.numpy() == 2.5).all() and float(array.reshape(24)[3]) == 2.5
    for wrong in (slice(None, None, 2), 4, "x"):
        with pytest.raises(IndexError, match="takes an int or a slice of step 1"):
            array[wrong]
    with pytest.raises(ValueError, match="reshape: 24 elements do not fit"):
        array.reshape(5, 5)
    with pytest.raises(ValueError, match="by a copy only"):
        np.array(array, copy=False)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        array[:2][...] = 1
    with pytest.raises(ValueError, match="relu_forward: out expects a writable array"):
        cuda.relu_forward(host, out=array)


class Foreign:
    """What another library's array looks like."""

    def __init__(self, array: cuda.DeviceArray, **changes: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changes


class ForeignDLPack:
    def __init__(self, array: cuda.DeviceArray) -> None:
        self.array = array

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries(rng: Rng) -> None:
    host = normals(rng, (3, 5))
    array = cuda.from_numpy(host)
    for foreign in (Foreign(array), Foreign(array, strides=(20, 4)), ForeignDLPack(array)):
        np.testing.assert_array_equal(cuda.relu_forward(foreign).numpy(), np.maximum(host, 0))
    copy = cuda.from_dlpack(ForeignDLPack(array))
    assert copy.address == array.address and copy.shape == (3, 5) and copy.dtype == np.float32
    array.fill(1)
    assert (copy.numpy() == 1).all()
    with pytest.raises(TypeError, match="expects dense rows on a GPU"):
        cuda.relu_forward(Foreign(array, strides=(40, 8)))
    with pytest.raises(TypeError, match="x expects a device or numpy array of float32, got int32"):
        cuda.relu_forward(Foreign(array, typestr="<i4"))
    with pytest.raises(cuda.DeviceError, match="does not lie in GPU memory"):
        cuda.relu_forward(Foreign(array, data=(host.ctypes.data, False)))


def test_outputs_must_not_overlap_inputs() -> None:
    flat = cuda.from_numpy(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="out must not share memory with x"):
        cuda.relu_forward(flat[:5], out=flat[1:6])
    assert cuda.relu_forward(flat, out=flat) is flat
    with pytest.raises(TypeError, match="out expects a device array of float32, got ndarray"):
        cuda.relu_forward(flat, out=np.zeros(10, np.float32))
    with pytest.raises(TypeError, match="velocity expects a device array of float32, got ndarray"):
        cuda.sgd_step(flat, flat.copy(), np.zeros(10, np.float32), lr=1.0, momentum=0.9)


# --- wrong values that the device alone sees ---------------------------------------------------------------------------------


def _wrong_values() -> list[tuple[str, Callable[[], Any]]]:
    def put(*values: int, dtype: Any = np.int64) -> cuda.DeviceArray:
        return cuda.from_numpy(np.array(values, dtype))

    logits, images = np.zeros((2, 3), np.float32), np.zeros((5, 2, 2), np.uint8)
    dy, filters = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    x = np.ones((1, 1, 2, 2), np.float32)
    indices = put(4, dtype=np.int32).reshape(1, 1, 1, 1)
    winners = put(4, dtype=np.uint8).reshape(1, 1, 1, 1)
    return [
        ("labels expects classes", lambda: cuda.softmax_cross_entropy(logits, put(1, 3))),
        ("index expects numbers of images", lambda: cuda.gather_images(images, put(0, -1), mean=0.0, std=1.0)),
        ("indices expects places", lambda: cuda.max_pool2d_backward(dy, indices, (1, 1, 2, 2))),
        ("winners expects positions", lambda: cuda.conv2d_relu_max_pool2d_backward(dy, winners, x, filters)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_wrong_values_on_the_device(number: int) -> None:
    """They count as absent, and the next synchronisation names them; the one after that is clean."""
    message, call = _wrong_values()[number]
    call()
    with pytest.raises(ValueError, match=message):
        cuda.synchronize()
    cuda.synchronize()


# --- networks --------------------------------------------------------------------------------------------------------------


def test_three_steps_against_numpy(rng: Rng) -> None:
    """As tests/test_lenet.py has it for the CPU: gradients to 1e-4 of their largest value, 2 x gamma(800)."""
    models = LeNet(seed=2, ops=cuda), LeNet(seed=2, ops=reference)
    optimizers = [SGD(model, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3) for model in models]
    for _ in range(3):
        x, labels = normals(rng, (6, 1, 28, 28)), rng.integers(0, 10, 6)
        for model, optimizer in zip(models, optimizers, strict=True):
            _, dlogits = model.ops.softmax_cross_entropy(model(x), labels)
            model.backward(dlogits)
            optimizer.step()
    for ours, theirs in zip(models[0].gradients().values(), models[1].gradients().values(), strict=True):
        expect_within(np.asarray(ours), theirs, 2 * gamma(800) * np.abs(theirs).max())
    expect_within(np.asarray(models[0].parameter_buffer), models[1].parameter_buffer, 1e-5)


def test_every_layer_and_adamw(rng: Rng) -> None:
    """Layers outside LeNet: padding, strides, overlapping pools, sigmoid, dropout; integers in, so that only Adam rounds."""

    def make(ops: Any) -> nn.Sequential:
        layers = [nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=1), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(27, 4), nn.Sigmoid(), seed=5, ops=ops)

    x, dy = integers(rng, (3, 2, 10, 10)), normals(rng, (3, 4))
    results = []
    for backend in (cuda, reference):
        model: Any = make(backend)
        optimizer = AdamW(model)
        model(x)
        dx = model.backward(dy if backend is reference else cuda.from_numpy(dy), need_dx=True)
        optimizer.step()
        model.eval()
        results.append([np.asarray(a) for a in (dx, model.gradient_buffer, model(x))])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_a_frozen_model_and_a_pickled_one(rng: Rng) -> None:
    model: Any = LeNet(seed=1, ops=cuda)
    x = normals(rng, (3, 1, 28, 28))
    expected = model.eval()(x).numpy()
    frozen = model.freeze()
    expect_same_bits(frozen(x).numpy(), expected)
    for _ in range(2):
        expect_same_bits(frozen(x[:1]).numpy(), expected[:1])
        expect_same_bits(frozen(cuda.from_numpy(x[:1])).numpy(), expected[:1])
    expect_same_bits(pickle.loads(pickle.dumps(model))(x).numpy(), expected)
    other: Any = LeNet(seed=9, ops=cuda)
    other.load_state_dict(model.state_dict())
    expect_same_bits(other.eval()(x).numpy(), expected)


def test_a_graph_does_what_its_ops_do(rng: Rng) -> None:
    x, y = cuda.from_numpy(normals(rng, (100,))), cuda.empty((100,))
    graph = cuda.Graph(lambda: cuda.relu_forward(cuda.sigmoid_forward(x), out=y))
    for _ in range(3):
        x[...] = normals(rng, (100,))
        graph.launch()
        expect_same_bits(y.numpy(), cuda.sigmoid_forward(x).numpy())


def test_what_a_graph_cannot_do(rng: Rng) -> None:
    """It does the work, says why it is void, and the next graph is none the worse."""
    host, x = normals(rng, (5,)), cuda.from_numpy(normals(rng, (5,)))
    works: list[tuple[Callable[[], Any], str]] = [
        (lambda: cuda.relu_forward(host).numpy(), "copy from the host"),
        (lambda: cuda.relu_forward(x).numpy(), "read a result"),
        (lambda: cuda.synchronize(), "wait"),
    ]
    for work, reason in works:
        graph = cuda.Graph(work)
        assert graph.reason is not None and graph.reason.startswith(f"the work to be captured cannot {reason}")
        with pytest.raises(RuntimeError, match=f"^Graph: it cannot be launched; .* cannot {reason}"):
            graph.launch()
        if isinstance(graph.result, np.ndarray):
            expect_same_bits(graph.result, np.maximum(host if reason == "copy from the host" else x.numpy(), 0))
    y = cuda.empty((5,))
    cuda.Graph(lambda: cuda.relu_forward(x, out=y)).launch()
    expect_same_bits(y.numpy(), np.maximum(x.numpy(), 0))


def test_a_graph_keeps_its_arrays(rng: Rng) -> None:
    x, y = cuda.from_numpy(normals(rng, (100,))), cuda.empty((100,))
    expected = np.maximum(x.numpy(), 0)
    graph = cuda.Graph(functools.partial(cuda.relu_forward, x, out=y))
    del x
    others = [cuda.from_numpy(np.zeros(100, np.float32)) for _ in range(5)]
    graph.launch()
    expect_same_bits(y.numpy(), expected)
    assert len(others) == 5


def test_inverse_root() -> None:
    for square, expected in ((0.0, 0.0), (4.0, 0.5), (0.25, 2.0), (np.nan, np.nan)):
        rate = cuda.inverse_root(cuda.from_numpy(np.array(square))) * -3.0
        np.testing.assert_array_equal(rate.base.numpy() * rate.factor, -3.0 * expected)
    for square, expected in ((0.0, 0.5), (3.0, 0.5), (16.0, 0.25), (np.nan, np.nan)):
        rate = cuda.inverse_root(cuda.from_numpy(np.array(square)), at_least=4.0)
        np.testing.assert_array_equal(rate.base.numpy(), expected)
    with pytest.raises(ValueError, match="inverse_root: at_least expects a number of at least 0, got -1"):
        cuda.inverse_root(cuda.from_numpy(np.array(1.0)), at_least=-1)


# --- devices that fail ----------------------------------------------------------------------------------------------------


FAILING = """
import numpy
from fastlenet import cuda
x = cuda.from_numpy(numpy.zeros((300, 300), "f"))
for _ in range(200):
    cuda.relu_forward(x).numpy()
"""


@emulation
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("FASTLENET_EMULATION_DEVICES=0", "no usable NVIDIA GPU"),
        ("FASTLENET_EMULATION_MEMORY=100000", "out of GPU memory: "),
        ("FASTLENET_EMULATION_LOST=100", "the GPU failed while "),
    ],
)
def test_failing_devices(variable: str, message: str) -> None:
    """A DeviceError of one line that says what is wrong."""
    name, _, value = variable.partition("=")
    result = subprocess.run(
        [sys.executable, "-c", FAILING], env=os.environ | {name: value}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"fastlenet._core.DeviceError: {message}")


@emulation
def test_an_unknown_order_is_an_error() -> None:
    code = "from fastlenet import cuda; cuda.relu_forward(__import__('numpy').zeros(3, 'f'))"
    environment = os.environ | {"FASTLENET_EMULATION_ORDER": "sideways"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "FASTLENET_EMULATION_ORDER expects forward, reverse or random, got sideways" in result.stderr
