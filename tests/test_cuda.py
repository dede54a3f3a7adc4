"""The GPU backend beyond its ops: arrays, graphs, training, other libraries, and what is said when something is wrong.

With -m cuda on a build for a GPU or for the emulated one. What only the emulation can do, such as losing its device, runs there
alone; the orders of a block's threads are its own too.
"""

from __future__ import annotations

import functools
import gc
import os
import pickle
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import pytest

from backends import on_device, ops, thread_orders
from cases import FUSED, LINEAR, POOL, Fused, Linear, Pool
from conftest import Result, expect_same_bits, expect_within, gamma, integers, normals, one_line, write_idx
from fastlenet import LeNet, cuda, fit, nn, reference, training_step
from fastlenet import ops as cpu_ops
from fastlenet.checkpoint import CheckpointError, load_checkpoint
from fastlenet.data import Dataset
from fastlenet.lr_finder import find_lr
from fastlenet.optim import SGD, AdamW
from fastlenet.recipe import Recipe
from fastlenet.trainer import DivergedError, History, InterruptedRunError, Listener, Trainer

Rng = np.random.Generator
Train = Callable[..., Result]
ORDERS = thread_orders()
EMULATED = len(ORDERS) > 1

pytestmark = pytest.mark.cuda
emulation = pytest.mark.skipif(not EMULATED, reason="needs the emulated GPU")

# --- the same bits, whatever the order of the threads ------------------------------------------------------------------------


def in_every_order(call: Callable[[], Any]) -> None:
    """Random orders of three kinds too: each call goes on with the random numbers where the last one stopped."""
    results = []
    for order in ORDERS + ["random"] * 2 * EMULATED:
        with on_device(order):
            results.append(call())
    for result in results[1:]:
        expect_same_bits(result, results[0])


@pytest.mark.parametrize("case", [case for case in FUSED if case.n], ids=str)
def test_orders_of_conv2d_relu_max_pool2d(case: Fused, rng: Rng) -> None:
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    y, winners = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    dy = normals(rng, y.shape)
    in_every_order(lambda: ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options))
    in_every_order(lambda: ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options))


@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_orders_of_linear(case: Linear, rng: Rng) -> None:
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    dy = normals(rng, (case.n, case.outputs))
    in_every_order(lambda: ops.linear_forward(x, weight))
    in_every_order(lambda: ops.linear_backward(dy, x, weight))


@pytest.mark.parametrize("case", POOL, ids=str)
def test_orders_of_max_pool2d(case: Pool, rng: Rng) -> None:
    x = normals(rng, case.x_shape)
    y, indices = reference.max_pool2d_forward(x, case.kernel_size, **case.options)
    dy = normals(rng, y.shape)
    in_every_order(lambda: ops.max_pool2d_backward(dy, indices, case.x_shape))


def test_orders_of_the_losses_and_the_gather(rng: Rng) -> None:
    logits, labels = 10 * normals(rng, (300, 33)), rng.integers(0, 33, 300)
    images, index = rng.integers(0, 256, (20, 9, 9), dtype=np.uint8), rng.integers(0, 20, 50)
    in_every_order(lambda: tuple(np.asarray(a) for a in ops.softmax_cross_entropy(logits, labels)))
    in_every_order(lambda: tuple(np.asarray(a) for a in ops.squared_error(logits, logits[::-1])))
    in_every_order(lambda: ops.gather_images(images, index, mean=0.1, std=0.3))


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
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        cuda.relu_forward(flat[:5], out=flat[1:6])
    assert cuda.relu_forward(flat, out=flat) is flat
    with pytest.raises(TypeError, match="out expects a device array of float32, got ndarray"):
        cuda.relu_forward(flat, out=np.zeros(10, np.float32))  # type: ignore[arg-type]
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
    """An error at once, and the next graph is none the worse."""
    host, x = normals(rng, (5,)), cuda.from_numpy(normals(rng, (5,)))
    for work in (lambda: cuda.relu_forward(host), lambda: x.numpy(), cuda.synchronize):
        with pytest.raises(ValueError, match="Graph: the work to be captured cannot "):
            cuda.Graph(work)
    y = cuda.empty((5,))
    cuda.Graph(lambda: cuda.relu_forward(x, out=y)).launch()
    expect_same_bits(y.numpy(), np.maximum(x.numpy(), 0))


# --- training --------------------------------------------------------------------------------------------------------------


PLAIN: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.03, "seed": 3, "shift": 0, "algorithm": "direct"}
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": PLAIN | {"optimizer": "sgd"},
    "muon": PLAIN | {"optimizer": "muon", "shift": 2, "ema": 0.9, "plain_epochs": 1},
    "adamw": PLAIN
    | {"optimizer": "adamw", "lr": 1e-3, "dropout": 0.3, "ema": 0.9, "ema_every": 2, "batch_size_end": 40}
    | {"shift": 1, "rotation": 10.0, "scale": 0.1, "shear": 0.1, "elastic": 20.0, "elastic_sigma": 3.5, "cutout": 4},
}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    """70 images, so that the last batch of an epoch is half of one."""
    arrays = mnist.train_images[:70], mnist.train_labels[:70], mnist.test_images[:5], mnist.test_labels[:5]
    return Dataset("few", *arrays, 10, 0.13, 0.3)


def trained(data: Dataset, recipe: dict[str, Any], backend: Any = cuda, **options: Any) -> tuple[Any, History]:
    model = LeNet.of(Recipe(**recipe), ops=backend)
    history = fit(model, data, Recipe(**recipe), **options)
    return np.array(model.parameter_buffer), history


@pytest.mark.parametrize("name", RECIPES)
def test_training_beside_the_cpu(name: str, few: Dataset) -> None:
    """The losses of a short run agree with the CPU's to 1e-3: 12 steps amplify differences in the last bits."""
    (_, ours), (_, theirs) = (trained(few, RECIPES[name], backend) for backend in (cuda, cpu_ops))
    for epoch, expected in zip(ours.epochs, theirs.epochs, strict=True):
        assert abs(epoch.loss - expected.loss) < 1e-3 * expected.loss
        assert epoch.test_loss is not None and expected.test_loss is not None
        assert abs(epoch.test_loss - expected.test_loss) < 1e-3 * expected.test_loss


@pytest.mark.parametrize("name", RECIPES)
def test_a_captured_step_is_its_ops(name: str, few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, counters, epochs and images that graphs find on the device give the bits of those that the host hands over."""
    captured, history = trained(few, RECIPES[name])
    monkeypatch.setattr(cuda, "TrainingStep", training_step.TrainingStep)
    op_by_op, expected = trained(few, RECIPES[name])
    expect_same_bits(captured, op_by_op)
    # The sum over an epoch is fused with the product in one of them.
    np.testing.assert_allclose([e.loss for e in history.epochs], [e.loss for e in expected.epochs], rtol=1e-14)


@emulation
def test_training_in_every_order(few: Dataset) -> None:
    in_every_order(lambda: trained(few, RECIPES["adamw"] | {"epochs": 1})[0])


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_goes_on(name: str, few: Dataset, tmp_path: Path) -> None:
    """In the middle of an epoch, to the bits of a straight one."""

    class Stop(Listener):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            trainer.stop_requested = (trainer.epoch, trainer.position) == (1, 2)

    recipe = Recipe(**RECIPES[name])
    trainer = Trainer(LeNet.of(recipe, ops=cuda), few, recipe)
    with pytest.raises(InterruptedRunError):
        trainer.run(Stop())
    trainer.save(tmp_path / "state")
    resumed, history = trained(few, RECIPES[name], resume=tmp_path / "state")
    straight, expected = trained(few, RECIPES[name])
    expect_same_bits(resumed, straight)
    np.testing.assert_allclose([e.loss for e in history.epochs], [e.loss for e in expected.epochs], rtol=1e-14)
    with pytest.raises(CheckpointError, match=r"made at level cuda, this is .*; train on cuda, or allow it"):
        trained(few, RECIPES[name], cpu_ops, resume=tmp_path / "state")


def test_a_run_in_the_same_trainer_goes_on(few: Dataset, tmp_path: Path) -> None:
    """Stopped, asked to run on, and set back to a checkpoint: its sum of the losses is that of the steps that count."""

    class Stop(Listener):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            trainer.stop_requested = trainer.position == 2

    recipe = Recipe(**RECIPES["sgd"] | {"epochs": 1})
    straight, expected = trained(few, RECIPES["sgd"] | {"epochs": 1})
    trainer = Trainer(LeNet.of(recipe, ops=cuda), few, recipe)
    trainer.save(tmp_path / "beginning")
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            trainer.run(Stop())
        trainer.restore(tmp_path / "beginning")
        trainer.save(tmp_path / "again")
        assert load_checkpoint(tmp_path / "again")[1]["sums"][:2] == [0.0, 0]
    with pytest.raises(InterruptedRunError):
        trainer.run(Stop())
    trainer.stop_requested = False
    history = trainer.run()
    expect_same_bits(trainer.model.parameter_buffer.numpy(), straight)
    assert history.epochs[0].loss == pytest.approx(expected.epochs[0].loss, rel=1e-14)


def test_two_runs_of_one_model(few: Dataset) -> None:
    """The buffers of the first are replaced in the second, whose graphs have kept those that they were captured with."""
    models = [LeNet(ops=cuda) for _ in range(2)]
    for model, first in zip(models, (32, 64), strict=True):
        fit(model, few, **PLAIN | {"optimizer": "sgd", "epochs": 1, "batch_size": first})
        model.parameter_buffer[...] = LeNet().parameter_buffer
        fit(model, few, **PLAIN | {"optimizer": "sgd", "epochs": 3, "batch_size": 16, "batch_size_end": 64})
    expect_same_bits(*(model.parameter_buffer.numpy() for model in models))


def test_a_graph_keeps_its_arrays(rng: Rng) -> None:
    x, y = cuda.from_numpy(normals(rng, (100,))), cuda.empty((100,))
    expected = np.maximum(x.numpy(), 0)
    graph = cuda.Graph(functools.partial(cuda.relu_forward, x, out=y))
    del x
    others = [cuda.from_numpy(np.zeros(100, np.float32)) for _ in range(5)]
    graph.launch()
    expect_same_bits(y.numpy(), expected)
    assert len(others) == 5


def test_the_sweep_of_rates_stops_at_a_loss_that_is_not_finite(few: Dataset) -> None:
    recipe = Recipe(**RECIPES["sgd"])
    sweep = find_lr(LeNet.of(recipe, ops=cuda), few, recipe, low=1e-3, high=1e20, steps=30)
    assert 2 <= len(sweep.losses) < 30 and np.isfinite(sweep.losses).all()


def test_inverse_root() -> None:
    for square, expected in ((0.0, 0.0), (4.0, 0.5), (0.25, 2.0), (np.nan, np.nan)):
        rate = cuda.inverse_root(cuda.from_numpy(np.array(square))) * -3.0
        np.testing.assert_array_equal(rate.base.numpy() * rate.factor, -3.0 * expected)


@pytest.mark.parametrize("backend", [cuda, cpu_ops], ids=["cuda", "cpu"])
def test_a_model_goes_with_its_trainer(backend: Any, few: Dataset) -> None:
    """Its memory too, at once: nothing waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        recipe = Recipe(**RECIPES["sgd"])
        trainer = Trainer(LeNet.of(recipe, ops=backend), few, recipe)
        trainer.run()
        model, step = weakref.ref(trainer.model), weakref.ref(trainer._step)
        del trainer
        assert model() is None and step() is None
    finally:
        gc.enable()


def test_the_loss_of_every_step(few: Dataset) -> None:
    """Whoever asks for it waits for the step; its mean over the epoch is what the device has summed up."""
    losses = []

    class Watch(Listener):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            losses.append(float(loss) * images)
            assert trainer.mean_loss() == pytest.approx(sum(losses) / trainer.images, rel=1e-14)

    _, history = trained(few, RECIPES["sgd"] | {"epochs": 1}, listeners=(Watch(),))
    assert len(losses) == 4 and history.epochs[0].loss == pytest.approx(sum(losses) / 70, rel=1e-14)


def test_no_synchronisation_within_an_epoch(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    class Count(Listener):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            reads.append(len(copies))

    copies: list[Any] = []
    numpy = cuda.DeviceArray.numpy
    monkeypatch.setattr(cuda.DeviceArray, "numpy", lambda array: copies.append(array) or numpy(array))
    trained(few, RECIPES["muon"] | {"epochs": 1}, listeners=(Count(),))
    assert reads[:3] == [reads[0]] * 3 and reads[3] == reads[0] + 1  # the loss, with the last step


def test_a_diverging_run_stops(few: Dataset) -> None:
    with pytest.raises(DivergedError, match=r"the loss is nan in epoch 1 by step 4"):
        trained(few, RECIPES["sgd"] | {"lr": 1e30})


def test_the_command(small_mnist: Path, train: Train) -> None:
    """Trains, saves, stops for its reader, goes on, on a device and, if that is allowed, without it."""
    settings = ["--data-dir", small_mnist, "--epochs", 2, "--dry-run", "--batch-size", 10, "--test-batch-size", 100]
    result = train(*settings, "--device", "cuda", "--checkpoint", "state", "--log-interval", 1)
    assert result.code == 0 and "cuda: built for " in result.out and "Loss: 2." in result.out, result
    final = result.out.splitlines()[-1]
    assert final.startswith("final accuracy ")
    assert train("--resume", "state").out.splitlines()[-1] == final
    assert "--device cpu contradicts state" in one_line(train("--resume", "state", "--device", "cpu"))
    assert train("--resume", "state", "--device", "cpu", "--allow-level-change").code == 0
    assert "--profile measures the CPU's kernels" in one_line(train("--device", "cuda", "--profile"))


def test_speedrun(few: Dataset, tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", few.train_images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", few.train_labels)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", few.test_images)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", few.test_labels)
    flags = ["--device", "cuda", "--data-dir", str(tmp_path), "--seeds", "1", "--epochs", "1", "--target", "0"]
    command = [sys.executable, "-m", "fastlenet.speedrun", *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "cuda: built for " in result.stdout and "1 runs" in result.stdout, result


@emulation
def test_a_lost_device_costs_no_checkpoint(small_mnist: Path, train: Train, tmp_path: Path) -> None:
    """One line that names the file; the run goes on from it."""
    settings = ["--data-dir", small_mnist, "--dry-run", "--epochs", 3, "--batch-size", 10, "--quiet", "--checkpoint", "state"]
    straight = train(*settings[:-1], "straight", "--device", "cuda")
    calls = 200  # of the runtime: some way into the second of the three epochs, of one step each
    lost = train(*settings, "--device", "cuda", FASTLENET_EMULATION_LOST=str(calls))
    assert re.fullmatch(
        r"fastlenet.train: error: the GPU failed while .* start again from there; state holds the last good state",
        one_line(lost),
    )
    _, facts = load_checkpoint(tmp_path / "state")
    assert 0 < facts["epoch"] < 3
    assert train("--resume", "state", "--quiet").out == straight.out
    expect_same_bits(*(load_checkpoint(tmp_path / name)[0]["model.fc1.weight"] for name in ("state", "straight")))


@emulation
@pytest.mark.parametrize(
    ("variable", "message"),
    [("FASTLENET_EMULATION_DEVICES", "no usable NVIDIA GPU"), ("FASTLENET_EMULATION_MEMORY", "out of GPU memory: ")],
)
def test_a_device_that_cannot_be_used(variable: str, message: str, small_mnist: Path, train: Train) -> None:
    value = {"FASTLENET_EMULATION_DEVICES": "0", "FASTLENET_EMULATION_MEMORY": "3000000"}[variable]
    assert message in one_line(train("--data-dir", small_mnist, "--device", "cuda", **{variable: value}))


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
