"""Layers and Sequential: fusion, buffers, modes, threads, copies, and the errors of a wrong use."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn, ops, reference
from fastlenet.backend import NAMES, Uncaptured
from helpers.arrays import integers, normals
from helpers.expect import expect_as_exact, expect_equal, expect_same_bits, float64_reference

Rng = np.random.Generator


def small(backend: ModuleType = ops, seed: int = 0) -> nn.Sequential:
    """A network with every kind of layer, fused and not."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, (2, 3), stride=(1, 2), bias=False),
        nn.Sigmoid(),
        nn.MaxPool2d(2, stride=1, padding=1),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(3 * 5 * 3, 6),
        nn.ReLU(),
        nn.Linear(6, 3, bias=False),
        seed=seed,
        ops=backend,
    )


def classic(backend: ModuleType = ops, seed: int = 0) -> nn.Sequential:
    """A network with the layers of 1998, and overlapping windows of a mean."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.LeakyReLU(0.25),
        nn.AvgPool2d((3, 2), stride=1, padding=1),
        nn.Flatten(),
        nn.Linear(3 * 4 * 5, 3),
        seed=seed,
        ops=backend,
    )


X_SHAPE = (5, 2, 10, 10)


@pytest.mark.parametrize("network", [small, classic])
def test_backends_agree(network: Callable[..., nn.Sequential], rng: Rng) -> None:
    """Forward, backward and dx of one network on the kernels are as exact as on NumPy in float32; float64 is the judge."""
    x, dy = normals(rng, X_SHAPE), normals(rng, (5, 3))
    outputs = []
    for model in (network(), network(reference), network(float64_reference())):
        dtype = model.parameter_buffer.dtype
        y = model(x.astype(dtype))
        dx = model.backward(dy.astype(dtype), need_dx=True)
        assert dx is not None
        outputs.append([y, dx.copy(), *(gradient.copy() for gradient in model.gradients().values())])
    for ours, theirs, exact in zip(*outputs, strict=True):
        expect_as_exact(ours, theirs, exact)
        assert np.count_nonzero(theirs)


def test_fused_equals_layer_by_layer(rng: Rng) -> None:
    """Sequential runs Conv2d, ReLU, MaxPool2d as one op: with integers to the bit what the three ops give one by one."""
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2))
    model.load_state_dict({"0.weight": integers(rng, (5, 2, 3, 3)), "0.bias": integers(rng, (5,))})
    assert len(model._steps) == 1
    x, dy = integers(rng, (4, 2, 8, 8)), integers(rng, (4, 5, 3, 3))
    weight, bias = model.parameters()["0.weight"], model.parameters()["0.bias"]
    conv = ops.conv2d_forward(x, weight, bias)
    relu = ops.relu_forward(conv)
    y, indices = ops.max_pool2d_forward(relu, 2)
    expect_equal(model(x), y)
    dconv = ops.relu_backward(ops.max_pool2d_backward(dy, indices, relu.shape), relu)
    dx, dweight, dbias = ops.conv2d_backward(dconv, x, weight)
    expect_equal(model.backward(dy, need_dx=True), dx)
    expect_equal(model.gradients()["0.weight"], dweight)
    expect_equal(model.gradients()["0.bias"], dbias)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2)],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, padding=1)],
        [nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(16)],
    ],
    ids=["stride", "overlapping windows", "padded windows", "sigmoid", "other order", "windows beyond a byte"],
)
def test_not_fused(layers: list[nn.Layer], rng: Rng) -> None:
    models = [nn.Sequential(*layers, ops=backend) for backend in (ops, reference)]
    assert all(len(model._steps) == 3 for model in models)
    x = integers(rng, (2, 1, 20, 20))
    for model in models:
        model.parameter_buffer[...] = np.arange(model.parameter_buffer.size) % 5 - 2
    ours, theirs = (model(x) for model in models)
    if isinstance(layers[1], nn.Sigmoid):
        assert np.abs(ours - theirs).max() < 1e-6
    else:
        expect_equal(ours, theirs)


def test_flat_aligned_buffers() -> None:
    model = LeNet()
    for buffer, views in ((model.parameter_buffer, model.parameters()), (model.gradient_buffer, model.gradients())):
        assert buffer.dtype == np.float32 and buffer.ctypes.data % 64 == 0 and buffer.size == 431_080
        assert all(np.shares_memory(view, buffer) for view in views.values())
        assert sum(view.size for view in views.values()) == buffer.size
    model.parameter_buffer.fill(2)
    assert all((array == 2).all() for array in model.state_dict().values())
    assert list(model.state_dict()) == list(model.gradients())


def test_each_parameter_starts_from_its_own_numbers() -> None:
    net = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    starts = [array.reshape(-1)[:9].tobytes() for array in net.parameters().values()]
    assert len(starts) == len(set(starts)) == 4


def test_initialisation_is_seeded_and_bounded() -> None:
    same, other = LeNet(seed=7), LeNet(seed=8)
    expect_same_bits(LeNet(seed=7).parameter_buffer, same.parameter_buffer)
    expect_same_bits(LeNet(seed=7, ops=reference).parameter_buffer, same.parameter_buffer)
    assert (same.parameter_buffer != other.parameter_buffer).mean() > 0.99
    for name, fan_in in (("conv1", 25), ("conv2", 500), ("fc1", 800), ("fc2", 500)):
        for part in ("weight", "bias"):
            values, bound = same.parameters()[f"{name}.{part}"], fan_in**-0.5
            assert np.abs(values).max() <= bound
            # A uniform variable of n samples: its largest is within 10/n of the bound with probability 1 - e^-10.
            assert np.abs(values).max() >= bound * (1 - 10 / values.size)


def test_the_result_belongs_to_the_caller(rng: Rng) -> None:
    model = small()
    first = model(normals(rng, X_SHAPE))
    kept = first.copy()
    second = model(normals(rng, X_SHAPE))
    expect_same_bits(first, kept)
    assert not np.shares_memory(first, second)


def test_backward_overwrites_gradients(rng: Rng) -> None:
    model = small()
    model.eval()  # no dropout: the same pass twice
    model.train()
    model.dropout_counter = 0
    x, dy = normals(rng, X_SHAPE), normals(rng, (5, 3))
    model(x)
    model.backward(dy)
    first = model.gradient_buffer.copy()
    model.gradient_buffer.fill(np.nan)
    model.dropout_counter = 0
    model(x)
    model.backward(dy)
    expect_same_bits(model.gradient_buffer, first)


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


def test_evaluation_ignores_dropout_and_keeps_no_activations(rng: Rng) -> None:
    x = normals(rng, X_SHAPE)
    model = small()
    trained = model(x)
    model.eval()
    expect_same_bits(model(x), model(x))
    assert (model(x) != trained).any()
    with pytest.raises(ValueError, match=r"dy expects shape \(5, 3\)"):
        model.backward(normals(rng, (4, 3)))
    fresh = small()
    fresh.eval()
    fresh(x)
    with pytest.raises(RuntimeError, match="call the model in training mode first"):
        fresh.backward(normals(rng, (5, 3)))


def test_evaluation_leaves_the_training_pass_alone(rng: Rng) -> None:
    """An evaluation between model(x) and backward does not change the gradients."""
    model = LeNet()
    x, other, dy = normals(rng, (4, 1, 28, 28)), normals(rng, (4, 1, 28, 28)), normals(rng, (4, 10))
    model(x)
    model.backward(dy)
    expected = model.gradient_buffer.copy()
    model(x)
    model.eval()
    model(other)
    model.train()
    model.backward(dy)
    expect_same_bits(model.gradient_buffer, expected)


@pytest.mark.parametrize("frozen", [False, True])
def test_evaluation_from_several_threads(frozen: bool, rng: Rng) -> None:
    model = LeNet()
    model.eval()
    run = model.freeze() if frozen else model
    inputs = [normals(rng, (n, 1, 28, 28)) for n in (1, 7, 20, 33)]
    expected = [run(x) for x in inputs]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(20):
            if run(inputs[which]).tobytes() != expected[which].tobytes():
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(which,)) for which in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_freeze_is_a_snapshot(rng: Rng) -> None:
    model = LeNet()
    x = normals(rng, (3, 1, 28, 28))
    expected = model(x)
    frozen = model.freeze()
    model.parameter_buffer.fill(0)
    expect_same_bits(frozen(x), expected)
    assert not model(x).any()


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_a_frozen_model_takes_its_shortest_way_to_the_same_bits(algorithm: str, rng: Rng) -> None:
    """A few images of a shape that came before are only passed from op to op as then."""
    model = LeNet(algorithm=algorithm)
    model.eval()
    frozen = model.freeze()
    for n in (1, 2, 1, 4, 5, 1, 2):
        x = normals(rng, (n, 1, 28, 28))
        first, again = frozen(x), frozen(x[::-1])
        expect_same_bits(first, model(x))
        expect_same_bits(again, model(x[::-1]))
        assert not np.shares_memory(first, again)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Flatten(), nn.Linear(12, 3), nn.ReLU()),  # the first op has a view of x
        (nn.ReLU(), nn.Flatten()),  # the last step is no op
        (nn.Sigmoid(),),
        (nn.Flatten(),),
        (nn.Dropout(0.5), nn.ReLU(), nn.ReLU()),
    ],
    ids=repr,
)
def test_frozen_models_of_odd_layers(layers: tuple[nn.Layer, ...], rng: Rng) -> None:
    model = nn.Sequential(*layers)
    model.eval()
    frozen = model.freeze()
    for _ in range(3):
        x = normals(rng, (2, 3, 2, 2))
        expect_same_bits(frozen(x), model(x))


def test_a_frozen_model_refuses_what_the_model_refuses() -> None:
    frozen = LeNet().freeze()
    frozen(np.zeros((1, 1, 28, 28), np.float32))
    with pytest.raises(TypeError, match="x expects a numpy array of float32, got float64"):
        frozen(np.zeros((1, 1, 28, 28)))
    with pytest.raises(TypeError, match=r"x expects .*, got a masked array"):
        frozen(np.ma.zeros((1, 1, 28, 28), np.float32))


def test_copies_are_independent(rng: Rng) -> None:
    model, x = small(), normals(rng, X_SHAPE)
    model.eval()
    expected = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        expect_same_bits(twin(x), expected)
        assert twin.parameter_buffer.ctypes.data % 64 == 0
        assert all(np.shares_memory(view, twin.parameter_buffer) for view in twin.parameters().values())
        twin.parameter_buffer.fill(0)
        expect_same_bits(model(x), expected)


def test_load_state_dict(rng: Rng) -> None:
    model = LeNet()
    state = {name: normals(rng, array.shape).astype(np.float64) for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        expect_equal(array, state[name].astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc2.bias": None}, "fc2.bias is missing"),
        ({"fc3.bias": np.zeros(1)}, "fc3.bias is unexpected"),
        ({"fc2.bias": np.zeros(11)}, r"fc2.bias expects shape \(10,\), got \(11,\)"),
        ({"fc2.bias": np.zeros(10, int)}, "fc2.bias expects floats, got int64"),
        ({"fc2.bias": None, "conv1.bias": np.zeros(3)}, r"conv1.bias expects shape \(20,\), got \(3,\); fc2.bias is missing"),
    ],
)
def test_load_state_dict_errors(change: dict[str, Any], message: str) -> None:
    """Everything wrong is listed, and nothing is changed."""
    model = LeNet()
    before = model.parameter_buffer.copy()
    state = {name: array + 1 for name, array in model.state_dict().items()} | change
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({name: value for name, value in state.items() if value is not None})
    expect_same_bits(model.parameter_buffer, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels expects a positive integer below"),
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: kernel_size expects positive ints below"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding expects non-negative ints below"),
        (lambda: nn.Linear(1, -2), r"Linear: out_features expects a positive integer below 2\^31, got -2"),
        (lambda: nn.MaxPool2d(2, stride=0), "MaxPool2d: stride expects positive ints below"),
        (lambda: nn.Dropout(1.0), r"Dropout: p expects a number in \[0, 1\), got 1.0"),
        (lambda: nn.Sequential(nn.ReLU(), names=["a", "b"]), "Sequential: names expects 1 different names"),
    ],
)
def test_wrong_layers(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_errors_name_the_layer(rng: Rng) -> None:
    model = LeNet()
    with pytest.raises(ValueError, match=r"layer 'conv1': .*x"):
        model(normals(rng, (2, 3, 28, 28)))
    with pytest.raises(ValueError, match=r"layer 'fc1': "):
        model(normals(rng, (2, 1, 32, 32)))
    with pytest.raises(TypeError, match=r"layer 'conv1': .*float64"):
        model(np.zeros((2, 1, 28, 28)))


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_batches(n: int, rng: Rng) -> None:
    model = LeNet()
    y = model(normals(rng, (n, 1, 28, 28)))
    assert y.shape == (n, 10)
    model.backward(np.ones_like(y))
    assert np.isfinite(model.gradient_buffer).all()
    assert bool(model.gradient_buffer.any()) == (n > 0)


def test_summary_of_a_custom_network() -> None:
    lines = small().summary(X_SHAPE[1:]).splitlines()
    cells = [line.split() for line in lines]
    assert cells[2] == ["0", "Conv2d", "4x10x10", "76", "7,200", "1,904"]  # 4*100*18 multiply-adds; 4*(76 + 400) bytes
    assert cells[-1][:2] == ["total", f"{76 + 72 + 276 - 0 + 18:,}"]


def test_dropout_layers_draw_different_masks(rng: Rng) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Dropout(0.5))
    ones = np.ones((1, 4096), np.float32)
    masks = [model(ones) for _ in range(4)]
    for a, b in itertools.combinations(masks, 2):
        assert (a != b).any()
    # Kept by both layers with probability 1/4, then scaled by 4; 16,384 draws, 6 standard deviations of sqrt(p*q/n).
    kept = np.mean([mask == 4 for mask in masks])
    assert abs(kept - 0.25) < 6 * (0.25 * 0.75 / 16384) ** 0.5
