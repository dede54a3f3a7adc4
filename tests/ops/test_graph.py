"""Graphs: what they capture and repeat, what voids them and how they say so, on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import copy
import gc
import threading
from typing import Any

import numpy as np
import pytest

from fastlenet import cuda, nn, ops, reference
from fastlenet.backend import OPS, Array
from helpers.arrays import normals
from helpers.calls import CALLS
from helpers.expect import expect_same_bits

Rng = np.random.Generator

# What takes or returns numbers of Python's; a graph would repeat those of the first time.
UNCAPTURED = {
    "adam_step",
    "dropout_forward",
    "ema_step",
    "inverse_root",
    "muon_step",
    "sgd_step",
    "squared_error",
}


NUMBERS = "it failed, or takes or returns numbers that no launch would renew"


def results_of(result: Any) -> tuple[Any, ...]:
    """A captured loss is an array."""
    return tuple(np.asarray(value) for value in (result if isinstance(result, tuple) else (result,)) if value is not None)


def call_op(name: str, arrays: dict[str, Any], **options: Any) -> Any:
    if name == "inverse_root":
        return ops.inverse_root(4.0)
    return getattr(ops, name)(**arrays, **CALLS[name].options, **options)


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_captured_or_voids_the_graph(name: str, rng: Rng) -> None:
    """A launch computes with the numbers that the arrays hold then; the reason names the op."""
    arrays = copy.deepcopy(CALLS[name].arrays) if name in CALLS else {}
    graph = ops.Graph(lambda: call_op(name, arrays))
    assert graph.calls == (name != "inverse_root")
    if name in UNCAPTURED:
        assert graph.reason is not None and graph.reason.startswith(f"{name} cannot be captured: ")
        with pytest.raises(RuntimeError, match=f"^Graph: it cannot be launched; {name} cannot be captured: "):
            graph.launch()
        return
    assert graph.reason is None
    expect_same_bits(results_of(graph.result), results_of(call_op(name, arrays)))
    for array in arrays.values():
        if array.dtype == np.float32:
            array[...] = normals(rng, array.shape)
    expected, results = results_of(call_op(name, arrays)), results_of(graph.result)
    assert any((result != other).any() for result, other in zip(results, expected, strict=True))
    graph.launch()
    expect_same_bits(results, expected)


@pytest.mark.parametrize("level", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_graph_is_launched_again_and_with_copies(level: str, rng: Rng) -> None:
    """In the same words on both devices."""
    module: Any = ops if level == "cpu" else cuda
    to_device = np.copy if level == "cpu" else cuda.from_numpy
    x, y = to_device(normals(rng, (3, 5))), module.empty((3, 5))

    def work(x: Any) -> Any:
        return module.relu_forward(module.sigmoid_backward(x, x), out=y)

    def expected(x: Any) -> Array:
        return np.asarray(ops.relu_forward(ops.sigmoid_backward(np.asarray(x), np.asarray(x))))

    graph = module.Graph(work, x)
    assert graph.reason is None and graph.result is y and graph.calls == 2
    expect_same_bits(np.asarray(y), expected(x))  # the work was done
    x[...] = normals(rng, (3, 5))
    assert graph.launch() is None
    expect_same_bits(np.asarray(y), expected(x))
    for other in (normals(rng, (3, 5)), normals(rng, (5, 3)).T, to_device(normals(rng, (3, 5))), x):
        result = graph.launch(copy_of=other)
        assert result is not y
        expect_same_bits(np.asarray(result), expected(other))
        expect_same_bits(np.asarray(x), np.ascontiguousarray(other))
    assert graph.reads(x) and not graph.reads(y) and not graph.reads() and not graph.reads(x, x)
    assert not graph.reads(x.copy()) and not graph.reads(x.reshape(5, 3)) and not graph.reads(x[:2])
    for wrong, kind, message in (
        (np.zeros((3, 5)), TypeError, "Graph: copy_of expects .* float32, got float64"),
        (np.ma.zeros((3, 5), np.float32), TypeError, "Graph: copy_of expects .*, got a masked array"),
        ([[1.0]], TypeError, "Graph: copy_of expects .*, got list"),
        (np.zeros((5, 3), np.float32), ValueError, r"Graph: copy_of expects shape \(3, 5\), got \(5, 3\)"),
    ):
        with pytest.raises(kind, match=message):
            graph.launch(copy_of=wrong)
    with pytest.raises(ValueError, match="Graph: copy_of expects a graph of one input, this one has 2"):
        module.Graph(lambda a, b: None, x, y).launch(copy_of=x)
    assert module.Graph(lambda x: None, x).launch(copy_of=x) is None


@pytest.mark.parametrize("level", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_an_exception_goes_on_and_leaves_nothing_behind(level: str, rng: Rng) -> None:
    module: Any = ops if level == "cpu" else cuda
    x = normals(rng, (4,)) if level == "cpu" else cuda.from_numpy(normals(rng, (4,)))

    def work(x: Any) -> None:
        module.relu_forward(x)
        module.relu_backward(x, x.reshape(2, 2))

    with pytest.raises(ValueError, match=r"^relu_backward: dy expects shape \(2, 2\)"):
        module.Graph(work, x)
    y = module.empty((4,))
    graph = module.Graph(lambda x: module.relu_forward(x, out=y), x)
    assert graph.calls == 1 and graph.reason is None
    x[...] = np.float32([1, -1, 2, -2])
    graph.launch()
    assert np.asarray(y).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("level", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_void_says_why(level: str, rng: Rng) -> None:
    """Once; and outside of a capture it does nothing."""
    module: Any = ops if level == "cpu" else cuda
    x = normals(rng, (4,)) if level == "cpu" else cuda.from_numpy(normals(rng, (4,)))

    def work(x: Any) -> Any:
        module.Graph.void("a first reason")
        module.Graph.void("a second one")
        return module.relu_forward(x)

    module.Graph.void("nothing is captured")
    graph = module.Graph(work, x)
    assert graph.reason == "a first reason"
    expect_same_bits(np.asarray(graph.result), np.maximum(np.asarray(x), 0))
    assert not [graph for graph in (module.Graph(module.relu_forward, x),) if graph.reason is not None]


def test_packing_voids_the_graph(rng: Rng) -> None:
    """Which would go on with the old numbers; with what was packed before, it is captured."""
    x, weight = normals(rng, (2, 6)), normals(rng, (3, 6))
    graph = ops.Graph(lambda x: ops.linear_forward(x, ops.Packed(weight)), x)
    assert graph.reason is not None and graph.reason.startswith("Packed cannot be captured")
    packed = ops.Packed(weight)
    graph = ops.Graph(lambda x: ops.linear_forward(x, packed), x)
    assert graph.reason is None
    x[...] = normals(rng, x.shape)
    expect_same_bits(np.asarray(graph.launch(copy_of=x)), ops.linear_forward(x, weight))


def test_an_op_that_failed_voids_the_graph(rng: Rng) -> None:
    """Though the function went on."""
    x, y = normals(rng, (4,)), ops.empty((4,))

    def work(x: Array) -> Array:
        try:
            ops.sigmoid_forward(x.astype(np.float64))
        except TypeError:
            return ops.relu_forward(x, out=y)
        raise AssertionError

    graph = ops.Graph(work, x)
    assert graph.reason is not None and graph.reason.startswith("sigmoid_forward cannot be captured: it failed")
    expect_same_bits(y, np.maximum(x, 0))


def test_what_is_copied_once_voids_the_graph(rng: Rng) -> None:
    """A strided input: of the graph, or of an op."""
    x = normals(rng, (4, 6))
    graph = ops.Graph(lambda x: ops.relu_forward(x), x[:, ::2])
    assert graph.reason == "input 0 is no dense numpy array: it would be copied once"
    graph = ops.Graph(lambda x: ops.relu_forward(x.T), x)
    assert graph.reason == "relu_forward cannot be captured: x is not dense, and was copied this once"
    assert ops.Graph(lambda x: None, 3).reason == "input 0 is no dense numpy array: got int"


def test_an_input_that_is_not_to_be_written(rng: Rng) -> None:
    x = normals(rng, (4,))
    x.flags.writeable = False
    graph = ops.Graph(ops.relu_forward, x)
    graph.launch()
    with pytest.raises(ValueError, match="Graph: copy_of expects a graph whose input is writable"):
        graph.launch(copy_of=np.ones(4, np.float32))


def test_a_graph_within_another(rng: Rng) -> None:
    """Each has its own ops, and the outer one goes on."""
    x, y, z = normals(rng, (3,)), ops.empty((3,)), ops.empty((3,))
    inner: list[ops.Graph] = []

    def work(x: Array) -> None:
        inner.append(ops.Graph(lambda x: ops.relu_forward(x, out=y), x))
        ops.sigmoid_forward(x, out=z)

    outer = ops.Graph(work, x)
    assert outer.calls == inner[0].calls == 1
    y.fill(7)
    z.fill(7)
    outer.launch()
    assert (y == 7).all()
    expect_same_bits(z, ops.sigmoid_forward(x))
    inner[0].launch()
    expect_same_bits(y, ops.relu_forward(x))


def test_other_threads_ops_are_not_captured(rng: Rng) -> None:
    x, y, z = normals(rng, (3,)), ops.empty((3,)), ops.empty((3,))

    def work(x: Array) -> None:
        other = threading.Thread(target=ops.sigmoid_forward, args=(x,), kwargs={"out": z})
        other.start()
        other.join()
        ops.relu_forward(x, out=y)

    graph = ops.Graph(work, x)
    assert graph.calls == 1 and graph.reason is None
    z.fill(7)
    graph.launch()
    assert (z == 7).all()


def test_two_threads_cannot_launch_one_graph_at_once(rng: Rng) -> None:
    """One of them is told; the numbers are those of the other one."""
    x, weight = normals(rng, (64, 8, 24, 24)), normals(rng, (16, 8, 5, 5))
    graph = ops.Graph(lambda x: ops.conv2d_forward(x, weight), x)
    errors: list[str] = []
    expected = ops.conv2d_forward(x, weight)

    def work() -> None:
        for _ in range(200):
            if errors:
                return
            try:
                graph.launch()
            except RuntimeError as error:
                errors.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(errors) == {"Graph: it is running, in another thread"}
    graph.launch()
    expect_same_bits(np.asarray(graph.result), expected)


def test_a_graph_keeps_its_arrays(rng: Rng) -> None:
    """Those too that an op has made and nobody else has."""
    x, y = normals(rng, (1000,)), ops.empty((1000,))
    expected = ops.relu_forward(ops.sigmoid_forward(x))
    graph = ops.Graph(lambda x: ops.relu_forward(ops.sigmoid_forward(x), out=y), x)
    del x
    gc.collect()
    others = [np.full(1000, np.nan, np.float32) for _ in range(50)]
    graph.launch()
    expect_same_bits(y, expected)
    assert len(others) == 50


def test_the_reference_captures_nothing_and_says_so(rng: Rng) -> None:
    x = normals(rng, (4,))
    graph = reference.Graph(lambda x: reference.relu_forward(x), x)
    expect_same_bits(np.asarray(graph.result), np.maximum(x, 0))
    assert "reference" in graph.reason and not graph.reads(x) and graph.calls == 0
    with pytest.raises(RuntimeError, match="Graph: it cannot be launched; the reference cannot be captured"):
        graph.launch()


# --- in a model ---------------------------------------------------------------------------------------------------------


class Negative(nn.Layer):
    """y = -x, in NumPy or, if it says so, by an op."""

    def __init__(self, by_op: bool) -> None:
        self.by_op = by_op

    def forward(self, x: Array, context: nn.Context) -> Array:
        y = context.output(x.shape)
        if self.by_op:
            return context.ops.dropout_backward(x, np.full_like(x, -1), out=y)
        return np.negative(x, out=y)

    def backward(self, dy: Array, context: nn.Context) -> Array | None:
        return -dy


class Promised(Negative):
    calls_only_ops = True


class Derived(Promised):
    """Defines a method again, and promises nothing."""

    def backward(self, dy: Array, context: nn.Context) -> Array | None:
        return super().backward(dy, context)


class Draws(nn.Layer):
    """Takes a counter that no launch would renew."""

    calls_only_ops = True

    def forward(self, x: Array, context: nn.Context) -> Array:
        y: Array
        y, _ = context.ops.dropout_forward(x, 0.5, context.seed, context.counter, out=(context.output(x.shape), None))
        return y


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Promised(True), None),
        (Negative(True), "layer '1': Negative may do more than call ops, unless it says calls_only_ops = True"),
        (Derived(True), "layer '1': Derived may do more than call ops, unless it says calls_only_ops = True"),
        (Draws(), "dropout_forward cannot be captured: it failed, or takes or returns numbers that no launch would renew"),
    ],
    ids=["promised", "not promised", "derived", "draws"],
)
def test_a_layer_voids_what_it_cannot_promise(layer: nn.Layer, reason: str | None, rng: Rng) -> None:
    """The pass is then run as ever; the model's graph says why."""
    model, x = nn.Sequential(nn.ReLU(), layer, nn.Sigmoid()), normals(rng, (2, 3))
    for _ in range(3):
        x[...] = normals(rng, x.shape)
        y = model(x)
        if not isinstance(layer, Draws):
            expect_same_bits(y, ops.sigmoid_forward(-np.maximum(x, 0)))
        (run,) = model._passes._kept.values()
        assert run.graphs["forward"].reason == reason


def test_a_frozen_model_runs_what_it_cannot_capture(rng: Rng) -> None:
    frozen = nn.Sequential(nn.ReLU(), Negative(False)).freeze()
    for _ in range(3):
        x = normals(rng, (2, 3))
        expect_same_bits(frozen(x), -np.maximum(x, 0))
