"""Every public object can be copied and pickled, works afterwards, and gives the same bits as the one that it is a copy of."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, is_typeddict

import numpy as np
import pytest

import fastlenet
from fastlenet import LeNet, augment, data, models, nn, ops, optim
from fastlenet.data import Dataset
from fastlenet.fields import FieldError
from fastlenet.reports import findings
from fastlenet.training import checkpoint, evaluation, figures, history, lr_finder, recipe, state, trainer
from fastlenet.training.callbacks import base, early_stopping, saver
from helpers.arrays import normals

Rng = np.random.Generator
MODULES = [
    *(fastlenet, augment, base, checkpoint, data, early_stopping, evaluation, figures, history),
    *(lr_finder, models, nn, optim, recipe, saver, state, trainer),
]
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 28, 28), np.uint8)
LABELS = np.arange(48, dtype=np.uint8) % 10
DATA = Dataset("random", IMAGES, LABELS, IMAGES[:16], LABELS[:16], 10, 0.1, 0.3)
X = np.random.default_rng(1).standard_normal((3, 1, 28, 28), np.float32)
TIMED = findings.Timed(tuple(LeNet().names), 1e-6, 16)  # what is measured is another time in each report
PRETRAINED = LeNet.pretrained()
PAGE = np.pad(np.zeros((40, 5), np.uint8), 20, constant_values=255)  # a one


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(72, 10), seed=3)


def layer_bits(layer: nn.Layer) -> Any:
    """A pass through a model of it, forward and back."""
    model = nn.Sequential(layer, seed=5)
    y = model(X if not isinstance(layer, nn.Linear) else X.reshape(3, -1))
    model.backward(np.ones_like(y))
    return y.tobytes(), model.gradient_buffer.tobytes()


def model_bits(model: Any) -> Any:
    """The next training step's numbers, and those of evaluation."""
    model.train()
    y = model(X)
    model.backward(y)
    return y.tobytes(), model.gradient_buffer.tobytes(), model.eval()(X).tobytes()


def optimizer_bits(optimizer: Any) -> Any:
    """The weights after two more steps of its model."""
    for _ in range(2):
        optimizer.model.backward(optimizer.model.train()(X))
        optimizer.step()
    return optimizer.model.parameter_buffer.tobytes(), {name: array.tobytes() for name, array in optimizer.state_dict().items()}


def stepped(optimizer: Any) -> Any:
    optimizer_bits(optimizer)
    return optimizer


def started(**changes: Any) -> trainer.Trainer:
    """A run that was stopped after its second step."""

    class Stop(base.Callback):
        def batch(self, run: Any, loss: Any, images: int) -> None:
            run.stop_requested = run.state.position == 2

    run = trainer.Trainer(small(), DATA, recipe.Recipe(epochs=2, batch_size=16, optimizer="muon", **changes))
    with pytest.raises(trainer.InterruptedRunError):
        run.run(Stop())
    return run


def state_bits(run: state.RunState) -> Any:
    arrays = {(part, name): array.tobytes() for part, arrays in run.tensors().items() for name, array in arrays.items()}
    return (
        arrays,
        run.epoch,
        run.position,
        run.loss_sum,
        [run.rate(step) for step in range(run.steps)],
        optimizer_bits(run.optimizer),
    )


def run_bits(run: trainer.Trainer) -> Any:
    run.stop_requested = False
    history = run.run()
    losses = [(epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy) for epoch in history.epochs]
    return losses, run.state.model.parameter_buffer.tobytes()


def used(layer: nn.Layer) -> nn.Layer:
    layer_bits(layer)
    return layer


EPOCH = history.Epoch(1, 0.5, 0.9, 0.4, 0.95, 1.0, 64.0)

# A public class -> an object of it that has been in use, and what it does.
CASES: dict[type, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    nn.Layer: (nn.Layer, repr),
    nn.Conv2d: (lambda: used(nn.Conv2d(1, 2, (3, 4), stride=2, padding=1)), layer_bits),
    nn.AvgPool2d: (lambda: used(nn.AvgPool2d(3, stride=2, padding=1)), layer_bits),
    nn.LeakyReLU: (lambda: used(nn.LeakyReLU(0.2)), layer_bits),
    nn.Tanh: (lambda: used(nn.Tanh()), layer_bits),
    nn.MaxPool2d: (lambda: used(nn.MaxPool2d(3, stride=2, padding=1)), layer_bits),
    nn.Linear: (lambda: used(nn.Linear(784, 3, bias=False)), layer_bits),
    nn.ReLU: (lambda: used(nn.ReLU()), layer_bits),
    nn.Sigmoid: (lambda: used(nn.Sigmoid()), layer_bits),
    nn.Flatten: (lambda: used(nn.Flatten()), layer_bits),
    nn.Dropout: (lambda: used(nn.Dropout(0.25)), layer_bits),
    nn.Sequential: (small, model_bits),
    nn.Frozen: (lambda: small().freeze(), lambda frozen: [frozen(x).tobytes() for x in (X, X[:1], np.tile(X, (2, 1, 1, 1)))]),
    LeNet: (lambda: LeNet(2, dropout=0.5, algorithm="winograd"), model_bits),
    models.LeNet5: (lambda: models.LeNet5(2, dropout=0.5), model_bits),
    fastlenet.Prediction: (lambda: fastlenet.predict_image(PRETRAINED, PAGE), lambda p: (repr(p), p.image.tobytes())),
    fastlenet.Page: (lambda: fastlenet.predict_page(PRETRAINED, PAGE), lambda page: (page.number, repr(page.digits))),
    fastlenet.Ensemble: (lambda: fastlenet.Ensemble([small(), small()]), lambda e: [model_bits(member) for member in e]),
    fastlenet.Chain: (
        lambda: fastlenet.Chain([0.5, -1.0, 2.0]),
        lambda chain: (chain.weights.tobytes(), chain.fit([1], [2], 0.1, 9)),
    ),
    optim.SGD: (lambda: stepped(optim.SGD(small(), momentum=0.9, nesterov=True)), optimizer_bits),
    optim.Adam: (lambda: stepped(optim.Adam(small(), weight_decay=0.1)), optimizer_bits),
    optim.AdamW: (lambda: stepped(optim.AdamW(small(), betas=(0.8, 0.9))), optimizer_bits),
    optim.Muon: (lambda: stepped(optim.Muon(small(), matrix_lr=0.03)), optimizer_bits),
    optim.Optimizer: (lambda: optim.Optimizer(small(), 0.1, 0.0), lambda o: (o.lr, o.model.parameter_buffer.tobytes())),
    fastlenet.Recipe: (lambda: fastlenet.Recipe(epochs=3, shift=1), lambda r: (r, r.augmentation, r.rate(1, 9))),
    fastlenet.Augmentation: (lambda: fastlenet.Augmentation(rotation=9), lambda a: (a, a.at(1, 2).places(3, 4, 5).tobytes())),
    augment.Transform: (
        lambda: fastlenet.Augmentation(elastic=9, cutout=3).at(1, 2),
        lambda t: ops.gather_images(IMAGES, np.arange(4), mean=0.1, std=0.3, transform=t).tobytes(),
    ),
    Dataset: (lambda: replace(DATA), lambda d: (d.fingerprint, d.hold_out(5).test_images.tobytes())),
    history.Epoch: (lambda: EPOCH, repr),
    history.History: (lambda: history.History([EPOCH]), lambda history: (repr(history), history.history)),
    trainer.Trainer: (started, run_bits),
    state.RunState: (lambda: started().state, state_bits),
    base.Callback: (base.Callback, lambda callback: callback.close()),
    early_stopping.EarlyStopping: (lambda: fastlenet.EarlyStopping(patience=3), lambda stopping: vars(stopping)),
    base.Writer: (base.Writer, lambda writer: writer.error),
    saver.Saver: (lambda: saver.Saver("file", 5.0), lambda saver: (saver.path, saver.seconds)),
    fastlenet.Report: (
        lambda: replace(fastlenet.report(PRETRAINED, DATA, history=history.History([EPOCH])), times=(TIMED,)),
        lambda report: report.as_html(),
    ),
    lr_finder.Sweep: (lambda: lr_finder.Sweep([0.1, 0.2], [2.0, 1.0]), lambda sweep: (sweep.suggestion, sweep.table())),
}


def public(kind: Callable[[type], bool]) -> Iterator[type]:
    for module in MODULES:
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found) and kind(found) and not getattr(found, "_is_protocol", False) and not is_typeddict(found):
                yield found


def test_every_public_class_has_a_case() -> None:
    classes = set(public(lambda found: not issubclass(found, BaseException)))
    assert len(classes) > 20 and classes == CASES.keys()


def pickled(original: Any) -> Any:
    return pickle.loads(pickle.dumps(original))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_a_copy_does_the_same(kind: type, copied: Callable[[Any], Any]) -> None:
    make, bits = CASES[kind]
    original, expected = make(), bits(make())
    twin = copied(original)
    assert type(twin) is kind
    assert bits(twin) == expected  # first, so that it would show in the original if they shared anything
    assert bits(original) == expected


@pytest.mark.parametrize("kind", list(public(lambda found: issubclass(found, Exception))), ids=lambda kind: kind.__name__)
def test_an_error_comes_through_a_process_pool(kind: type) -> None:
    original = kind("field", 3, "what is expected") if issubclass(kind, FieldError) else kind("what is wrong")
    twin = pickle.loads(pickle.dumps(original))
    assert type(twin) is kind and str(twin) == str(original) and vars(twin) == vars(original)


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW, optim.Muon])
def test_a_model_and_its_optimizer_stay_together(make: Callable[[nn.Sequential], optim.Optimizer]) -> None:
    model = small()
    optimizer = make(model)
    for twin, its_optimizer in (copy.deepcopy((model, optimizer)), pickled((model, optimizer))):
        assert its_optimizer.model is twin and twin is not model
        before = twin.parameter_buffer.copy()
        optimizer_bits(its_optimizer)
        assert (twin.parameter_buffer != before).any() and model.parameter_buffer.tobytes() == before.tobytes()
        assert all(buffer.ctypes.data % 64 == 0 for buffer in its_optimizer.buffers.values())


def test_a_frozen_model_in_a_process_pool(rng: Rng) -> None:
    frozen, images = LeNet(algorithm="winograd").freeze(), normals(rng, (2, 1, 28, 28))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(frozen, images).result(timeout=60).tobytes() == frozen(images).tobytes()
