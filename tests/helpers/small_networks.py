"""Small networks of every kind of layer and window, which take raw images."""

from __future__ import annotations

import numpy as np

from fastlenet.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)

__all__ = ["EXACT", "QUANTIZED", "small", "with_integers"]


def _known(shape: tuple[int, int, int], *layers: Layer, mean: object = 0.0, std: object = 1 / 255) -> Sequential:
    """A model of layers; by default it takes bytes as they are."""
    model = Sequential(*layers, input_shape=shape)
    model.set_facts(mean=mean, std=std)  # type: ignore[arg-type]
    return model


def small(classes: int) -> Sequential:
    return _known((1, 2, 2), Flatten(), Linear(4, classes), mean=0.5, std=0.25)


def with_integers(model: Sequential, rng: np.random.Generator) -> Sequential:
    """The model with small integers as its parameters: multiples of 64, where means of up to 64 pixels follow."""
    factor = 64 if any(isinstance(layer, AvgPool2d) for layer in model) else 2
    for array in model.parameters().values():
        array[...] = factor * rng.integers(-3, 4, array.shape)
    return model


# With integers as parameters and bytes as images, every sum of these is an integer below 2^24, so that float32 is exact.
EXACT = {
    "one pixel": _known((1, 1, 1), Flatten(), Linear(1, 1)),
    "strides": _known((2, 11, 9), Conv2d(2, 3, (3, 2), stride=(2, 3), padding=(2, 1)), ReLU(), Flatten(), Linear(84, 4)),
    "huge padding": _known((1, 3, 2), Conv2d(1, 2, 2, padding=(40, 9), stride=(7, 5)), Flatten(), Linear(96, 3)),
    "huge stride": _known((1, 5, 5), Conv2d(1, 2, 3, stride=2**31 - 1), MaxPool2d(1), Flatten()),
    "overlapping pools": _known(
        *((3, 9, 10), MaxPool2d(3, 2, 1), Conv2d(3, 2, 2, bias=False), ReLU(), MaxPool2d((2, 3), 1, (1, 0)), Flatten())
    ),
    "means": _known((2, 8, 8), Conv2d(2, 4, 1), AvgPool2d(2), AvgPool2d((2, 4), (2, 1), (1, 2)), Flatten()),
    "no layer that computes": _known((1, 4, 5), Dropout(0.5), Flatten()),
    "the last is not linear": _known((1, 6, 6), Flatten(), Linear(36, 5), Dropout(0.5), LeakyReLU(0.5)),
    "behind Flatten": _known((1, 5, 4), Dropout(0.1), Conv2d(1, 3, 2), Dropout(0.2), Flatten(), ReLU(), Linear(36, 3), ReLU()),
    "one after another": _known((1, 7, 7), ReLU(), Conv2d(1, 2, 3), Conv2d(2, 3, 2), MaxPool2d(2, 1), ReLU(), Flatten()),
    "hundred classes": _known((1, 2, 2), Flatten(), Linear(4, 100, bias=False)),
}
_COLOURS = {"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.1)}  # whose zeros are other bytes in each channel
QUANTIZED = EXACT | {
    "colours": _known(
        *(
            (3, 13, 12),
            Conv2d(3, 6, 3, stride=(1, 2), padding=(5, 2)),
            ReLU(),
            MaxPool2d(3, 2, 1),
            Conv2d(6, 4, (3, 2), padding=1),
        ),
        *(Tanh(), AvgPool2d(2, padding=1), Flatten(), Dropout(0.3), Linear(72, 9), LeakyReLU(0.1), Linear(9, 4)),
        **_COLOURS,
    ),
    "a mean of the image": _known(
        *((3, 13, 12), AvgPool2d((4, 3), 2, (2, 1)), Conv2d(3, 2, 1), Sigmoid(), Flatten(), Linear(84, 3), Tanh()), **_COLOURS
    ),
    "a table of the image": _known((2, 3, 4), Tanh(), MaxPool2d(2, 1), Flatten(), Linear(12, 3), ReLU()),
    "maxima alone": _known((2, 5, 5), MaxPool2d(2), MaxPool2d(2), Flatten()),
}
