"""Training on the GPU backend: the captured step beside its ops and the CPU, stopped and resumed; the command lines.

With -m cuda, as test_cuda.py.
"""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import pytest

from fastlenet import LeNet, cuda, fit, nn
from fastlenet import ops as cpu_ops
from fastlenet.data import Dataset
from fastlenet.models import LeNet5
from fastlenet.training import cuda_step, step
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import CheckpointError, load_checkpoint
from fastlenet.training.history import History
from fastlenet.training.lr_finder import find_lr
from fastlenet.training.recipe import Recipe
from fastlenet.training.state import DivergedError
from fastlenet.training.trainer import InterruptedRunError, Trainer
from helpers.backends import emulation, in_every_order
from helpers.command import Result, one_line
from helpers.expect import expect_same_bits
from helpers.idx import write_idx

Train = Callable[..., Result]

pytestmark = pytest.mark.cuda

PLAIN: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.03, "seed": 3, "shift": 0, "algorithm": "direct"}
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": PLAIN | {"optimizer": "sgd"},
    "muon": PLAIN | {"optimizer": "muon", "shift": 2, "ema": 0.9, "plain_epochs": 1},
    "adam": PLAIN
    | {
        "width": 14,
        "deskew": True,
        "optimizer": "adam",
        "lr": 1e-3,
        "loss": "mse",
        "class_weight": {3: 2.5, 7: 0.0},
        "label_smoothing": 0.1,
    },
    "adamw": PLAIN
    | {"optimizer": "adamw", "lr": 1e-3, "dropout": 0.3, "ema": 0.9, "ema_every": 2, "batch_size_end": 40}
    | {"shift": 1, "rotation": 10.0, "scale": 0.1, "shear": 0.1, "elastic": 20.0, "elastic_sigma": 3.5, "cutout": 4},
}


@pytest.fixture(scope="module")
def few(mnist: Dataset) -> Dataset:
    """70 images, so that the last batch of an epoch is half of one."""
    arrays = mnist.train_images[:70], mnist.train_labels[:70], mnist.test_images[:5], mnist.test_labels[:5]
    return Dataset("few", *arrays, 10, 0.13, 0.3)


def weights_of(data: Dataset, recipe: dict[str, Any]) -> Any:
    """Of each image, for a recipe that weighs classes too."""
    return np.linspace(0, 2, len(data.train_labels)) if "class_weight" in recipe else None


def trained(data: Dataset, recipe: dict[str, Any], backend: Any = cuda, **options: Any) -> tuple[Any, History]:
    model = LeNet.of(Recipe(**recipe), ops=backend)
    history = fit(model, data, Recipe(**recipe), sample_weight=weights_of(data, recipe), **options)
    return np.array(model.parameter_buffer), history


@pytest.mark.parametrize("name", RECIPES)
def test_training_beside_the_cpu(name: str, few: Dataset) -> None:
    """The losses of a short run agree with the CPU's to 1e-3: 12 steps amplify differences in the last bits."""
    (_, ours), (_, theirs) = (trained(few, RECIPES[name], backend) for backend in (cuda, cpu_ops))
    for epoch, expected in zip(ours.epochs, theirs.epochs, strict=True):
        assert abs(epoch.loss - expected.loss) < 1e-3 * expected.loss
        assert epoch.val_loss is not None and expected.val_loss is not None
        assert abs(epoch.val_loss - expected.val_loss) < 1e-3 * expected.val_loss


@pytest.mark.parametrize("name", RECIPES)
def test_a_captured_step_is_its_ops(name: str, few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, counters, epochs and images that graphs find on the device give the bits of those that the host hands over."""
    captured, history = trained(few, RECIPES[name])
    monkeypatch.setattr(cuda_step, "CapturedStep", step.TrainingStep)
    op_by_op, expected = trained(few, RECIPES[name])
    expect_same_bits(captured, op_by_op)
    assert history.history["accuracy"] == expected.history["accuracy"]
    # The sum over an epoch is fused with the product in one of them.
    np.testing.assert_allclose([e.loss for e in history.epochs], [e.loss for e in expected.epochs], rtol=1e-14)


def test_lenet5_beside_the_cpu(few: Dataset) -> None:
    """Logits agree to a few roundings, and a captured run with the CPU's to 1e-3, as above."""
    recipe = Recipe(epochs=2, batch_size=20, lr=0.05, shift=1)
    models = [LeNet5.of(recipe, ops=backend) for backend in (cuda, cpu_ops)]
    x = np.random.default_rng(5).standard_normal((9, 1, 28, 28), np.float32)
    logits, expected = (np.array(model(x)) for model in models)
    assert np.abs(logits - expected).max() < 1e-6 < np.abs(expected).max()
    ours, theirs = (fit(model, few, recipe, verbose=0) for model in models)
    np.testing.assert_allclose(ours.history["loss"], theirs.history["loss"], rtol=1e-3)
    np.testing.assert_allclose(ours.history["val_loss"], theirs.history["val_loss"], rtol=1e-3)
    moved = np.abs(np.array(models[1].parameter_buffer) - LeNet5.of(recipe).parameter_buffer)
    assert np.abs(np.array(models[0].parameter_buffer) - models[1].parameter_buffer).max() < 1e-2 * moved.max()


class OnTheHost(nn.Layer):
    """ReLU in NumPy, which reads its input and so cannot be captured."""

    def forward(self, x: Any, context: nn.Context) -> Any:
        y = context.output(x.shape)
        y[...] = np.maximum(x.numpy(), 0)
        context.save(y)
        return y

    def backward(self, dy: Any, context: nn.Context) -> Any:
        return context.ops.relu_backward(dy, *context.saved, out=context.output(dy.shape))


def test_a_step_that_cannot_be_captured_runs_op_by_op(few: Dataset) -> None:
    """To the same bits, with the device's rates and counters."""
    bits = []
    for relu in (nn.ReLU(), OnTheHost()):
        model: Any = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), relu, nn.Dropout(0.3), nn.Linear(8, 10), ops=cuda)
        trainer = Trainer(model, few, Recipe(epochs=2, batch_size=20, optimizer="adamw", dropout=0.3, seed=3))
        trainer.run()
        graphs = trainer._step._graphs.values()
        assert len(graphs) == 2 and all((graph.reason is None) == isinstance(relu, nn.ReLU) for graph in graphs)
        bits.append(model.parameter_buffer.numpy())
    expect_same_bits(*bits)


@emulation
def test_training_in_every_order(few: Dataset) -> None:
    in_every_order(lambda: trained(few, RECIPES["adamw"] | {"epochs": 1})[0])


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_goes_on(name: str, few: Dataset, tmp_path: Path) -> None:
    """In the middle of an epoch, to the bits of a straight one."""

    class Stop(Callback):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            trainer.stop_requested = (trainer.state.epoch, trainer.state.position) == (1, 2)

    recipe = Recipe(**RECIPES[name])
    trainer = Trainer(LeNet.of(recipe, ops=cuda), few, recipe, sample_weight=weights_of(few, RECIPES[name]))
    with pytest.raises(InterruptedRunError):
        trainer.run(Stop())
    trainer.save(tmp_path / "state")
    resumed, history = trained(few, RECIPES[name], resume=tmp_path / "state")
    straight, expected = trained(few, RECIPES[name])
    expect_same_bits(resumed, straight)
    assert history.history["accuracy"] == expected.history["accuracy"]
    np.testing.assert_allclose([e.loss for e in history.epochs], [e.loss for e in expected.epochs], rtol=1e-14)
    with pytest.raises(CheckpointError, match=r"made at level cuda, this is .*; train on cuda, or allow it"):
        trained(few, RECIPES[name], cpu_ops, resume=tmp_path / "state")


def test_a_run_of_another_length(few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run that goes on, on images that someone normalised otherwise: the captured step is its ops there, too."""
    recipe = RECIPES["adamw"] | {"epochs": 1}
    trained(few, recipe, checkpoint=tmp_path / "state")

    def longer() -> Any:
        there = replace(few, mean=0.1, std=0.4)
        return trained(there, recipe | {"epochs": 3}, resume=tmp_path / "state")[0]

    captured = longer()
    monkeypatch.setattr(cuda_step, "CapturedStep", step.TrainingStep)
    expect_same_bits(captured, longer())


def test_a_run_in_the_same_trainer_goes_on(few: Dataset, tmp_path: Path) -> None:
    """Stopped, asked to run on, and set back to a checkpoint: its sum of the losses is that of the steps that count."""

    class Stop(Callback):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            trainer.stop_requested = trainer.state.position == 2

    recipe = Recipe(**RECIPES["sgd"] | {"epochs": 1})
    straight, expected = trained(few, RECIPES["sgd"] | {"epochs": 1})
    trainer = Trainer(LeNet.of(recipe, ops=cuda), few, recipe)
    trainer.save(tmp_path / "beginning")
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            trainer.run(Stop())
        trainer.restore(tmp_path / "beginning")
        trainer.save(tmp_path / "again")
        assert load_checkpoint(tmp_path / "again")[1]["sums"][:3] == [0.0, 0, 0]
    with pytest.raises(InterruptedRunError):
        trainer.run(Stop())
    trainer.stop_requested = False
    history = trainer.run()
    expect_same_bits(trainer.state.model.parameter_buffer.numpy(), straight)
    assert history.epochs[0].loss == pytest.approx(expected.epochs[0].loss, rel=1e-14)


def test_two_runs_of_one_model(few: Dataset) -> None:
    """The buffers of the first are replaced in the second, whose graphs have kept those that they were captured with."""
    models = [LeNet(ops=cuda) for _ in range(2)]
    for model, first in zip(models, (32, 64), strict=True):
        fit(model, few, **PLAIN | {"optimizer": "sgd", "epochs": 1, "batch_size": first})
        model.parameter_buffer[...] = LeNet().parameter_buffer
        fit(model, few, **PLAIN | {"optimizer": "sgd", "epochs": 3, "batch_size": 16, "batch_size_end": 64})
    expect_same_bits(*(model.parameter_buffer.numpy() for model in models))


def test_the_sweep_of_rates_stops_at_a_loss_that_is_not_finite(few: Dataset) -> None:
    recipe = Recipe(**RECIPES["sgd"])
    sweep = find_lr(LeNet.of(recipe, ops=cuda), few, recipe, low=1e-3, high=1e20, steps=30)
    assert 2 <= len(sweep.losses) < 30 and np.isfinite(sweep.losses).all()


@pytest.mark.parametrize("backend", [cuda, cpu_ops], ids=["cuda", "cpu"])
def test_a_model_goes_with_its_trainer(backend: Any, few: Dataset) -> None:
    """Its memory too, at once: nothing waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        recipe = Recipe(**RECIPES["sgd"])
        trainer = Trainer(LeNet.of(recipe, ops=backend), few, recipe)
        trainer.run()
        model, step = weakref.ref(trainer.state.model), weakref.ref(trainer._step)
        del trainer
        assert model() is None and step() is None
    finally:
        gc.enable()


def test_the_loss_of_every_step(few: Dataset) -> None:
    """Whoever asks for it waits for the step; its mean over the epoch is what the device has summed up."""
    losses = []

    class Watch(Callback):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            losses.append(float(loss) * images)
            assert trainer.mean_loss() == pytest.approx(sum(losses) / trainer.state.images, rel=1e-14)

    _, history = trained(few, RECIPES["sgd"] | {"epochs": 1}, callbacks=(Watch(),))
    assert len(losses) == 4 and history.epochs[0].loss == pytest.approx(sum(losses) / 70, rel=1e-14)


def test_no_synchronisation_within_an_epoch(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    class Count(Callback):
        def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
            reads.append(len(copies))

    copies: list[Any] = []
    numpy = cuda.DeviceArray.numpy
    monkeypatch.setattr(cuda.DeviceArray, "numpy", lambda array: copies.append(array) or numpy(array))
    trained(few, RECIPES["muon"] | {"epochs": 1}, callbacks=(Count(),))
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
    for flags in (["--device", "cuda"], ["--resume", "state"]):
        assert "--profile measures the CPU's kernels" in one_line(train(*flags, "--profile"))


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


@pytest.mark.parametrize("backend", [cuda, cpu_ops], ids=["teacher on the GPU", "on the CPU"])
def test_taught_training(backend: Any, few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured step is its ops, on the images of each epoch; and the losses are those of the CPU, to 1e-3."""
    teacher = LeNet(8, ops=backend)
    teacher.set_facts(mean=0.2, std=0.4)
    recipe = PLAIN | {"optimizer": "muon", "shift": 2, "plain_epochs": 1, "temperature": 3.0, "mix": 0.7, "dropout": 0.3}
    captured, history = trained(few, recipe, teacher=teacher)
    _, expected = trained(few, recipe, cpu_ops, teacher=teacher)
    np.testing.assert_allclose([e.loss for e in history.epochs], [e.loss for e in expected.epochs], rtol=1e-3)
    monkeypatch.setattr(cuda_step, "CapturedStep", step.TrainingStep)
    op_by_op, _ = trained(few, recipe, teacher=teacher)
    expect_same_bits(captured, op_by_op)
    assert not np.array_equal(captured, trained(few, recipe)[0])
