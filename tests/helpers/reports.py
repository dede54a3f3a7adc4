"""Models whose reports the tests look at: of few and many classes, of strange names, of colours, without an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import fastlenet
from fastlenet import Ensemble, LeNet, nn
from fastlenet.data import load_mnist
from fastlenet.reports import Report
from fastlenet.training.history import Epoch, History

__all__ = ["KINDS", "NAMES", "report_of"]

NAMES = ("<script>throw new Error('executed')</script>", '\N{RIGHT-TO-LEFT OVERRIDE}"cat\'s" & \0' + 30 * "long ", "")


def _history(seed: int) -> History:
    numbers = [(1, 1.5, 0.6, 0.5, 0.8), (2, 0.6, 0.85, 0.2, 0.95), (3, 0.4, 0.9, None, None), (4, 0.35, 0.965, 0.1, 0.97)]
    epochs = [
        Epoch(n, loss + seed / 10, accuracy, val, val_accuracy, 2.0, 99.0) for n, loss, accuracy, val, val_accuracy in numbers
    ]
    return History(epochs, stopped="<b>Ctrl-C</b>")


def _mnist() -> Report:
    return fastlenet.report(LeNet.pretrained(), load_mnist(), history=_history(0))


def _random(classes: tuple[str, ...], shape: tuple[int, ...], count: int, network: nn.Sequential) -> Report:
    """A model that was not trained, on noise."""
    generator = np.random.default_rng(len(classes))
    network.set_facts(input_shape=shape, mean=0.5, std=0.3, class_names=classes)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return fastlenet.report(network, images, generator.integers(0, len(classes), count))


def _names() -> Report:
    return _random(NAMES, (1, 16, 16), 40, LeNet(input_shape=(1, 16, 16), classes=3))


def _hundred() -> Report:
    names = tuple(f"class {number}" for number in range(100))
    return _random(names, (3, 32, 32), 400, LeNet(input_shape=(3, 32, 32), classes=100))


def _without_errors() -> Report:
    """Two classes, black and white, by a network without a convolution."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), input_shape=(1, 8, 8))
    state = {"1.weight": np.array([64 * [-1.0], 64 * [1.0]]), "1.bias": np.zeros(2)}
    model.load_state_dict(state)
    model.set_facts(mean=0.5, std=0.5, class_names=("black", "white"))
    images = np.repeat(np.array([0, 255], np.uint8), 64).reshape(2, 8, 8)
    return fastlenet.report(model, images[[0, 1, 1]], ["black", "white", "white"])


def _ensemble() -> Report:
    data = load_mnist()
    members = [LeNet(seed) for seed in (1, 2)]
    for member in members:
        fastlenet.fit(member, data.train_images[:200], data.train_labels[:200], "fast", seed=member.seed, verbose=0)
    few = data.test_images[:60], data.test_labels[:60]
    return fastlenet.report(Ensemble(members), *few, tta=True, history=[_history(1), _history(2)])


KINDS: Mapping[str, Callable[[], Report]] = {
    "mnist": _mnist,
    "names": _names,
    "hundred": _hundred,
    "without_errors": _without_errors,
    "ensemble": _ensemble,
}
_MADE: dict[str, Report] = {}


def report_of(kind: str) -> Report:
    """The report of that kind, made once."""
    if kind not in _MADE:
        _MADE[kind] = KINDS[kind]()
    return _MADE[kind]
