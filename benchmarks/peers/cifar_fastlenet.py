"""fastlenet on images of CIFAR's size: a Sequential, trained by `fastlenet.fit`. The variant is the convolutions' algorithm."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from fastlenet import config, fit, set_num_threads
from fastlenet.data import Dataset
from fastlenet.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from peers import LR, MOMENTUM, PLAIN

CHANNELS, HIDDEN, CLASSES = (3, 32, 64, 128), 256, 10


def network(padding: int, algorithm: str) -> Sequential:
    """3x3 convolutions to 32, 64 and 128 channels, each with ReLU and 2x2 maximum; 256; 10."""
    layers, side = [], 32
    for c, k in pairwise(CHANNELS):
        layers += [Conv2d(c, k, 3, padding=padding), ReLU(), MaxPool2d(2)]
        side = (side + 2 * padding - 2) // 2
    layers += [Flatten(), Linear(CHANNELS[-1] * side * side, HIDDEN), ReLU(), Linear(HIDDEN, CLASSES)]
    return Sequential(*layers, algorithm=algorithm, input_shape=(3, 32, 32))


def train_network(model: Sequential, data: dict[str, Any], batch: int, images: int, lr: float) -> float:
    """One epoch; returns its mean loss."""
    dataset = Dataset(
        "colours",
        data["images"][:images],
        data["labels"][:images],
        data["images"][:1],
        data["labels"][:1],
        CLASSES,
        mean=float(data["mean"]),
        std=float(data["std"]),
    )
    plain = {**PLAIN, "algorithm": model.algorithm, "lr": lr, "momentum": MOMENTUM, "batch_size": batch, "epochs": 1}
    return fit(model, dataset, evaluate_every_epoch=False, verbose=0, **plain).epochs[-1].loss


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        set_num_threads(threads)
        self.version = f"fastlenet {config()['version']}, {config()['level']} {variant}".strip()
        self.data, self.algorithm = data, variant or "direct"
        self.padding = int(data["padding"])

    def train(self, batch: int, images: int) -> float:
        model = network(self.padding, self.algorithm)
        model.load_state_dict({name: self.data[name] for name in model.state_dict()})
        return train_network(model, self.data, batch, images, LR)
