"""Networks of all the library's layers, which know their images, for the tests of what is made of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fastlenet import LeNet, nn, ops
from fastlenet.models import LeNet5
from helpers.arrays import Array

__all__ = ["NETWORKS", "normalised", "some_images", "with_facts"]


def with_facts(model: nn.Sequential, shape: tuple[int, ...], mean: object = 0.1307, std: object = 0.3081) -> nn.Sequential:
    model.set_facts(input_shape=shape, mean=mean, std=std)  # type: ignore[arg-type]
    return model.eval()


def some_images(model: nn.Sequential, count: int, seed: int = 0) -> Array:
    """Raw images of noise, uint8 (count, c, h, w)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *(model.input_shape or ())), dtype=np.uint8)


def normalised(model: nn.Sequential, images: Array) -> Array:
    """What model(x) takes."""
    assert model.mean is not None and model.std is not None
    planes = images if images.shape[1] > 1 else images[:, 0]
    return ops.gather_images(planes, np.arange(len(images)), mean=model.mean, std=model.std)


def _colours() -> nn.Sequential:
    layers = (
        *(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.Sigmoid(), nn.AvgPool2d(2, padding=1), nn.Conv2d(8, 4, 3)),
        *(nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 6 * 6, 7), nn.Tanh()),
    )
    return with_facts(nn.Sequential(*layers), (3, 27, 27), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def _maximum_first() -> nn.Sequential:
    layers = nn.MaxPool2d(3, 2, padding=1), nn.Flatten(), nn.Linear(2 * 14 * 14, 5)
    return with_facts(nn.Sequential(*layers), (2, 28, 28), (0.4, 0.5), (0.2, 0.3))


def _mean_first() -> nn.Sequential:
    layers = nn.AvgPool2d(3, 2, padding=1), nn.Tanh(), nn.ReLU(), nn.Flatten(), nn.Linear(14 * 14, 5, bias=False), nn.ReLU()
    return with_facts(nn.Sequential(*layers), (1, 28, 28))


def _oblong() -> nn.Sequential:
    layers = nn.Conv2d(1, 3, (1, 3), stride=(1, 2), padding="valid"), nn.Conv2d(3, 2, 3, padding="same"), nn.Flatten()
    return with_facts(nn.Sequential(*layers, nn.Linear(2 * 5 * 4, 3)), (1, 5, 9))


NETWORKS: Mapping[str, Callable[[], nn.Sequential]] = {
    "LeNet": lambda: with_facts(LeNet(seed=1), (1, 28, 28)),
    "LeNet5": lambda: with_facts(LeNet5(seed=1), (1, 28, 28)),
    "colours, strides, padding": _colours,
    "a maximum first": _maximum_first,
    "a mean first, no bias": _mean_first,
    "oblong": _oblong,
    "one layer": lambda: with_facts(nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Flatten()), (1, 3, 3)),
    "no weights": lambda: with_facts(nn.Sequential(nn.Flatten(), nn.ReLU()), (1, 3, 3)),
    "one pixel, one class": lambda: with_facts(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), (1, 1, 1)),
}
